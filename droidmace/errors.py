"""The one error tree. Every failure a user can meet is one of these.

DroidmaceError                what happened, where, and how to fix it
├── InputError                what the user gave is wrong
│   ├── ConfigError           a YAML file: file, key path, what was expected
│   ├── FormatError           an artefact or model file: file, byte offset, what was wrong
│   ├── ModelError            a model that cannot be converted or run: names the node and the op
│   └── MissingExtraError     an optional Python package that this command needs
├── DeviceError               a phone or the way to it: serial, command, exit code, its own output
│   ├── AdbUnavailableError   no adb program, or no adb server
│   ├── DeviceNotFoundError   no phone of that serial; lists those there are
│   ├── DeviceUnusableError   offline, unauthorized, …
│   ├── DeviceLostError       it was there and went away (unplugged, killed)
│   ├── DeviceTimeoutError    it stopped answering
│   ├── DeviceStorageError    no space left on it, or a file cannot be written
│   ├── DeviceBusyError       another run holds the phone's lock
│   └── PreflightError        it cannot run this: abi, OpenCL library, battery, temperature
├── MaceRunError              mace_run itself: its last lines
│   ├── MaceRunCrashError     a signal or an abort
│   ├── MaceRunRetryError     it retries for ever; was stopped
│   └── MaceRunOutputError    no result table; an output file missing or of the wrong size
├── EngineError               our engine: no OpenCL driver, a kernel that does not build
└── EmulatorError             an emulated phone cannot be started or reached

Adapters translate foreign exceptions into these, ``from exc``, and nothing else does.
A failed check is not an exception: it is a value in :mod:`droidmace.results`.
"""

from __future__ import annotations

from typing import Any

EXIT_FAILED = 1
"""Exit code when the work was understood but part of it failed (one phone of ``--all``)."""
EXIT_ERROR = 2
"""Exit code of every error in this module."""


class DroidmaceError(Exception):
    """What happened, where it happened, and how to fix it.

    ``message`` is one sentence; ``where`` names the file, key, offset or serial; ``hint`` is the
    fix; ``details`` holds raw material (a device's own last lines), shown below the error.
    ``phase`` is set by a workflow to the phase in which it happened.
    """

    exit_code = EXIT_ERROR
    phase: str | None = None

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        details: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between the processes of several phones. An exception is rebuilt by calling
        # its class with ``args``, which is not what every class here is called with.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(
    kind: type[DroidmaceError], args: tuple[Any, ...], state: dict[str, Any]
) -> DroidmaceError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InputError(DroidmaceError):
    """What the user gave is wrong."""


class ConfigError(InputError):
    """A YAML file: wrong key, type or value, or a missing file; ``where`` has file and line."""


class FormatError(InputError):
    """An artefact or model file is not what it should be.

    ``offset`` is the byte offset at which that was noticed, when there is one.
    """

    def __init__(
        self,
        message: str,
        *,
        offset: int | None = None,
        where: str | None = None,
        hint: str | None = None,
        details: str | None = None,
    ) -> None:
        text = message if offset is None else f"{message} (at byte offset {offset})"
        super().__init__(text, where=where, hint=hint, details=details)
        self.offset = offset


class ModelError(InputError):
    """A model cannot be converted or run; the message names the node and the op."""


class MissingExtraError(InputError):
    """An optional package is not installed; the hint is the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the Python package {package!r}, which is not installed",
            hint=f"pip install 'droidmace[{extra}]'",
        )
        self.package = package
        self.extra = extra


class DeviceError(DroidmaceError):
    """A phone, or the way to it, failed.

    Keeps what a person needs to see: the serial, the command, its exit code and its own output.
    """

    def __init__(
        self,
        message: str,
        *,
        serial: str | None = None,
        command: str | None = None,
        exit_code: int | None = None,
        stdout: str = "",
        stderr: str = "",
        where: str | None = None,
        hint: str | None = None,
        details: str | None = None,
    ) -> None:
        if details is None:
            details = "\n".join(part for part in (stdout.strip(), stderr.strip()) if part) or None
        super().__init__(message, where=where or serial, hint=hint, details=details)
        self.serial = serial
        self.command = command
        self.remote_exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class AdbUnavailableError(DeviceError):
    """No adb program was found, or its server does not answer."""


class DeviceNotFoundError(DeviceError):
    """No phone of that serial is connected; the hint lists those that are."""


class DeviceUnusableError(DeviceError):
    """The phone is listed but in a state that allows nothing (offline, unauthorized, …)."""


class DeviceLostError(DeviceError):
    """The phone was there and went away: unplugged, switched off, killed."""


class DeviceTimeoutError(DeviceError):
    """The phone, or a command on it, did not answer within its deadline."""


class DeviceStorageError(DeviceError):
    """No space is left on the phone, or a path on it cannot be written."""


class DeviceBusyError(DeviceError):
    """Another run holds the phone's lock."""


class PreflightError(DeviceError):
    """The phone cannot run this: abi, OpenCL library, battery, temperature."""


class MaceRunError(DroidmaceError):
    """``mace_run`` failed; ``details`` holds its last lines."""


class MaceRunCrashError(MaceRunError):
    """``mace_run`` was ended by a signal or aborted."""


class MaceRunRetryError(MaceRunError):
    """``mace_run`` retried the same failing step for ever and was stopped."""


class MaceRunOutputError(MaceRunError):
    """``mace_run`` ended without its result table, or an output is missing or of the wrong size."""


class EngineError(DroidmaceError):
    """The engine cannot run: no OpenCL driver, a kernel that does not build."""


class EmulatorError(DroidmaceError):
    """An emulated phone cannot be started, reached or stopped."""
