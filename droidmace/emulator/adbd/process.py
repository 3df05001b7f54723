"""Commands on the phone: child processes on pipes or on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping, Sequence

from droidmace.emulator.adbd.wire import Buffer

_PIPE_BYTES = 1 << 20
_HANGUP_GRACE_S = 0.5
_DEFAULT_SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGTERM,
    signal.SIGXFSZ,
)
"""Python ignores some of these and the daemon handles others; a command starts with none of it."""


async def _ready(fd: int, *, to_write: bool) -> None:
    """Return when a non-blocking descriptor can be read, or written."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def set_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    if to_write:
        loop.add_writer(fd, set_ready)
    else:
        loop.add_reader(fd, set_ready)
    try:
        await ready
    finally:
        if to_write:
            loop.remove_writer(fd)
        else:
            loop.remove_reader(fd)


async def read_some(fd: int, limit: int) -> bytes:
    """What a command printed; empty when nothing can come any more."""
    while True:
        try:
            return os.read(fd, limit)
        except BlockingIOError:
            await _ready(fd, to_write=False)
        except OSError as exc:
            if exc.errno == errno.EIO:  # A terminal that nobody has open on the other side.
                return b""
            raise


async def write_all(fd: int, data: Buffer) -> None:
    """Give a command its input. Raises ``OSError`` (EPIPE, EIO) when it reads no more."""
    view = memoryview(data)
    while view:
        try:
            written = os.write(fd, view)
        except BlockingIOError:
            await _ready(fd, to_write=True)
        else:
            view = view[written:]


class Child:
    """A command that runs, and our ends of its input and output.

    It leads a session and a process group of its own. It is reaped by itself, whether or not
    anybody waits for it.
    """

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int | None, *, pty: bool) -> None:
        self.pid = pid
        self.pty = pty
        self._stdin: int | None = stdin
        self._stdout: int | None = stdout
        self._stderr: int | None = stderr
        loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(pid)
        loop.add_reader(self._pidfd, self._reap)

    @property
    def stdin(self) -> int | None:
        """Descriptor of its input, until closed."""
        return self._stdin

    def outputs(self) -> list[tuple[str, int]]:
        """Descriptors of its output: stdout, and stderr where that is separate."""
        named = (("stdout", self._stdout), ("stderr", self._stderr))
        return [(name, fd) for name, fd in named if fd is not None]

    async def wait(self) -> int:
        """Its exit code; 128 plus the signal's number if one ended it."""
        return await asyncio.shield(self._exit)

    @property
    def has_exited(self) -> bool:
        """Whether it ended and was reaped."""
        return self._exit.done()

    def close_stdin(self) -> None:
        """End of input. A terminal has no such thing and stays open, as with Android's adbd."""
        if self._stdin is not None and not self.pty:
            os.close(self._stdin)
            self._stdin = None

    def close_outputs(self) -> None:
        """Nobody reads any more: its next write to a pipe fails with SIGPIPE."""
        for _, fd in self.outputs():
            os.close(fd)
        self._stdout = self._stderr = None

    def close(self) -> None:
        """Close all descriptors; of a terminal, that hangs it up."""
        for fd in {self._stdin, self._stdout, self._stderr}:
            if fd is not None:
                os.close(fd)
        self._stdin = self._stdout = self._stderr = None

    def resize(self, rows: int, columns: int, x_pixels: int, y_pixels: int) -> None:
        """Tell the terminal its size; SIGWINCH reaches what runs on it."""
        if self.pty and self._stdout is not None:
            size = struct.pack("HHHH", rows, columns, x_pixels, y_pixels)
            fcntl.ioctl(self._stdout, termios.TIOCSWINSZ, size)

    async def hang_up(self) -> None:
        """The terminal went away: SIGHUP to what ran on it, and SIGKILL to what ignores that."""
        groups = {self.pid}
        if self._stdout is not None:
            with contextlib.suppress(OSError):
                groups.add(os.tcgetpgrp(self._stdout))
        _signal_groups(groups, signal.SIGHUP)
        self.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HANGUP_GRACE_S):
                await self.wait()
        _signal_groups(groups, signal.SIGKILL)

    def tell_leader(self) -> None:
        """SIGHUP to the command itself, and to nothing that it started."""
        if not self.has_exited:
            os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """End it and its process group now."""
        _signal_groups({self.pid}, signal.SIGKILL)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self._exit.set_result(code if code >= 0 else 128 - code)


def _signal_groups(groups: set[int], number: int) -> None:
    for group in groups:
        if group > 1:  # 0 and 1 would be our own group and everybody.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


class Processes:
    """Starts commands, and can end all of them."""

    def __init__(self) -> None:
        self._children: set[Child] = set()

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        pty: bool,
        separate_stderr: bool,
    ) -> Child:
        """Start ``argv`` in the daemon's working folder. Raises ``OSError`` if it cannot run."""
        self._children = {child for child in self._children if not child.has_exited}
        if pty:
            child = _start_on_terminal(argv, environment)
        else:
            child = _start_on_pipes(argv, environment, separate_stderr=separate_stderr)
        self._children.add(child)
        return child

    async def kill_all(self) -> None:
        """End every command and wait until it is gone."""
        children = [child for child in self._children if not child.has_exited]
        for child in children:
            child.kill()
        for child in children:
            await child.wait()


def _spawn(
    argv: Sequence[str],
    environment: Mapping[str, str],
    actions: list[tuple[int | str | bytes, ...]],
) -> int:
    # posix_spawn and not a fork with a hook: the daemon has threads, and setsid comes before the
    # file actions, so a terminal opened by them becomes the controlling one.
    return os.posix_spawn(
        argv[0],
        list(argv),
        dict(environment),
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )


def _start_on_pipes(
    argv: Sequence[str], environment: Mapping[str, str], *, separate_stderr: bool
) -> Child:
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:

        def pipe() -> tuple[int, int]:
            read_end, write_end = os.pipe()
            # Larger is faster, but an unprivileged user has only so much of it.
            with contextlib.suppress(PermissionError):
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            return read_end, write_end

        def keep(fd: int) -> int:
            os.set_blocking(fd, False)
            ours.callback(os.close, fd)
            return fd

        def give(fd: int) -> int:
            theirs.callback(os.close, fd)
            return fd

        stdin, our_stdin = pipe()
        give(stdin), keep(our_stdin)
        our_stdout, stdout = pipe()
        give(stdout), keep(our_stdout)
        our_stderr, stderr = None, stdout
        if separate_stderr:
            our_stderr, stderr = pipe()
            give(stderr), keep(our_stderr)
        pid = _spawn(
            argv,
            environment,
            [
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
            ],
        )
        ours.pop_all()
    return Child(pid, our_stdin, our_stdout, our_stderr, pty=False)


def _start_on_terminal(argv: Sequence[str], environment: Mapping[str, str]) -> Child:
    master, slave = os.openpty()
    try:
        os.set_blocking(master, False)
        pid = _spawn(
            argv,
            environment,
            [
                (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ],
        )
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return Child(pid, master, master, None, pty=True)
