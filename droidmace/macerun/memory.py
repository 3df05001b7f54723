"""How much memory a ``mace_run`` process takes at most.

``device_scripts/memory.sh`` looks at ``/proc/PID/status`` while it runs. ``VmHWM`` is the process's
resident set at its largest: code, weights, buffers that are mapped into it. What a GPU's driver
keeps outside of the process is not part of it.
"""

from __future__ import annotations

import re

from droidmace.macerun.events import OutputLine
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.supervision import supervised_shell
from droidmace.resources import device_script

_LINE = re.compile(r"droidmace memory ([0-9]{1,12})\Z")


def memory_shell(invocation: Invocation) -> str:
    """A launcher: as usual, and watched. Not for a process whose time is measured."""
    return supervised_shell(
        invocation, wrapper=("sh", "-c", device_script("memory.sh"), "memory.sh")
    )


class MemoryReader:
    """Keeps the largest figure of the script's lines."""

    def __init__(self) -> None:
        self.peak_kib: int | None = None
        """None if no look came through."""

    def __call__(self, line: OutputLine) -> None:
        """Take a line of output, whatever it is."""
        match = _LINE.match(line.text.rstrip("\r"))
        if match is not None:
            self.peak_kib = max(self.peak_kib or 0, int(match[1]))
