"""Keeping a phone's clocks up while something is measured, where the phone permits it.

``device_scripts/governor.sh`` sets the CPU's and the GPU's frequency governors to ``performance``
and puts the old ones back: at the end, when the connection or this computer is gone, and, where
even its watchdog was killed, at the next start. Few phones permit it without root.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from droidmace.devices.base import Device
from droidmace.devices.phone_script import ScriptRun, script_command
from droidmace.devices.probe import clean_text
from droidmace.devices.remote_paths import PHONE_ROOT, checked_path
from droidmace.errors import DeviceError

STATE_PATH = f"{PHONE_ROOT}/mace_run.governors"
"""The old values, on the phone, while they are not in force."""
HOLD_S = 4 * 3600
"""The phone itself puts them back after this long."""

_READY_TIMEOUT_S = 60.0
_RESTORE_TIMEOUT_S = 60.0
_MAX_GOVERNORS = 64
_PINNED = re.compile(r"pinned (/\S{1,256}) (\S{1,64})")
_KEPT = re.compile(r"kept (/\S{1,256}|-) (\S{1,64}) (.{1,256})")


@dataclass(frozen=True, slots=True)
class Governor:
    """A frequency governor: its file on the phone, what it was set to, why it was left alone."""

    path: str
    before: str
    reason: str = ""


class PinnedGovernors:
    """Pins what may be pinned from ``with`` to its end. Nothing permitted is no failure.

    ``pinned`` and ``kept`` tell what was done; ``note`` says it in a line for people. ``restored``
    is None until the end, and False if the phone did not confirm that the old values are in force
    (the phone goes on trying by itself).
    """

    def __init__(self, device: Device, *, state: str = STATE_PATH, hold_s: int = HOLD_S) -> None:
        self._device = device
        self._state = checked_path(state)
        self._hold_s = hold_s
        self._run: ScriptRun | None = None
        self._ready = threading.Event()
        self._kept: list[Governor] = []
        self._pinned: list[Governor] = []
        self._end: str | None = None
        self._failure: str | None = None
        self.recovered = False
        """Whether an earlier hold's values had to be put back first."""
        self.restored: bool | None = None

    @property
    def pinned(self) -> tuple[Governor, ...]:
        """Those that are at ``performance`` and were not before."""
        return tuple(self._pinned)

    @property
    def kept(self) -> tuple[Governor, ...]:
        """Those that were left alone, with the reason."""
        return tuple(self._kept)

    @property
    def note(self) -> str:
        """What was done, in a line."""
        if self._failure is not None:
            return f"governors were left alone: {self._failure}"
        parts = [f"{len(self._pinned)} governors pinned"] if self._pinned else []
        if not self._pinned and not self._kept:
            parts.append("the phone shows no governors")
        for reason in dict.fromkeys(one.reason for one in self._kept):
            count = sum(one.reason == reason for one in self._kept)
            parts.append(f"{count} left alone: {reason}")
        if self.recovered:
            parts.append("those of an earlier run were put back first")
        if self.restored is False:
            parts.append("the phone has not confirmed that they are back")
        return "; ".join(parts)

    def __enter__(self) -> Self:
        try:
            self._run = ScriptRun(
                self._device,
                "governor.sh",
                "hold",
                self._state,
                str(self._hold_s),
                timeout_s=self._hold_s + _READY_TIMEOUT_S,
                on_line=self._take,
                on_end=self._ready.set,
            )
        except DeviceError as error:
            self._failure = error.message
            return self
        run = self._run
        try:
            if not self._ready.wait(_READY_TIMEOUT_S):
                self._failure = "the phone did not answer"
            elif run.error is not None:
                self._failure = run.error.message
        except BaseException:
            run.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run, self._run = self._run, None
        if run is not None:
            # Through su each file takes a while.
            run.stop(_RESTORE_TIMEOUT_S)
            self.restored = self._end == "restored"

    def _take(self, line: str) -> None:
        if match := _PINNED.fullmatch(line):
            _append(self._pinned, Governor(clean_text(match[1]), clean_text(match[2])))
        elif match := _KEPT.fullmatch(line):
            reason = clean_text(match[3])
            _append(self._kept, Governor(clean_text(match[1]), clean_text(match[2]), reason))
        elif line == "recovered":
            self.recovered = True
        elif line == "ready":
            self._ready.set()
        elif line in ("restored", "failed"):
            self._end = line


def pinned_governors(
    device: Device, *, state: str = STATE_PATH, hold_s: int = HOLD_S
) -> PinnedGovernors:
    """A context manager that pins what ``device`` permits; it says what in its ``note``."""
    return PinnedGovernors(device, state=state, hold_s=hold_s)


def restore_governors(device: Device, *, state: str = STATE_PATH) -> bool:
    """Put back what a killed run has left behind; True unless values are left as they are.

    Nothing to do is fine. Raises ``DeviceError``s.
    """
    result = device.run(
        script_command("governor.sh", "restore", checked_path(state)), timeout_s=_RESTORE_TIMEOUT_S
    )
    return result.exit_code == 0


def _append(governors: list[Governor], governor: Governor) -> None:
    if len(governors) < _MAX_GOVERNORS:
        governors.append(governor)
