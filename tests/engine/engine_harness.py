"""What the engine's tests work with: a readable log, and a phone's folder to run the engine in."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from droidmace.engine.macelog import MaceLog, StdioStream

SAMPLES = Path(__file__).parents[1] / "samples"
DRIVERS = ("intel", "pocl")
# What the driver is told to say, so that MACE has a name for the GPU and keeps caches.
MALI = {
    "platform_name": "ARM Platform",
    "platform_version": "OpenCL 3.0 v1.r38p1",
    "device_name": "Mali-G78",
    "device_version": "OpenCL 3.0 v1.r38p1",
}


class AbortedError(Exception):
    """Where the engine would have aborted."""


@dataclass
class LogReader:
    """A log whose lines a test can read; fatal lines raise instead of aborting."""

    path: Path
    log: MaceLog = field(init=False)

    def __post_init__(self) -> None:
        self._file = self.path.open("wb")
        self.log = MaceLog(StdioStream(self._file.fileno()), verbosity=3, abort=self._abort)

    @staticmethod
    def _abort() -> NoReturn:
        raise AbortedError

    @property
    def text(self) -> str:
        self.log.flush()
        return self.path.read_text(encoding="utf-8")

    def close(self) -> None:
        self.log.flush()
        self._file.close()


@dataclass(frozen=True)
class Finished:
    """How an engine process ended. ``returncode`` is negative for a signal."""

    returncode: int
    stdout: str
    stderr: str

    def routes(self) -> dict[str, str]:
        """Program key to the route it was built by (needs VLOG 3)."""
        found = {}
        for line in self.stdout.splitlines():
            head, mark, key = line.partition(": ")
            if mark and "] Program from " in head:
                found[key] = head.partition("] Program from ")[2]
        return found

    def table(self) -> list[float]:
        """capability, init, warmup, run_avg."""
        (line,) = [line for line in self.stdout.splitlines() if line.startswith("time  ")]
        return [float(word) for word in line.split()[1:]]


class Phone:
    """A working folder with the sample model, and the engine to run in it."""

    def __init__(self, folder: Path, driver: str, icd_folders: Mapping[str, Path]) -> None:
        self.folder = folder
        self.driver = driver
        self._icd_folders = icd_folders
        self.store = folder / "interior"
        self.store.mkdir(parents=True)
        for name in ("tiny_gpu.pb", "tiny_gpu.data"):
            shutil.copy(SAMPLES / name, folder / name)
        shutil.copy(SAMPLES / "tiny_input_nchw_1x3x32x32.f32", folder / "in_input")
        self.claim(MALI)

    @property
    def cache(self) -> Path:
        return self.store / "mace_cl_compiled_program.bin"

    @property
    def output(self) -> Path:
        return self.folder / "out_output"

    def claim(self, identity: Mapping[str, str]) -> None:
        """Set what the driver says it is."""
        (self.folder / "gpu.json").write_text(json.dumps(identity), encoding="utf-8")

    def argv(self, *flags: str) -> list[str]:
        """The engine's command line; later flags win, as in gflags."""
        return [
            sys.executable,
            "-m",
            "droidmace.engine",
            "--model_name=tiny_gpu",
            "--input_node=input",
            "--input_shape=1,3,32,32",
            "--input_data_format=NCHW",
            "--output_node=output",
            "--output_shape=1,10,1,1",
            "--output_data_format=NCHW",
            "--input_file=in",
            "--output_file=out",
            "--model_file=tiny_gpu.pb",
            "--model_data_file=tiny_gpu.data",
            *flags,
        ]

    def environment(self, **extra: str) -> dict[str, str]:
        """The engine's environment: this driver only, PoCL's own cache off, VLOG 3."""
        return {
            **os.environ,
            "OCL_ICD_VENDORS": str(self._icd_folders[self.driver]),
            "POCL_KERNEL_CACHE": "0",
            "POCL_CACHE_DIR": str(self.folder / "pocl"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MACE_INTERNAL_STORAGE_PATH": "interior",
            "MACE_CPP_MIN_VLOG_LEVEL": "3",
            "DROIDMACE_GPU_IDENTITY": str(self.folder / "gpu.json"),
            **extra,
        }

    def run(self, *flags: str, **environment: str) -> Finished:
        """Run to the end with stdout on a pipe."""
        done = subprocess.run(
            self.argv(*flags),
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def run_on_terminal(self, *flags: str, **environment: str) -> Finished:
        """Run to the end with stdout on a pseudo-terminal."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            self.argv(*flags),
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=follower,
            stderr=subprocess.DEVNULL,
        )
        os.close(follower)
        text = b""
        try:
            while chunk := os.read(leader, 65536):
                text += chunk
        except OSError:
            pass  # Linux's way to say that the other side is closed
        os.close(leader)
        return Finished(process.wait(timeout=60), text.decode().replace("\r\n", "\n"), "")

    def run_until(self, text: str, times: int, *flags: str, **environment: str) -> str:
        """Run until a line with ``text`` came ``times`` times, then kill it; returns the output."""
        process = subprocess.Popen(
            self.argv(*flags),
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        seen = []
        count = 0
        with process:
            for line in process.stdout:
                seen.append(line)
                count += text in line
                if count >= times:
                    break
            ended = process.poll()
            process.kill()
        assert ended is None, f"it ended by itself: {''.join(seen)}"
        return "".join(seen)
