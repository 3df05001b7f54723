"""Whole commands, as a user runs them, against emulated phones behind a real adb server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from droidmace.emulator.manager import Phone
from tests.conftest import PhoneLab

ROOT = Path(__file__).parents[2]
FASHION = ROOT / "configs" / "fashion_mnist.yml"
COMMAND_TIMEOUT_S = 240.0
# Enough to go through every phase; figures are what benchmarks are for.
BRIEF = ("--rounds", "5", "--blocks", "2", "--startup-runs", "1")


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, Any]:
        """The error it printed with --json, below its progress lines."""
        start = self.stderr.index('{\n  "error"')
        return json.loads(self.stderr[start:])["error"]


Droidmace = Callable[..., Done]


@dataclass(frozen=True)
class Tuned:
    """A phone that was tuned, and the bundle that came of it."""

    phone: Phone
    document: dict[str, Any]
    bundle: Path


def tune(droidmace: Droidmace, phone: Phone, out: Path, *arguments: object) -> Tuned:
    done = droidmace(
        "tune", "--serial", phone.serial, "-c", FASHION, "--out", out, "--json", *BRIEF, *arguments
    )
    assert done.code == 0, done.stderr
    return Tuned(phone, done.document, Path(done.document["bundle"]))


@pytest.fixture(scope="session")
def tuned_adreno(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> Tuned:
    return tune(droidmace, adreno_phone, tmp_path_factory.mktemp("adreno"))


@pytest.fixture(scope="session")
def tuned_mali(
    droidmace: Droidmace, mali_phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> Tuned:
    return tune(droidmace, mali_phone, tmp_path_factory.mktemp("mali"))


@pytest.fixture(scope="session")
def droidmace(phone_lab: PhoneLab) -> Droidmace:
    """Run ``droidmace ARGUMENTS`` to its end."""

    def run(*arguments: object, **environment: str) -> Done:
        finished = subprocess.run(
            [sys.executable, "-m", "droidmace", *map(str, arguments)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=phone_lab.environment | {"COLUMNS": "200"} | environment,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Done(finished.returncode, finished.stdout, finished.stderr)

    return run
