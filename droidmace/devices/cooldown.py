"""Waiting until a phone is cool enough to be measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from droidmace.devices.base import Device
from droidmace.devices.phone_script import script_command, script_lines
from droidmace.devices.probe import clean_text
from droidmace.errors import DeviceError

SETTLED_S = 30
"""A phone that cools by less than half a degree in this time does not get cooler."""

_LINE = re.compile(r"([0-9]{1,12}\.[0-9]{2}) (-?[0-9]{1,6})(?: (.*))?")
_END = re.compile(r"end ([a-z]{1,16})")
_MARGIN_S = 30.0

CoolDownEnd = Literal["cool", "settled", "time", "blind"]


@dataclass(frozen=True, slots=True)
class CoolDownStep:
    """How hot the hottest zone on the chip is, and how long it was waited for so far."""

    waited_s: float
    hottest_c: float
    zone: str


@dataclass(frozen=True, slots=True)
class CoolDown:
    """How a wait ended: ``cool`` enough, ``settled`` above the limit, out of ``time``, or ``blind``
    (the phone shows no such temperature; ``first`` and ``last`` are None then).
    """

    end: CoolDownEnd
    first: CoolDownStep | None = None
    last: CoolDownStep | None = None

    @property
    def waited_s(self) -> float:
        """How long it took."""
        return self.last.waited_s if self.last is not None else 0.0


def cool_down(
    device: Device,
    limit_c: float,
    timeout_s: float,
    progress: Callable[[CoolDownStep], None] | None = None,
    *,
    settled_s: int = SETTLED_S,
) -> CoolDown:
    """Wait until the hottest zone on the chip is at or below ``limit_c``, or falls no more.

    ``progress`` hears of it at once and then once a second. A phone that is still too hot is a
    result, not an error; raises ``DeviceError``s when the phone or the way to it fails.
    """
    command = script_command(
        "cooldown.sh", str(round(limit_c * 1000)), str(max(0, round(timeout_s))), str(settled_s)
    )
    first: CoolDownStep | None = None
    last: CoolDownStep | None = None
    start_s = 0.0
    with device.start(command, timeout_s=timeout_s + _MARGIN_S) as process:
        for line in script_lines(process):
            if match := _END.fullmatch(line):
                for end in get_args(CoolDownEnd):
                    if match[1] == end:
                        return CoolDown(end, first, last)
            if match := _LINE.fullmatch(line):
                uptime_s = float(match[1])
                start_s = start_s if first is not None else uptime_s
                last = CoolDownStep(
                    max(0.0, uptime_s - start_s), int(match[2]) / 1000, clean_text(match[3] or "")
                )
                first = first or last
                if progress is not None:
                    progress(last)
        raise DeviceError(
            f"the cool-down script did not come to its end (exit code {process.exit_code})",
            serial=device.serial,
            exit_code=process.exit_code,
        )
