"""The shell services: a command line, or an interactive shell, on pipes or on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from droidmace.emulator.adbd.errors import RemoteProtocolError, StreamClosedError
from droidmace.emulator.adbd.process import Child, Processes, read_some, write_all
from droidmace.emulator.adbd.shell_packets import (
    HEADER_BYTES,
    PacketId,
    ShellDecoder,
    StdinClosed,
    StdinData,
    WindowSize,
    encode,
)
from droidmace.emulator.adbd.stats import Stats
from droidmace.emulator.adbd.streams import Stream

logger = logging.getLogger(__name__)

_READ_BYTES = 256 << 10
_CANNOT_RUN_EXIT_CODE = 127
_OUTPUT_IDS = {"stdout": PacketId.STDOUT, "stderr": PacketId.STDERR}


@dataclass(frozen=True, slots=True)
class ShellRequest:
    """What a ``shell`` or ``exec`` service name asks for."""

    command: str
    v2: bool
    pty: bool
    terminal: str = "dumb"


def parse_shell_service(arguments: str, command: str) -> ShellRequest:
    """Read ``shell,ARGUMENTS:COMMAND``: ``v2``, ``pty``, ``raw``, ``TERM=…`` in any order.

    Without ``pty`` or ``raw``, a command gets pipes and an interactive shell a terminal.
    """
    v2, pty, terminal = False, not command, "dumb"
    for argument in arguments.split(","):
        match argument:
            case "v2":
                v2 = True
            case "pty":
                pty = True
            case "raw":
                pty = False
            case _ if argument.startswith("TERM="):
                terminal = argument.removeprefix("TERM=") or terminal
    return ShellRequest(command, v2, pty, terminal)


class ShellService:
    """Runs commands for hosts.

    ``on_command`` is told each command line once its process runs.
    """

    def __init__(
        self,
        shell: str,
        environment: Mapping[str, str],
        processes: Processes,
        stats: Stats,
        on_command: Callable[[str], None],
    ) -> None:
        self._shell = shell
        self._environment = environment
        self._processes = processes
        self._stats = stats
        self._on_command = on_command

    async def run(self, stream: Stream, request: ShellRequest) -> None:
        """Serve one stream: run the command, carry its input and output, report its end."""
        line = ["-c", request.command] if request.command else ["-"]
        argv = [self._shell, *line]
        try:
            child = self._processes.start(
                argv,
                {**self._environment, "TERM": request.terminal},
                pty=request.pty,
                separate_stderr=request.v2,
            )
        except (OSError, ValueError) as exc:  # ValueError: a NUL byte in the command line.
            logger.warning("cannot run %s: %s", self._shell, exc)
            await _report_start_failure(stream, request, f"cannot run {self._shell}: {exc}\n")
            return
        self._stats.commands += 1
        self._on_command(request.command)
        try:
            await _Session(stream, request, child, self._stats).run()
        finally:
            child.close()


async def _report_start_failure(stream: Stream, request: ShellRequest, reason: str) -> None:
    data = reason.encode("utf-8", "replace")
    if request.v2:
        await stream.write(encode(PacketId.STDERR, data))
        await stream.write(encode(PacketId.EXIT, bytes([_CANNOT_RUN_EXIT_CODE])))
    else:
        await stream.write(data)


class _Session:
    """One command between its stream and its process."""

    def __init__(self, stream: Stream, request: ShellRequest, child: Child, stats: Stats) -> None:
        self._stream = stream
        self._v2 = request.v2
        self._child = child
        self._stats = stats
        self._decoder = ShellDecoder()

    async def run(self) -> None:
        """Until the command is over, or nobody listens to it any more."""
        input_task = asyncio.create_task(self._carry_input())
        output_task = asyncio.create_task(self._carry_outputs())
        gone_task = asyncio.create_task(self._stream.wait_closed())
        tasks = {input_task, output_task, gone_task}
        try:
            await asyncio.wait({output_task, gone_task}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stream.is_closed:
                output_task.result()
                await self._stream.close()
            else:
                await _cancel(output_task)
                await self._let_go(input_task)
        finally:
            for task in tasks:
                await _cancel(task)

    async def _let_go(self, input_task: asyncio.Task[None]) -> None:
        """The host is gone.

        A terminal hangs up. On pipes, with the v2 protocol, the shell gets SIGHUP; what the shell
        started does not, runs on and holds the phone's resources: it meets the end of its input,
        and SIGPIPE should it print something. Without the protocol nobody gets a signal. (AOSP
        adbd: ``Subprocess::PassDataStreams``, which only v2 streams go through.)
        """
        if self._child.pty:
            await _cancel(input_task)
            await self._child.hang_up()
            return
        if self._v2:
            self._child.tell_leader()
        self._child.close_outputs()
        exited = asyncio.create_task(self._child.wait())
        # Input that had already come is still delivered; nobody can wait for it any longer.
        await asyncio.wait({input_task, exited}, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(input_task)
        self._child.close_stdin()
        await exited

    async def _carry_outputs(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name, fd in self._child.outputs():
                group.create_task(self._carry_output(_OUTPUT_IDS[name], fd))
        if not self._v2:
            return
        code = await self._child.wait()
        with contextlib.suppress(StreamClosedError):
            await self._stream.write(encode(PacketId.EXIT, bytes([code & 0xFF])))

    async def _carry_output(self, packet_id: PacketId, fd: int) -> None:
        limit = min(_READ_BYTES, self._stream.max_payload_bytes - HEADER_BYTES)
        while data := await read_some(fd, limit):
            self._stats.stdout_bytes += len(data)
            try:
                await self._stream.write(encode(packet_id, data) if self._v2 else data)
            except StreamClosedError:
                return

    async def _carry_input(self) -> None:
        """Until the host closes its side; a command that reads no more loses only its input."""
        while data := await self._stream.read():
            if not self._v2:
                await self._give(data)
                continue
            try:
                events = self._decoder.feed(data)
            except RemoteProtocolError as exc:
                logger.warning("closing a shell: %s", exc)
                await self._stream.close()
                return
            for event in events:
                match event:
                    case StdinData(data=piece):
                        await self._give(piece)
                    case StdinClosed():
                        self._child.close_stdin()
                    case WindowSize():
                        self._child.resize(
                            event.rows, event.columns, event.x_pixels, event.y_pixels
                        )
        self._child.close_stdin()

    async def _give(self, data: bytes | bytearray | memoryview) -> None:
        self._stats.stdin_bytes += len(data)
        fd = self._child.stdin
        if fd is None:
            return
        try:
            await write_all(fd, data)
        except OSError as exc:
            logger.debug("a command reads no more: %s", exc)
            self._child.close_stdin()


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is over; what it raised before is raised here."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled() and task.exception() is not None:
        task.result()
