"""The parent's end of a worker process."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_WORKER = Path(__file__).resolve().parent / "worker.py"


class WorkerError(Exception):
    """A worker said it cannot go on, died, or took too long."""


class Session:
    """A worker that gets a rival ready when it is made, and runs it when asked."""

    def __init__(
        self, request: Mapping[str, Any], environ: Mapping[str, str], timeout_s: float
    ) -> None:
        self._timeout_s = timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **environ},
        )
        try:
            self.ready = self._answer()
        except WorkerError:
            self.close()
            raise

    def output(self, path: Path) -> npt.NDArray[np.float32]:
        """What the rival computes. Raises ``WorkerError``."""
        self._ask({"output": str(path)})
        values: npt.NDArray[np.float32] = np.load(path)
        return values

    def measure(self, kind: str, count: int) -> list[float]:
        """Milliseconds of ``count`` runs of ``kind`` (``resident``, ``io``).

        Raises ``WorkerError``.
        """
        times: list[float] = self._ask({"run": kind, "count": count})["ms"]
        return times

    def close(self) -> None:
        """End the worker."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            raise WorkerError(self._last_words()) from exc
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._timeout_s):
                self._process.kill()
                raise WorkerError(f"no answer within {self._timeout_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "unavailable" in answer:
            raise WorkerError(answer["unavailable"])
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        text = self._log.read()[-2000:].decode("utf-8", "replace").strip()
        return f"exit status {status}: {text.splitlines()[-1] if text else 'no message'}"
