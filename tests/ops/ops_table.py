"""Outcomes as the Markdown of ``docs/ops.md``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence

import onnx
from case_runner import NO_SUCH_OP, REFUSED, RIGHT, Outcome
from onnx_cases import LARGE, LIGHT

from droidmace.convert.lower import REFUSED as REFUSED_OPS
from droidmace.convert.lower import SUPPORTED
from droidmace.convert.onnx_file import MAX_OPSET, MIN_OPSET

RUNTIMES = ("gpu", "cpu")
_MOST_REASONS = 4
_INTRODUCTION = """\
# ONNX ops

What `droidmace convert` makes of each ONNX op, and whether the engine then computes what ONNX says.
Every line is measured, none is written by hand: the node test cases of the `onnx` package
({version}) with float32 inputs, at opset {oldest} to {newest}, are converted for each runtime, run,
and compared with the outputs that the package gives, or with onnxruntime's where those differ
(relative error at most 1e-3). On the GPU activations lie in images, under Intel's OpenCL driver. A
case that is no image is put between images, as it stands in a net.

`tests/ops/test_ops_table.py` runs all of it and fails if a line is no longer true;
`DROIDMACE_WRITE_OPS=1 pytest tests/ops` writes this file anew.

* *becomes*: the MACE ops that it can become; none where it only changes how a tensor is read, or is
  folded into its neighbours. *(on the CPU)*: MACE's GPU runtime has it not; in the middle of a net
  for the GPU it runs on the CPU.
* *converts*: cases that become a MACE model, for at least one runtime, of all cases of the op.
* *gpu*, *cpu*: cases with the right result there.
* *limits*: what is refused and why, the most frequent first with how many cases it meets, and the
  runtime if it is one alone. *Constant*: inputs that must be stored in the model.

Ops in **bold** are those of the nets in `examples/nets` and of the `light` models.

A case tries an op's corners (odd axes, ranks, types); a net from an exporter seldom does. MACE's
tensors are float32 images of four axes, so much of what is refused has no place there.
"""


def render(
    outcomes: Sequence[Outcome],
    not_float: Iterable[str],
    too_new: Iterable[str],
    used: Container[str],
) -> str:
    """The whole file; ``used`` are the ops that stand out."""
    by_op: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_op[outcome.op].append(outcome)
    light = by_op.pop(LIGHT, [])
    some = {op: found for op, found in sorted(by_op.items()) if op in SUPPORTED}
    none = {op: found for op, found in sorted(by_op.items()) if op not in SUPPORTED}
    parts = [
        _INTRODUCTION.format(version=onnx.__version__, oldest=MIN_OPSET, newest=MAX_OPSET),
        "## Converted\n",
        "| op | becomes | cases | converts | gpu | cpu | limits |",
        "|---|---|---:|---:|---:|---:|---|",
        *(_row(op, found, bold=op in used) for op, found in some.items()),
        "\n## Refused\n",
        "| op | why |",
        "|---|---|",
        *_refused_rows(none),
        "\n## Not tried\n",
        "Ops without a case of float32; MACE computes with little else: "
        + ", ".join(sorted(not_float))
        + ".\n",
        f"Ops that came after opset {MAX_OPSET}: " + ", ".join(sorted(too_new)) + ".",
        "\n## Whole nets\n",
        "The `light` models of the `onnx` package with random weights, against onnxruntime on a"
        " random input.\n",
        "| net | gpu | cpu |",
        "|---|---|---|",
        *light_rows(light),
    ]
    return "\n".join(parts) + "\n"


def light_rows(outcomes: Sequence[Outcome]) -> list[str]:
    """One row per whole net."""
    nets: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for outcome in outcomes:
        nets[outcome.case][outcome.runtime] = outcome
    return [
        f"| {name} | " + " | ".join(_word(found[runtime]) for runtime in RUNTIMES) + " |"
        for name, found in sorted(nets.items())
    ]


def without_large(text: str) -> str:
    """The file without the rows of the nets that are only run when asked for."""
    rows = tuple(f"| {name} |" for name in LARGE)
    return "\n".join(line for line in text.split("\n") if not line.startswith(rows))


def _word(outcome: Outcome) -> str:
    if outcome.verdict == RIGHT:
        return "right"
    return f"{outcome.verdict}: {_reason(outcome)}"


def _row(op: str, found: list[Outcome], *, bold: bool) -> str:
    right = {
        runtime: sum(one.verdict == RIGHT for one in found if one.runtime == runtime)
        for runtime in RUNTIMES
    }
    converted = {one.case for one in found if _converts(one)}
    support = SUPPORTED[op]
    becomes = ", ".join(support.mace_ops) + ("" if support.gpu else " (on the CPU)")
    name = f"**{op}**" if bold else op
    columns = [name, becomes, _cases(found), len(converted), *right.values(), _limits(found)]
    return "| " + " | ".join(map(str, columns)) + " |"


def _refused_rows(ops: Mapping[str, list[Outcome]]) -> list[str]:
    """Ops with the same reason together."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for op, found in ops.items():
        unknown = any(one.reason.endswith(NO_SUCH_OP) for one in found)
        why = REFUSED_OPS.get(op, "MACE has no such op") if unknown else _limits(found)
        by_reason[why].append(op)
    return [f"| {', '.join(names)} | {why} |" for why, names in sorted(by_reason.items())]


def _converts(outcome: Outcome) -> bool:
    return outcome.verdict != REFUSED


def _cases(found: list[Outcome]) -> int:
    return len({one.case for one in found})


def _limits(found: list[Outcome]) -> str:
    """Refusals with how many cases they meet, and what must be constant."""
    alike: dict[str, list[Outcome]] = defaultdict(list)
    for one in found:
        if one.verdict == REFUSED:
            alike[_kind(one)].append(one)
    ranked = sorted(alike.values(), key=lambda ones: (-_cases(ones), _kind(ones[0])))
    parts = []
    if constants := _constants(found):
        parts.append("constant: " + ", ".join(f"`{name}`" for name in constants))
    for ones in ranked[:_MOST_REASONS]:
        runtimes = {one.runtime for one in ones}
        where = "" if len(runtimes) == len(RUNTIMES) else f", {min(runtimes)}"
        parts.append(f"{_reason(ones[0])} ({_cases(ones)}{where})")
    if len(ranked) > _MOST_REASONS:
        parts.append("…")
    return "; ".join(parts)


def _constants(found: list[Outcome]) -> list[str]:
    """Inputs that were constants in every case that converts, where there were any."""
    sets = [set(one.constants) for one in found if _converts(one)]
    return sorted(set.intersection(*sets)) if sets else []


def _reason(outcome: Outcome) -> str:
    """A refusal without the node's name."""
    text = re.sub(r"^\w+ node '[^']*': ", "", outcome.reason)
    text = re.sub(r"\[ShapeInferenceError\] |Inference error\(s\): |\(op_type:[^)]*\): ", "", text)
    return text.replace("|", "\\|").replace("\n", " ")


def _kind(outcome: Outcome) -> str:
    """What refusals that differ in names and numbers alone have in common."""
    return re.sub(r"'[^']*'|[\d, ]*\d", "…", _reason(outcome))
