"""Which service answers to which name in an OPEN packet."""

from __future__ import annotations

from collections.abc import Callable

from droidmace.emulator.adbd.shell import ShellRequest, ShellService, parse_shell_service
from droidmace.emulator.adbd.streams import Stream, StreamHandler
from droidmace.emulator.adbd.sync import SyncService

_SAYINGS = {
    "root:": "adbd cannot run as root in production builds\n",
    "unroot:": "adbd not running as root\n",
    "remount:": "remount is not possible: this phone is not rooted\n",
    "disable-verity:": "verity cannot be changed: this phone is not rooted\n",
    "enable-verity:": "verity cannot be changed: this phone is not rooted\n",
    "usb:": "this phone is connected over TCP only\n",
    "jdwp": "",  # The processes that can be debugged: none.
}
"""Services that say something and close."""


class Services:
    """Finds the service for a name. What is not known here is refused, as a phone refuses it."""

    def __init__(
        self, shell: ShellService, sync: SyncService, on_reboot: Callable[[str], None]
    ) -> None:
        self._shell = shell
        self._sync = sync
        self._on_reboot = on_reboot

    def find(self, name: str) -> StreamHandler | None:
        """Who serves ``name``; None refuses the stream (``tcp:``, ``localabstract:``, ``abb:``)."""
        saying = _SAYINGS.get(name)
        if saying is not None:
            return lambda stream: stream.write(saying.encode())
        kind, colon, rest = name.partition(":")
        match kind.partition(",")[0]:
            case "shell" if colon:
                request = parse_shell_service(kind.partition(",")[2], rest)
                return lambda stream: self._shell.run(stream, request)
            case "exec" if rest:
                raw = ShellRequest(rest, v2=False, pty=False)
                return lambda stream: self._shell.run(stream, raw)
            case "sync" if colon:
                return self._sync.run
            case "reboot" if colon:
                return lambda stream: self._reboot(stream, rest)
            case "reverse":
                return _refuse_reverse
            case "tcpip":
                return lambda stream: stream.write(b"the port of this phone cannot be changed\n")
            case "track-jdwp":
                return _track_nothing
        return None

    async def _reboot(self, stream: Stream, target: str) -> None:
        await stream.close()
        self._on_reboot(target)


async def _refuse_reverse(stream: Stream) -> None:
    """Reverse forwarding answers in the form of adb's own server: FAIL, four hex digits, text."""
    reason = b"reverse forwarding is not available on this phone"
    await stream.write(b"FAIL%04x%s" % (len(reason), reason))


async def _track_nothing(stream: Stream) -> None:
    """A list of debuggable processes that is empty and stays so."""
    await stream.write(b"0000")
    await stream.wait_closed()
