"""A folder that the device scripts take for ``/sys``, and a patient look at what they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


class FakeSys:
    """Writes files as a phone's kernel shows them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Path:
        """Set a file, with the line end that sysfs gives."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        return file

    def zone(self, number: int, name: str, value: object) -> Path:
        """A thermal zone; returns its temperature's file."""
        folder = f"class/thermal/thermal_zone{number}"
        self.write(f"{folder}/type", name)
        return self.write(f"{folder}/temp", str(value))

    def policy(self, number: int, governor: str, available: str = "schedutil performance") -> Path:
        """A group of cores; returns its governor's file."""
        folder = f"devices/system/cpu/cpufreq/policy{number}"
        self.write(f"{folder}/scaling_available_governors", available)
        self.write(f"{folder}/scaling_cur_freq", "1785600")
        return self.write(f"{folder}/scaling_governor", governor)

    def gpu(self, node: str, governor: str) -> Path:
        """A GPU of ``class/devfreq``; returns its governor's file."""
        self.write(f"class/devfreq/{node}/available_governors", f"{governor} performance")
        self.write(f"class/devfreq/{node}/cur_freq", "848000000")
        return self.write(f"class/devfreq/{node}/governor", governor)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Look again and again until it is so; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
