"""How a ``mace_run`` process is started so that the host knows that it lives and how it ended.

``device_scripts/run.sh`` starts it and writes two kinds of marker: one every few seconds while the
process runs, one with its exit status when it ended. :class:`MarkerFilter` takes them out again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

from droidmace.macerun.invocation import Invocation
from droidmace.resources import device_script

Launcher = Callable[[Invocation], str]
"""Turns an invocation into the shell command line that is started on the device.

Whatever it is, it must write the markers that :class:`MarkerFilter` reads.
"""

# A control character that no log line holds, so that holding back a possible marker is rare.
_LEAD = b"\x1e"
_MARKER = re.compile(rb"\x1edroidmace (?:alive|end ([0-9]{1,3}))\r?\n")
_LONGEST_MARKER = len(b"\x1edroidmace end 134\r\n")


def supervised_shell(
    invocation: Invocation, *, deadline_s: int | None = None, wrapper: Sequence[str] = ()
) -> str:
    """The command line that hands ``run.sh`` to the device's shell, which needs no file for it.

    After ``deadline_s`` the device itself ends the process, for a connection that hangs.
    ``wrapper`` are words before the program's own; it must let the program take its place.
    """
    variables = [f"{name}={value}" for name, value in invocation.environment().items()]
    limit = [] if deadline_s is None else ["-t", str(deadline_s)]
    words = [
        "sh",
        "-c",
        device_script("run.sh"),
        "run.sh",
        *limit,
        invocation.cwd,
        *variables,
        "--",
    ]
    return shlex.join([*words, *wrapper, *invocation.argv()])


class MarkerFilter:
    """Takes the markers out of a byte stream, wherever they fall and however they are cut."""

    def __init__(self) -> None:
        self._held = b""
        self.exit_status: int | None = None
        """What the end marker said: the shell's ``$?``, so 128 and more is a signal."""

    def feed(self, data: bytes) -> bytes:
        """Take more bytes; return those that are the process's own."""
        data = _MARKER.sub(self._marker, self._held + data)
        lead = data.rfind(_LEAD)
        if lead >= 0 and len(data) - lead < _LONGEST_MARKER:
            self._held = data[lead:]
            return data[:lead]
        self._held = b""
        return data

    def finish(self) -> bytes:
        """The stream ended: return what was held back."""
        held, self._held = self._held, b""
        return held

    def _marker(self, match: re.Match[bytes]) -> bytes:
        if match[1] is not None:
            self.exit_status = int(match[1])
        return b""
