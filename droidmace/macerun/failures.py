"""From what a process printed and how it ended to one clear error."""

from __future__ import annotations

import re
from collections.abc import Sequence

from droidmace.errors import (
    DeviceLostError,
    DroidmaceError,
    MaceRunCrashError,
    MaceRunError,
    MaceRunOutputError,
    MaceRunRetryError,
)
from droidmace.macerun.events import RetryNoticed, RetryStep
from droidmace.macerun.output import OutputParser

_SIGNAL_BASE = 128
# Linux's numbers on arm and x86: the device's, not the host's.
_SIGNAL_NAMES = {
    1: "SIGHUP",
    2: "SIGINT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    13: "SIGPIPE",
    15: "SIGTERM",
    31: "SIGSYS",
}
_LAST_SIGNAL = 64
# Ends of the process's own making: it will do the same again. SIGKILL, SIGTERM, SIGHUP come from
# outside (the low-memory killer, a person), and a second run would tell nothing about them.
_OWN_SIGNALS = {4, 5, 6, 7, 8, 11, 31}
_SIGKILL = 9
_STOP_SIGNALS = {1, 2, 15}

_CANNOT_EXECUTE = 126
_NOT_FOUND = 127
_REASONS_SHOWN = 3
_PROBLEMS_SHOWN = 5

_STEP_NAMES = {
    RetryStep.CREATE_ENGINE: "creating the engine",
    RetryStep.WARM_UP: "the warm-up run",
    RetryStep.RUN: "running the model",
}

_LOADER = re.compile(r"CANNOT LINK EXECUTABLE|error while loading shared libraries")
_OTHER_ABI = re.compile(r"Exec format error|not executable: \d+-bit|cannot execute binary file")


def signal_of(status: int) -> int | None:
    """The signal that a shell's exit status tells of (128 plus its number), or None."""
    return status - _SIGNAL_BASE if 0 < status - _SIGNAL_BASE <= _LAST_SIGNAL else None


def crashed_by_itself(status: int) -> bool:
    """Whether the process would most likely end like this again if repeated."""
    return signal_of(status) in _OWN_SIGNALS


def not_started(parser: OutputParser, status: int, serial: str) -> MaceRunError | None:
    """The error if the binary did not run at all, or not with these flags; else None."""
    tail = parser.tail()
    if parser.unknown_flag is not None:
        return MaceRunError(
            f"mace_run does not know the flag --{parser.unknown_flag}",
            where=serial,
            hint="the binary may be of another MACE version: use one of v1.0.3 or later",
            details=tail,
        )
    if parser.flag_error is not None:
        return MaceRunError(
            f"mace_run refused its command line: {parser.flag_error}",
            where=serial,
            hint="the binary may be of another MACE version",
            details=tail,
        )
    if parser.last_log is not None:
        return None
    if library := _LOADER.search(tail):
        return MaceRunError(
            "mace_run cannot be loaded: a shared library is missing or does not fit",
            where=serial,
            hint="put the library that is named below beside the mace_run binary on the host",
            details=tail[library.start() :],
        )
    if status == _NOT_FOUND:
        return MaceRunError(
            "mace_run, or the loader it names, is not on the device",
            where=serial,
            hint="give a binary built for this device's abi",
            details=tail or None,
        )
    if status == _CANNOT_EXECUTE or _OTHER_ABI.search(tail):
        return MaceRunError(
            "mace_run cannot be executed on this device",
            where=serial,
            hint="give an executable built for this device's abi",
            details=tail or None,
        )
    return None


def cut_off(shell_status: int, parser: OutputParser, serial: str) -> DroidmaceError:
    """The error for output that ends without the end marker: its shell ended first."""
    details = parser.tail() or None
    if signal_of(shell_status) in _STOP_SIGNALS:
        return MaceRunError(
            "mace_run was stopped before it ended",
            where=serial,
            hint="someone asked for that, on this computer or on the device: start again",
            details=details,
        )
    return DeviceLostError(
        f"the shell on the device ended before mace_run did, with status {shell_status}",
        serial=serial,
        exit_code=shell_status,
        hint="reconnect the device and check that it is not low on memory",
        details=details,
    )


def crash(
    status: int, *, first: OutputParser, second: OutputParser, recovery: str, serial: str
) -> MaceRunCrashError:
    """The error for a signal or an abort.

    ``first`` is what the crashed run printed; ``second`` the log read again through a terminal
    (``first`` itself if that was not needed), and ``recovery`` a sentence on how that went.
    """
    said = first.fatal or second.fatal
    message = f"mace_run {_how_it_ended(status)}"
    if said:
        message += f": {said[0]}"
    parts = [first.tail()] if not recovery else [second.tail(), f"({recovery})"]
    return MaceRunCrashError(
        message,
        where=serial,
        hint=_crash_hint(status, said),
        details="\n".join(part for part in parts if part) or None,
    )


def endless_retry(retry: RetryNoticed, parser: OutputParser, serial: str) -> MaceRunRetryError:
    """The error for a step that fails again and again; its reason comes from the log."""
    reasons = list(parser.retry_complaints[-_REASONS_SHOWN:])
    if retry.error_code and retry.error_code not in reasons:
        reasons.append(retry.error_code)
    times = "once" if retry.count == 1 else f"{retry.count} times"
    text = " ".join((*reasons, parser.tail()))
    return MaceRunRetryError(
        f"mace_run failed {times} at {_STEP_NAMES[retry.step]} and would retry for ever: "
        + ("; ".join(reasons) or "it gave no reason"),
        where=serial,
        hint=_retry_hint(text),
        details=parser.tail(),
    )


def no_table(parser: OutputParser, serial: str) -> MaceRunOutputError:
    """The error for a run that ended in peace but without its result table."""
    last = parser.last_log.text.strip() if parser.last_log else ""
    return MaceRunOutputError(
        "mace_run ended without its result table" + (f"; its last line: {last}" if last else ""),
        where=serial,
        hint="its exit status says nothing; look at its last lines: names, shapes and model files",
        details=parser.tail() or None,
    )


def bad_outputs(
    problems: Sequence[str], wrong: int, expected: int, parser: OutputParser, serial: str
) -> MaceRunOutputError:
    """The error for outputs of which ``wrong`` are missing or of the wrong size, or other problems.

    ``problems`` has a sentence for each, and may have some on files that nobody asked for.
    """
    if wrong <= 1:
        message = f"mace_run's output {problems[0]}"
    else:
        message = f"{wrong} of {expected} outputs of mace_run are wrong: {problems[0]}"
    shown = list(problems[:_PROBLEMS_SHOWN])
    if len(problems) > _PROBLEMS_SHOWN:
        shown.append(f"… and {len(problems) - _PROBLEMS_SHOWN} more")
    return MaceRunOutputError(
        message,
        where=serial,
        hint="check output names and shapes against the model, and the free space on the device",
        details="\n".join((parser.tail(), *shown)),
    )


def _how_it_ended(status: int) -> str:
    number = signal_of(status)
    if number is None:
        return "aborted"
    name = _SIGNAL_NAMES.get(number, f"signal {number}")
    return f"aborted ({name})" if name == "SIGABRT" else f"was ended by {name}"


def _crash_hint(status: int, said: Sequence[str]) -> str:
    if signal_of(status) == _SIGKILL:
        return "something killed it: most often the device is low on memory"
    if any("Store OPENCL compiled kernel" in line for line in said):
        return "the storage folder must exist on the device and be writable"
    if said:
        return "the line that begins with F says what it could not do"
    return (
        "the OpenCL driver may crash on a stored program: run without the compiled program, and "
        "ship tuned parameters only if that works"
    )


def _retry_hint(text: str) -> str:
    lowered = text.lower()
    if "out of resources" in lowered or "out_of_resources" in lowered:
        return "the device is out of memory, or a program is too large for its driver"
    if "opencl" in lowered and ("load" in lowered or "library" in lowered):
        return "the device offers no OpenCL library that mace_run can load"
    if "invalid_binary" in lowered:
        return "the compiled program is another device's or driver's: remove it and tune again"
    return "see its last lines: an unsupported op, no OpenCL library, or out of memory"
