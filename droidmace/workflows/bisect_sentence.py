"""One sentence that a maintainer can act on."""

from __future__ import annotations

from collections.abc import Sequence

from droidmace.formats.netdef import MemoryType, NetDef
from droidmace.graphs.parts import describe
from droidmace.graphs.variants import memory_type
from droidmace.results import DeviceInfo
from droidmace.results.bisect import Cause, OpComparison, OutputComparison, Suspect, TensorError
from droidmace.validation.tensor_error import HALF_MAX
from droidmace.workflows.bisect_finding import Finding
from droidmace.workflows.bisect_verdict import KEPT, NO_WINOGRAD

_SHOWN_OTHERS = 3
_MEMORY_NAMES = {MemoryType.GPU_IMAGE: "images", MemoryType.GPU_BUFFER: "buffers"}


def sentence_of(finding: Finding, net: NetDef, device: DeviceInfo, *, half: bool) -> str:
    """What is wrong, where, how much, and with what it goes away."""
    gpu = device.gpu or device.model or device.serial
    where = f"on {gpu} in {'fp16' if half else 'fp32'} with {_MEMORY_NAMES[memory_type(net)]}"
    culprit = finding.culprit
    if not finding.wrong:
        return _nothing(finding, net, where)
    if finding.cause is Cause.ROUNDING:
        return (
            f"No op is wrong by itself {where}, but the rounding of {len(net.ops)} ops adds up: "
            f"{_outputs(finding.outputs)}; in fp32 the net agrees: use data_type fp32_fp32."
        )
    if any(one.name == KEPT and one.right for one in finding.suspects):
        return _overwritten(finding, where)
    if finding.cause is Cause.IN_NET or culprit is None:
        return _in_net(finding, net, where)
    return _wrong_op(finding, culprit, net, where) + _more(finding, culprit) + _not_in_net(finding)


def _wrong_op(finding: Finding, culprit: OpComparison, net: NetDef, where: str) -> str:
    op = _op(culprit, net)
    off = _off(culprit.error)
    if finding.cause is Cause.OVERFLOW:
        return (
            f"{op} overflows half precision {where}: {_overflow(culprit, finding.input_peak)}, "
            f"and {HALF_MAX:.0f} is the largest number there is: scale the model down, or use "
            "data_type fp32_fp32."
        )
    if finding.cause is Cause.WINOGRAD:
        return (
            f"{op} is wrong {where} when computed by Winograd's method ({off}), and right when "
            f"computed directly{_others(finding.suspects, NO_WINOGRAD)}: set winograd: 0."
        )
    if finding.cause is Cause.PRECISION:
        return f"{op} is too inexact {where} ({off}), and right in fp32: use data_type fp32_fp32."
    return f"{op} computes wrong values {where}: {off}{_others(finding.suspects)}."


def _not_in_net(finding: Finding) -> str:
    if finding.culprit is None or finding.culprit.name not in finding.on_cpu:
        return ""
    return " In the whole net MACE runs it on the CPU: the net's outputs do not show it."


def _op(op: OpComparison, net: NetDef) -> str:
    shape = "x".join(map(str, op.shape))
    return f"{op.what} {op.name!r} (op {op.index + 1} of {len(net.ops)}, output {shape})"


def _more(finding: Finding, culprit: OpComparison) -> str:
    others = [one for one in finding.ops if one.wrong and one.index != culprit.index]
    if not others:
        return ""
    names = ", ".join(f"{one.name!r} ({one.what})" for one in others[:_SHOWN_OTHERS])
    rest = f" and {len(others) - _SHOWN_OTHERS} more" if len(others) > _SHOWN_OTHERS else ""
    return f" Wrong by themselves, too: {names}{rest}."


def _off(error: TensorError) -> str:
    place = f"{error.worst_gpu:.6g} instead of {error.worst_cpu:.6g} at {list(error.worst_index)}"
    if error.lost:
        return f"{error.lost} of {error.elements} elements are no finite numbers, {place}"
    return (
        f"fed with the CPU's tensors it is off by {error.relative:.2%} "
        f"(SQNR {error.sqnr_db:.1f} dB), {place}"
    )


def _overflow(culprit: OpComparison, input_peak: float) -> str:
    if input_peak > HALF_MAX:
        return f"what it reads reaches {input_peak:.6g}"
    if culprit.error.overflowing:
        return f"its output reaches {culprit.error.cpu_peak:.6g}"
    return (
        f"{culprit.error.lost} of {culprit.error.elements} elements are no finite numbers; its "
        f"output stays below {culprit.error.cpu_peak:.6g}, its sums on the way do not"
    )


def _others(suspects: Sequence[Suspect], besides: str = "") -> str:
    """With what else the error goes away, and with what it does not."""
    tried = [one for one in suspects if one.error is not None and one.name != besides]
    right = [one.name for one in tried if one.right]
    wrong = [one.name for one in tried if not one.right]
    parts = [f"right {' and '.join(map(_in, right))}"] if right else []
    parts += [f"wrong {' and '.join(map(_in, wrong))} too"] if wrong else []
    return f" ({'; '.join(parts)})" if parts else ""


def _in(name: str) -> str:
    return f"in {name}" if name.startswith("fp") else name


def _outputs(outputs: Sequence[OutputComparison]) -> str:
    worst = max(outputs, key=lambda one: (one.error.lost, one.error.relative))
    error = worst.error
    lost = f"{error.lost} elements are no finite numbers, " if error.lost else ""
    return f"output {worst.name!r} is off by {error.relative:.2%} ({lost}cosine {error.cosine:.6f})"


def _nothing(finding: Finding, net: NetDef, where: str) -> str:
    judged = len(finding.on_gpu)
    if finding.cause is Cause.UNJUDGED:
        why = "MACE runs all of them on the CPU" if finding.ops else "none was looked at by itself"
        start = f"The ops are not judged {where}: {why}"
    else:
        start = (
            f"Nothing is wrong {where} with this sample: {judged} of {len(net.ops)} ops are right "
            f"by themselves{_on_cpu(finding)}"
        )
    return f"{start}, and {_outputs(finding.outputs)}."


def _on_cpu(finding: Finding) -> str:
    looked_at = {one.name for one in finding.ops}
    names = [repr(one.name) for one in finding.ops if one.on_cpu]
    names += map(repr, sorted(finding.on_cpu - looked_at))
    if not names:
        return ""
    rest = f" and {len(names) - _SHOWN_OTHERS} more" if len(names) > _SHOWN_OTHERS else ""
    return f" (MACE runs {', '.join(names[:_SHOWN_OTHERS])}{rest} on the CPU)"


def _in_net(finding: Finding, net: NetDef, where: str) -> str:
    first, last = finding.suspected
    start = (
        f"The net goes wrong {where} at {describe(net, last)} {net.ops[last].name!r} (op "
        f"{last + 1} of {len(net.ops)})"
        if first == last
        else f"The net goes wrong {where} between op {first + 1} and op {last + 1}"
    )
    return (
        f"{start}: {_outputs(finding.outputs)}, {_by_themselves(finding)}: look at what "
        "happens between ops (shared memory, fused kernels, a queue that is not waited for)."
    )


def _overwritten(finding: Finding, where: str) -> str:
    names = ", ".join(repr(one.name) for one in finding.outputs if one.differs)
    return (
        f"MACE overwrites {names} {where} before handing it out: {_outputs(finding.outputs)}, "
        f"{_by_themselves(finding)}, and the net is right if an op at its end reads its outputs. "
        "MACE gives their memory to later ops: let no other op read what is an output."
    )


def _by_themselves(finding: Finding) -> str:
    if not finding.on_gpu:
        return f"and none of the ops could be judged by itself{_on_cpu(finding)}"
    which = "every op" if len(finding.on_gpu) == len(finding.ops) else "every op on the GPU"
    return f"but {which} is right by itself{_on_cpu(finding)}"
