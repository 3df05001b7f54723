"""The daemon: hosts in, services behind them, faults between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from typing import cast

from droidmace.emulator.adbd.config import DaemonConfig
from droidmace.emulator.adbd.control import MAX_LINE_BYTES, serve_control
from droidmace.emulator.adbd.errors import StreamClosedError
from droidmace.emulator.adbd.faults import (
    Fault,
    FaultState,
    Freeze,
    Offline,
    SlowLink,
    Unauthorized,
    Unplug,
)
from droidmace.emulator.adbd.link import Link
from droidmace.emulator.adbd.process import Processes
from droidmace.emulator.adbd.services import Services
from droidmace.emulator.adbd.shell import ShellService
from droidmace.emulator.adbd.stats import Stats
from droidmace.emulator.adbd.streams import Stream, StreamHandler
from droidmace.emulator.adbd.sync import SyncService
from droidmace.emulator.adbd.sync_files import remove_stale
from droidmace.emulator.adbd.transport import Peer

logger = logging.getLogger(__name__)

EXIT_STOPPED = 0
EXIT_REBOOT = 75
"""Asks whoever started the daemon to start it again: a host said ``adb reboot``."""
MAX_PEERS = 64
"""Hosts that may be connected at once; more are turned away."""


class Daemon:
    """One phone's ADB daemon: owns its hosts' connections, obeys the control channel."""

    def __init__(self, config: DaemonConfig) -> None:
        self.faults = FaultState()
        self.link = Link()
        self.stats = Stats()
        self.banner = config.banner()
        self._config = config
        self._processes = Processes()
        self._services = Services(
            ShellService(
                config.shell,
                config.environment,
                self._processes,
                self.stats,
                self._command_started,
            ),
            SyncService(config.tmp_suffix, self.stats),
            self._reboot,
        )
        self._peers: set[Peer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._control: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._stopped = asyncio.Event()
        self._exit_code = EXIT_STOPPED
        self.link.set_rate(config.link_bytes_per_s)

    async def run(self, listener: socket.socket, control: socket.socket | None = None) -> int:
        """Serve until told to stop; return the process's exit code.

        ``listener`` and ``control`` are listening stream sockets, and are closed in the end.
        """
        removed = remove_stale(self._config.sweep, self._config.tmp_suffix)
        if removed:
            logger.info("removed %d files of pushes that were cut short", removed)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        async with contextlib.AsyncExitStack() as servers:
            server = await loop.create_server(lambda: Peer(self), sock=listener)
            servers.callback(server.close)
            if control is not None:
                control_server = await asyncio.start_unix_server(
                    self._serve_control, sock=control, limit=MAX_LINE_BYTES
                )
                servers.callback(control_server.close)
            logger.info("serving on %s", listener.getsockname())
            await self._stopped.wait()
        await self._close()
        return self._exit_code

    def stop(self) -> None:
        """Stop serving; ``run`` returns soon."""
        self._stopped.set()

    # -- for the control channel -----------------------------------------------------------

    def apply_fault(self, fault: Fault) -> None:
        """Let something go wrong."""
        logger.info("fault: %s", fault)
        match fault:
            case Unplug(after_bytes=None, on_command=None):
                self.unplug(fault)
            case Unplug():
                self.faults.arm(fault)
            case Unauthorized():
                self.faults.unauthorized = True
                self._drop_all()
            case Offline():
                self.faults.offline = True
                self._drop_all()
            case Freeze():
                self.faults.frozen = True
                for peer in self._peers:
                    peer.freeze()
            case SlowLink(bytes_per_s=bytes_per_s):
                self._set_link_rate(bytes_per_s)

    def clear_faults(self) -> None:
        """The phone is well again; hosts that it kept waiting may connect anew."""
        logger.info("faults cleared")
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.faults.clear()
        self._set_link_rate(self._config.link_bytes_per_s)
        for peer in list(self._peers):
            peer.thaw()
            if not peer.is_online:
                peer.drop()

    def report_stats(self, prefixes: list[str]) -> dict[str, object]:
        """The counters as JSON values."""
        return {**self.stats.report(prefixes), "connected": len(self._peers)}

    # -- for connections -------------------------------------------------------------------

    def peer_connected(self, peer: Peer) -> bool:
        """Take note of a host; False turns it away."""
        if self.faults.refuses or len(self._peers) >= MAX_PEERS:
            return False
        self._peers.add(peer)
        self.stats.connections += 1
        return True

    def peer_gone(self, peer: Peer) -> None:
        """A host's connection is over."""
        self._peers.discard(peer)

    def find_service(self, name: str) -> StreamHandler | None:
        """Who serves streams of this name."""
        return self._services.find(name)

    def serve(self, name: str, handler: StreamHandler, stream: Stream) -> None:
        """Run a service on a stream."""
        task = asyncio.create_task(_run_service(name, handler, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def unplug(self, fault: Unplug) -> None:
        """The cable goes, and stays out as long as the fault says."""
        logger.info("unplugged")
        if fault.refuse_s > 0:
            self.faults.refuse_for(fault.refuse_s)
        self._drop_all()

    # -- inside ----------------------------------------------------------------------------

    async def _serve_control(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._control[task] = writer
        try:
            await serve_control(self, reader, writer)
        finally:
            del self._control[task]

    def _set_link_rate(self, bytes_per_s: float | None) -> None:
        self.link.set_rate(bytes_per_s)
        for peer in self._peers:
            peer.link_changed()

    def _command_started(self, command: str) -> None:
        logger.debug("command: %.500r", command)
        due = self.faults.command_started(command)
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timers.add(loop.call_later(due.delay_s, self.unplug, due))

    def _reboot(self, target: str) -> None:
        logger.info("rebooting %s", target)
        self._exit_code = EXIT_REBOOT
        self.stop()

    def _drop_all(self) -> None:
        for peer in list(self._peers):
            peer.drop()

    async def _close(self) -> None:
        """End connections, commands and tasks, in this order: nothing is started any more."""
        self._drop_all()
        await self._processes.kill_all()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._control.values():
            writer.close()
        await asyncio.gather(*self._control)


async def _run_service(name: str, handler: StreamHandler, stream: Stream) -> None:
    """Run one service to its end. Whatever goes wrong in it ends this stream and nothing else."""
    try:
        await handler(stream)
    except StreamClosedError:
        logger.debug("%.200r: the host went away", name)
    except Exception:
        logger.exception("service %.200r failed", name)
    finally:
        await stream.close()
