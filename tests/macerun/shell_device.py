"""A device that is a real shell on this machine: what a phone does, without the wire."""

from __future__ import annotations

import contextlib
import os
import pty as pseudo_terminal
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from droidmace.devices.base import CommandResult, FileStat, OutputChunk, ProgressCallback
from droidmace.errors import DeviceTimeoutError


class ShellProcess:
    """A command in its own process group, read through pipes or a terminal."""

    def __init__(self, shell: str, command: str, deadline_s: float, *, pty: bool) -> None:
        self._deadline_s = deadline_s
        self._streams: dict[int, Literal["stdout", "stderr"]] = {}
        self._exit_code: int | None = None
        if pty:
            ours, theirs = pseudo_terminal.openpty()
            self._process = subprocess.Popen(
                [shell, "-c", command], stdin=theirs, stdout=theirs, stderr=theirs,
                start_new_session=True,
            )  # fmt: skip
            os.close(theirs)
            self._streams[ours] = "stdout"
        else:
            out, out_end = os.pipe()
            error, error_end = os.pipe()
            self._process = subprocess.Popen(
                [shell, "-c", command], stdin=subprocess.DEVNULL, stdout=out_end,
                stderr=error_end, start_new_session=True,
            )  # fmt: skip
            os.close(out_end)
            os.close(error_end)
            self._streams = {out: "stdout", error: "stderr"}

    def chunks(self) -> Iterator[OutputChunk]:
        with selectors.DefaultSelector() as selector:
            for descriptor in self._streams:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                left_s = self._deadline_s - time.monotonic()
                ready = selector.select(left_s) if left_s > 0 else []
                if not ready:
                    raise DeviceTimeoutError("the command did not end in time", serial="shell")
                for key, _ in ready:
                    if data := self._read(key.fd):
                        yield OutputChunk(self._streams[key.fd], data)
                    else:
                        selector.unregister(key.fd)
        self._exit_code = self._process.wait()

    @staticmethod
    def _read(descriptor: int) -> bytes:
        try:
            return os.read(descriptor, 4096)
        except OSError:  # what a terminal gives at its end
            return b""

    @property
    def exit_code(self) -> int:
        assert self._exit_code is not None
        return self._exit_code

    def hang_up(self) -> None:
        """Stop listening without stopping the command: what an unplugged cable does."""
        for descriptor in self._streams:
            os.close(descriptor)
        self._streams = {}

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ShellDevice:
    """``Device`` over a local shell; remembers what it was asked."""

    def __init__(self, shell: str = "/bin/sh") -> None:
        self.shell = shell
        self.commands: list[str] = []
        self.started: list[tuple[str, bool]] = []

    @property
    def serial(self) -> str:
        return "shell-1"

    def properties(self) -> Mapping[str, str]:
        return {}

    def run(
        self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"", pty: bool = False
    ) -> CommandResult:
        assert not pty
        self.commands.append(command)
        done = subprocess.run(
            [self.shell, "-c", command], input=stdin, capture_output=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def start(self, command: str, *, timeout_s: float, pty: bool = False) -> ShellProcess:
        self.started.append((command, pty))
        return ShellProcess(self.shell, command, time.monotonic() + timeout_s, pty=pty)

    def push(
        self,
        source: Path | bytes,
        target: str,
        *,
        mode: int = 0o644,
        progress: ProgressCallback | None = None,
    ) -> int:
        data = source if isinstance(source, bytes) else source.read_bytes()
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_bytes(data)
        Path(target).chmod(mode)
        if progress is not None:
            progress(len(data), len(data))
        return len(data)

    def pull(self, source: str, target: Path, *, max_bytes: int = 4 << 30) -> int:
        data = Path(source).read_bytes()
        assert len(data) <= max_bytes
        target.write_bytes(data)
        return len(data)

    def stat(self, path: str) -> FileStat | None:
        if not Path(path).exists():
            return None
        status = Path(path).stat()
        return FileStat(status.st_mode, status.st_size, int(status.st_mtime))

    def remove(self, path: str) -> None:
        shutil.rmtree(path, ignore_errors=True)
