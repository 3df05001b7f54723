"""Finding out which tuning keys a model has on a phone, and in which ops' times they show."""

from __future__ import annotations

import contextlib
import posixpath
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from droidmace.errors import MaceRunCrashError, MaceRunError, MaceRunOutputError, MaceRunRetryError
from droidmace.formats.obfuscation import obfuscate_symbol, readable_symbol
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.macerun.events import OutputLine, ParametersApplied
from droidmace.macerun.invocation import CACHE_FILE_NAME
from droidmace.macerun.op_keys import OpKeyReader, group_keys, raw_keys
from droidmace.macerun.session import LineCallback
from droidmace.results import MaceRunResult, OpTime
from droidmace.tuning.journal import GroupFacts, KeyFacts
from droidmace.tuning.kernel_shapes import guess_keys, kernel_shape
from droidmace.tuning.search import Params
from droidmace.workflows.measure import PROVE_SOURCES_VLOG, make_folders
from droidmace.workflows.phone_tuner import ObfuscationWatch
from droidmace.workflows.search_bench import SearchTarget

_ROUNDS = 2
_MAX_WRONG_GUESSES = 8


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Keys of the parameter file by the ops that show them.

    ``entries``: those given that kernels really ran with, weight transforms included, by the key
    as it stands in a file; ``readable``: such a key as a log shows it. ``covered``: the share of
    all ops' time that the groups stand for. ``result``: the run that told.
    """

    groups: tuple[GroupFacts, ...]
    entries: Mapping[str, Params]
    readable: Mapping[str, str]
    covered: float
    result: MaceRunResult


def prepare_storage(target: SearchTarget, *, fresh: bool) -> None:
    """A storage folder for the search's processes, with the compiled program if there is one."""
    if fresh:
        target.device.remove(target.storage)
    make_folders(target.device, target.storage)
    here = shlex.quote(posixpath.join(target.storage, CACHE_FILE_NAME))
    tuned = shlex.quote(target.layout.compiled_program("tuned"))
    # Without one the first process builds it; nothing depends on the copy.
    target.device.run(f"[ -e {here} ] || cp {tuned} {here} 2>/dev/null || :")


def survey(target: SearchTarget) -> MaceRunResult:
    """An untuned process with a table of ops."""
    return target.session.run(replace(target.benchmark, rounds=_ROUNDS), timeout_s=target.timeout_s)


def map_keys(target: SearchTarget, entries: Mapping[str, Params]) -> KeyMap:
    """Run with ``entries`` (keys as in a file) and see which op runs which of them.

    Raises ``MaceRunError`` s; ``MaceRunOutputError`` also if the log tells nothing of it.
    """
    reader, watch = OpKeyReader(), ObfuscationWatch()

    def on_line(line: OutputLine) -> None:
        reader.line(line)
        watch.line(line)

    result = _run_with(target, entries, on_line)
    applied = raw_keys(result.applied, entries, obfuscated=watch.obfuscated)
    keys_by_op = {
        op: [applied[key] for key in keys if key in applied]
        for op, keys in reader.keys_by_op.items()
    }
    times = op_times(result.ops)
    found = group_keys(keys_by_op, list(times))
    groups = tuple(GroupFacts(one.ops[0], tuple(map(_facts, one.keys)), one.ops) for one in found)
    shown = sum(times[op] for group in groups for op in group.ops)
    total = sum(times.values())
    return KeyMap(
        groups=groups,
        entries={raw: entries[raw] for raw in applied.values()},
        readable={raw: key for key, raw in applied.items()},
        covered=shown / total if total else 0.0,
        result=result,
    )


def guess_entries(
    ops: Iterable[OpTime], known: Mapping[str, Params] | None = None
) -> dict[str, Params]:
    """What a parameter file may have for these ops, with sizes that any driver takes.

    Each key in both forms, plain and obfuscated: MACE passes over what no kernel asks for.
    ``known`` entries are kept as they are.
    """
    guessed: dict[str, Params] = {}
    for op in ops:
        for key in guess_keys(op.op_type, op.output_shape, op.filter_shape):
            shape = kernel_shape(key)
            if shape.axes:
                value = _small(shape.gws, shape.axes)
                guessed[key] = guessed[obfuscate_symbol(key)] = value
    return guessed | dict(known or {})


def prove_guesses(target: SearchTarget, entries: Mapping[str, Params]) -> KeyMap:
    """:func:`map_keys`, without the guesses that make the process fail.

    Raises ``MaceRunError`` s if it goes on failing.
    """
    left = dict(entries)
    for _ in range(_MAX_WRONG_GUESSES):
        last: list[str] = []

        def on_line(line: OutputLine, last: list[str] = last) -> None:
            if isinstance(line.event, ParametersApplied):
                last[:] = [line.event.key]

        try:
            return map_keys(target, left)
        except (MaceRunCrashError, MaceRunRetryError):
            # Through a terminal, so that a crash does not take the last key's line with it.
            with contextlib.suppress(MaceRunError):
                _run_with(target, left, on_line, pty=True)
            guilty = [raw for key in last for raw in (key, obfuscate_symbol(key)) if raw in left]
            if not guilty:
                raise
            for raw in guilty:
                del left[raw]
    raise MaceRunOutputError(
        "mace_run fails with every guess of its tuning keys",
        where=target.device.serial,
        hint="use --search deep, which asks the phone's own tuner",
    )


def _run_with(
    target: SearchTarget, entries: Mapping[str, Params], on_line: LineCallback, *, pty: bool = False
) -> MaceRunResult:
    path = posixpath.join(target.storage, "mapped_parameters")
    target.device.push(TunedParameters.build(entries).serialize(), path)
    return target.session.run(
        replace(
            target.benchmark,
            opencl_parameter_file=path,
            rounds=_ROUNDS,
            vlog_level=PROVE_SOURCES_VLOG,
        ),
        timeout_s=target.timeout_s,
        on_line=on_line,
        pty=pty,
    )


def op_times(ops: Iterable[OpTime]) -> dict[str, float]:
    """Milliseconds per inference by the ops' names; rows of one name are added up."""
    times: dict[str, float] = {}
    for op in ops:
        times[op.name] = times.get(op.name, 0.0) + op.avg_ms
    return times


def _facts(raw: str) -> KeyFacts:
    shape = kernel_shape(readable_symbol(raw))
    return KeyFacts(key=raw, kernel=shape.family, gws=shape.gws)


def _small(gws: tuple[int, ...], axes: int) -> Params:
    """A legal value on any device: at most 16 work-items."""
    if len(gws) != axes:
        return (*(1,) * axes, 0)
    return (*(min(size, 4) for size in gws[:2]), *(1,) * (axes - 2), 0)
