"""Shell commands over adb's shell-v2 protocol: streaming, with one deadline for the whole.

A packet is one byte of kind, four bytes of length (little endian) and the data (AOSP
``packages/modules/adb/shell_protocol.h``). The device sends one ``exit`` packet last; a stream
that ends without it means that the device went away.

adbd does not end a command's children when its stream closes. So every command line is wrapped:
the wrapper tells its process id in a first line, which is taken out of the output, and watches its
standard input. When that ends (we ask for it, or this computer vanished) it stops the whole process
group.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from types import TracebackType
from typing import Literal, Self

from droidmace.devices.base import OutputChunk
from droidmace.devices.command_input import CommandInput
from droidmace.errors import DeviceError, DeviceLostError, DeviceTimeoutError

_HEADER = struct.Struct("<BI")
_RECEIVE_BYTES = 1 << 18
_STDIN_BYTES = 1 << 16
_MAX_PACKET_BYTES = 16 << 20
_MAX_FIRST_LINE_BYTES = 4096
STOP_GRACE_S = 2
"""Seconds between SIGTERM and SIGKILL for a command that is stopped."""


class PacketKind(IntEnum):
    """Kinds of shell-v2 packets that we meet."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EXIT = 3
    CLOSE_STDIN = 4


def encode_packet(kind: PacketKind, data: bytes = b"") -> bytes:
    """One packet as bytes."""
    return _HEADER.pack(kind, len(data)) + data


class PacketDecoder:
    """Bytes in, packets out; a packet may arrive in any number of pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take received bytes; return the packets they complete as (kind, data).

        Raises ``ValueError`` for a packet longer than any device sends.
        """
        self._buffer += data
        packets = []
        position = 0
        while len(self._buffer) - position >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._buffer, position)
            if size > _MAX_PACKET_BYTES:
                raise ValueError(f"shell packet of {size} bytes")
            end = position + _HEADER.size + size
            if len(self._buffer) < end:
                break
            packets.append((kind, bytes(self._buffer[position + _HEADER.size : end])))
            position = end
        del self._buffer[:position]
        return packets


def wrap_command(command: str, token: str, *, mode: Literal["watched", "stdin", "pty"]) -> str:
    """The command line that runs ``command``, told apart from others by ``token``.

    Its first line of output is ``TOKEN PID``. ``watched``: the command gets no input, and the
    group is stopped when the wrapper's input ends. ``stdin`` and ``pty``: input is the command's.
    """
    # Built into the shell, where printf is a process more and a write per byte.
    tell = f"echo {token} $$"
    if mode != "watched":
        return f"{tell}; ( eval {shlex.quote(command)} )"
    # `$$` names the outer shell inside ( ) as well. It leads its process group under adbd; where
    # it does not, at least the command itself is stopped.
    stop = (
        "exec >/dev/null 2>&1; read -r _ <&4; exec 4<&-; trap '' TERM HUP; "
        # The one form of kill for a group that mksh, dash and toybox all understand.
        "kill -s TERM -- -$$ || kill -s TERM $c; sleep 1; "
        # Again: a shell's child that has not become its program yet loses a signal.
        "kill -s TERM -- -$$ || kill -s TERM $c; "
        f"sleep {STOP_GRACE_S - 1}; kill -s KILL -- -$$ || kill -s KILL $c $$"
    )
    # Both shells outlive the signal until the program has tidied up and ended: the exit code that
    # the host waits for says that nothing is left. A caught signal, unlike an ignored one, is not
    # passed on to programs.
    return (
        f"{tell}; exec 4<&0 </dev/null; "
        f"( exec 4<&-; trap 'exit 143' TERM; eval {shlex.quote(command)} ) & c=$!; "
        f"( {stop} ) & w=$!; exec 4<&-; trap : TERM HUP; "
        # mksh tells of a signal that ended the command when it waits for it; the code does that.
        "wait $c 2>/dev/null; s=$?; "
        "while kill -s 0 $c 2>/dev/null; do wait $c 2>/dev/null; s=$?; done; "
        "kill -s KILL $w 2>/dev/null; exit $s"
    )


def kill_command(pid: int, token: str) -> str:
    """A command line that stops the wrapped command ``pid``, if that is still the one we mean."""
    return (
        f"if grep -q {token} /proc/{pid}/cmdline 2>/dev/null; then "
        f"kill -s TERM -- -{pid} 2>/dev/null || kill -s TERM {pid}; sleep 1; "
        f"kill -s KILL -- -{pid} 2>/dev/null || kill -s KILL {pid} 2>/dev/null; fi; true"
    )


OpenService = Callable[[str, float], socket.socket]
"""Opens a service on the device: (service, timeout in seconds) to a connected socket."""


class AdbProcess:
    """A command under way on a phone: see :class:`droidmace.devices.base.RemoteProcess`."""

    def __init__(
        self,
        command: str,
        *,
        serial: str,
        timeout_s: float,
        open_service: OpenService,
        lost: Callable[[str], DeviceError],
        run_quietly: Callable[[str], None],
        stdin: Iterable[bytes] | None = None,
        pty: bool = False,
        silence_s: float | None = None,
        open_timeout_s: float = 10.0,
    ) -> None:
        """Start ``command``.

        ``lost`` makes the error for a connection that broke; ``run_quietly`` runs a short command
        through a second shell and raises ``DeviceError``s.
        """
        self._command = command
        self._serial = serial
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._lost = lost
        self._run_quietly = run_quietly
        self._pty = pty
        self._watched = not pty and stdin is None
        self._token = f"dm{secrets.token_hex(8)}"
        self._decoder = PacketDecoder()
        self._first_line: bytearray | None = bytearray()
        self._pid: int | None = None
        self._exit_code: int | None = None
        self._gone = False
        self._closed = False
        mode: Literal["watched", "stdin", "pty"] = (
            "pty" if pty else "watched" if self._watched else "stdin"
        )
        kind = "TERM=dumb,pty" if pty else "raw"
        service = f"shell,v2,{kind}:{wrap_command(command, self._token, mode=mode)}"
        self._wire = open_service(service, min(timeout_s, open_timeout_s))
        self._input: CommandInput | None = None
        if stdin is not None:
            self._input = CommandInput(
                stdin,
                write=self._send_stdin,
                end=lambda: self._wire.sendall(encode_packet(PacketKind.CLOSE_STDIN)),
                abandon=lambda: self._wire.shutdown(socket.SHUT_RDWR),
            )

    @property
    def exit_code(self) -> int:
        """The exit code; only after the output has been read to its end."""
        if self._exit_code is None:
            raise DeviceError(
                "the command has not ended yet", serial=self._serial, command=self._command
            )
        return self._exit_code

    def chunks(self) -> Iterator[OutputChunk]:
        """Yield output as it arrives; see the protocol for what it raises."""
        deadline = time.monotonic() + self._timeout_s
        while self._exit_code is None:
            for kind, data in self._receive(deadline, self._silence_s):
                yield from self._take(kind, data)
        self._release()

    def _ask_to_stop(self) -> None:
        if self._pty:
            packet = encode_packet(PacketKind.STDIN, b"\x03")
        else:
            packet = encode_packet(PacketKind.CLOSE_STDIN)
        # A broken connection shows to whoever reads from it.
        with contextlib.suppress(OSError):
            self._wire.sendall(packet)

    def close(self) -> None:
        """Stop the command if it still runs, on the phone too; safe to call twice."""
        if self._closed:
            return
        try:
            if self._exit_code is None and not self._gone:
                self._stop()
        finally:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stop(self) -> None:
        """End the remote command: ask, wait for its exit packet, then kill by process id."""
        if self._watched or self._pty:
            self._ask_to_stop()
            deadline = time.monotonic() + (1.0 if self._pty else STOP_GRACE_S + 3.0)
            # Nobody wants the output any more, and a broken connection ends the wait as well.
            with contextlib.suppress(DeviceError):
                while self._exit_code is None:
                    for kind, data in self._receive(deadline):
                        for _ in self._take(kind, data):
                            pass
        self._release()
        if self._exit_code is None and not self._gone and self._pid is not None:
            # If the phone does not answer now, nothing on it can be stopped from here; the
            # wrapper's own watch (its input has ended) is what is left.
            with contextlib.suppress(DeviceError):
                self._run_quietly(kill_command(self._pid, self._token))

    def _send_stdin(self, data: bytes) -> None:
        for start in range(0, len(data), _STDIN_BYTES):
            piece = data[start : start + _STDIN_BYTES]
            self._wire.sendall(encode_packet(PacketKind.STDIN, piece))

    def _receive(self, deadline: float, silence_s: float | None = None) -> list[tuple[int, bytes]]:
        """Wait for the next packets until ``deadline`` (monotonic seconds)."""
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise self._timeout_error()
        try:
            self._wire.settimeout(min(remaining_s, silence_s or remaining_s))
            data = self._wire.recv(_RECEIVE_BYTES)
        except TimeoutError as error:
            if silence_s is not None and silence_s < remaining_s:
                raise self._silent(silence_s) from error
            raise self._timeout_error() from error
        except OSError as error:
            raise self._broken() from error
        if not data:
            raise self._broken()
        try:
            return self._decoder.feed(data)
        except ValueError as error:
            self._gone = True
            raise DeviceLostError(
                f"the device sent garbage: {error}", serial=self._serial, command=self._command
            ) from error

    def _take(self, kind: int, data: bytes) -> Iterator[OutputChunk]:
        """Turn a packet into output; note the exit code."""
        if kind == PacketKind.EXIT:
            if self._first_line:
                yield OutputChunk("stdout", bytes(self._first_line))
                self._first_line = None
            self._exit_code = data[0] if data else 0
        elif kind == PacketKind.STDERR and data:
            yield OutputChunk("stderr", data)
        elif kind == PacketKind.STDOUT:
            data = self._without_first_line(data)
            if data:
                yield OutputChunk("stdout", data)

    def _without_first_line(self, data: bytes) -> bytes:
        """Take the wrapper's own line off the output; what is not that line stays."""
        if self._first_line is None:
            return data
        self._first_line += data
        line, newline, rest = bytes(self._first_line).partition(b"\n")
        if not newline and len(line) < _MAX_FIRST_LINE_BYTES:
            return b""
        whole = bytes(self._first_line)
        self._first_line = None
        token, _, pid = line.strip().partition(b" ")
        if token.decode("ascii", "replace") == self._token and pid.isdigit():
            self._pid = int(pid)
            return rest
        return whole

    @property
    def _shown(self) -> str:
        return self._command if len(self._command) < 60 else f"{self._command[:57]}…"

    def _timeout_error(self) -> DeviceTimeoutError:
        return DeviceTimeoutError(
            f"`{self._shown}` did not end within {self._timeout_s:g} s",
            serial=self._serial,
            command=self._command,
        )

    def _silent(self, silence_s: float) -> DeviceLostError:
        # It would not hear that its command shall stop either; that ends when the phone sees the
        # connection closed.
        self._gone = True
        return DeviceLostError(
            f"the phone fell silent: nothing came from it for {silence_s:g} s",
            serial=self._serial,
            command=self._command,
            hint="wake it up, replug it or restart it, then run the command again",
        )

    def _broken(self) -> DeviceError:
        if self._input is not None:
            self._input.check()
        self._gone = True
        return self._lost(f"running `{self._shown}`")

    def _release(self) -> None:
        self._wire.close()
