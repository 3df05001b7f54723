"""How a ``mace_run`` process is started so that the host knows that it lives and how it ended.

The command line that runs on the device writes two kinds of marker to standard error (to standard
output where a terminal merges them): one every few seconds while the process runs, one with its
exit status when it ended. A stream that ends without the second was cut off, whatever the
transport says; and a heartbeat that can no longer be written means that the host is gone, upon
which the process is killed: ``mace_run`` itself would go on for as long as it prints nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from droidmace.macerun.invocation import Invocation

HEARTBEAT_S = 2

Launcher = Callable[[Invocation], str]
"""Turns an invocation into the shell command line that is started on the device.

Whatever it is, it must write the markers that :class:`MarkerFilter` reads.
"""

# A control character that no log line holds, so that holding back a possible marker is rare.
_LEAD = b"\x1e"
_MARKER = re.compile(rb"\x1edroidmace (?:alive|end ([0-9]{1,3}))\r?\n")
_LONGEST_MARKER = len(b"\x1edroidmace end 134\r\n")


def supervised_shell(invocation: Invocation) -> str:
    """The launcher that needs nothing on the device but a POSIX shell, ``sleep`` and ``printf``.

    ``mace_run`` is a simple command in the background, so that the heartbeat knows its process id.
    The heartbeat ignores SIGPIPE: a failed write has to be noticed, not died of.
    """
    return "\n".join(
        (
            r"""ended() { printf '\036droidmace end %s\n' "$1" >&2; exit "$1"; }""",
            f"cd {shlex.quote(invocation.cwd)} || ended $?",
            f"{invocation.command()} &",
            "main=$!",
            "( trap '' PIPE",
            f"while sleep {HEARTBEAT_S} </dev/null >/dev/null 2>&1; do",
            r"  printf '\036droidmace alive\n' >&2 && continue",
            '  kill -9 "$main"; exit',
            "done ) &",
            "beat=$!",
            'wait "$main"; status=$?',
            # mksh sleeps in its own process and would wait for that to end before it takes a TERM.
            'kill -9 "$beat"; wait "$beat" 2>/dev/null',
            'ended "$status"',
        )
    )


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
