"""What can be made to go wrong with a phone, as far as its host can see.

A fault comes over the control channel as a JSON object with a ``kind``:

``unplug``        the cable goes. One of ``now`` (true), ``after_bytes`` (that many more payload
                  bytes, in either direction), ``on_command`` (a shell command whose line contains
                  this text starts); the last may add ``delay_s``. ``refuse`` (true) or
                  ``refuse_s`` (seconds): it stays out, reconnecting hosts are turned away.
``unauthorized``  the user never allows this computer: no signature is accepted.
``offline``       the phone accepts connections and does not introduce itself.
``freeze``        the phone stops answering; connections stay.
``link``          the cable carries ``bytes_per_s``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from droidmace.emulator.adbd.errors import FaultError


@dataclass(frozen=True, slots=True)
class Unplug:
    """The cable goes, at once or when something happens; see the module's docstring."""

    after_bytes: int | None = None
    on_command: str | None = None
    delay_s: float = 0.0
    refuse_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """No host is let in."""


@dataclass(frozen=True, slots=True)
class Offline:
    """The phone does not introduce itself."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """The phone stops answering."""


@dataclass(frozen=True, slots=True)
class SlowLink:
    """The cable carries so many bytes a second."""

    bytes_per_s: float


Fault = Unplug | Unauthorized | Offline | Freeze | SlowLink

_LARGEST = 1e15
"""More than any fault needs, and still a whole number of bytes or nanoseconds."""
_KEYS = {
    "unplug": {"now", "after_bytes", "on_command", "delay_s", "refuse", "refuse_s"},
    "unauthorized": set[str](),
    "offline": set[str](),
    "freeze": set[str](),
    "link": {"bytes_per_s"},
}


def parse_fault(value: object) -> Fault:
    """Read a fault. Raises ``FaultError`` that names the key."""
    if not isinstance(value, Mapping):
        raise FaultError("a fault is a JSON object")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise FaultError(f"unknown kind of fault {kind!r}; known are {', '.join(_KEYS)}")
    unknown = set(value) - _KEYS[kind] - {"kind"}
    if unknown:
        raise FaultError(f"a fault {kind!r} has no key {sorted(map(str, unknown))[0]!r}")
    match kind:
        case "unauthorized":
            return Unauthorized()
        case "offline":
            return Offline()
        case "freeze":
            return Freeze()
        case "link":
            return SlowLink(_number(value, "bytes_per_s", minimum=1.0))
        case _:
            return _parse_unplug(value)


def _parse_unplug(value: Mapping[str, object]) -> Unplug:
    triggers = [key for key in ("now", "after_bytes", "on_command") if key in value]
    if len(triggers) != 1:
        raise FaultError("an unplug has exactly one of now, after_bytes, on_command")
    if "now" in value and value["now"] is not True:
        raise FaultError("now is true or absent")
    text = value.get("on_command")
    if text is not None and (not isinstance(text, str) or not text):
        raise FaultError("on_command is a text that is not empty")
    refuse_s = _number(value, "refuse_s", default=0.0)
    if value.get("refuse", False) is True:
        refuse_s = float("inf")
    elif value.get("refuse", False) is not False:
        raise FaultError("refuse is true or false")
    return Unplug(
        after_bytes=int(_number(value, "after_bytes")) if "after_bytes" in value else None,
        on_command=text,
        delay_s=_number(value, "delay_s", default=0.0),
        refuse_s=refuse_s,
    )


def _number(
    value: Mapping[str, object], key: str, *, minimum: float = 0.0, default: float | None = None
) -> float:
    number = value.get(key, default)
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, float))
        or not minimum <= number <= _LARGEST
    ):
        raise FaultError(f"{key} is a number of at least {minimum:g}")
    return float(number)


class FaultState:
    """The faults in force. It decides; whoever holds the connections acts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused_until_s = 0.0
        self._waiting_bytes: Unplug | None = None
        self._bytes_left = 0
        self._waiting_command: Unplug | None = None
        self.unauthorized = False
        self.offline = False
        self.frozen = False

    def arm(self, fault: Unplug) -> None:
        """Let an unplug wait for its bytes or its command."""
        if fault.after_bytes is not None:
            self._waiting_bytes, self._bytes_left = fault, fault.after_bytes
        if fault.on_command is not None:
            self._waiting_command = fault

    def clear(self) -> None:
        """No faults any more."""
        self._refused_until_s = 0.0
        self._waiting_bytes = self._waiting_command = None
        self.unauthorized = self.offline = self.frozen = False

    def refuse_for(self, duration_s: float) -> None:
        """Turn hosts away for so long."""
        self._refused_until_s = self._clock() + duration_s

    @property
    def refuses(self) -> bool:
        """Whether a host that connects now is turned away."""
        return self._clock() < self._refused_until_s

    def take(self, byte_count: int) -> tuple[int, Unplug | None]:
        """Account for payload bytes: how many still pass, and the unplug that is now due."""
        if self._waiting_bytes is None:
            return byte_count, None
        passing = min(byte_count, self._bytes_left)
        self._bytes_left -= passing
        if self._bytes_left > 0:
            return passing, None
        due, self._waiting_bytes = self._waiting_bytes, None
        return passing, due

    def command_started(self, command: str) -> Unplug | None:
        """The unplug that waited for this command line, if any."""
        fault = self._waiting_command
        if fault is None or fault.on_command is None or fault.on_command not in command:
            return None
        self._waiting_command = None
        return fault
