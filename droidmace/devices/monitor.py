"""A monitor on the phone: temperatures, clocks and battery, once a second, while work goes on.

``device_scripts/monitor.sh`` writes them into a file there and, as the sign that it lives, also
sends each line; so they can be looked at while the work goes on, and nothing is lost with the
connection. It never fails the work that it watches: ``note`` says when there is nothing.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from droidmace.devices.base import Device
from droidmace.devices.phone_script import ScriptRun
from droidmace.devices.remote_paths import PHONE_ROOT, checked_path
from droidmace.devices.samples import MonitorLog, SampleReader, ThermalSample, parse_monitor
from droidmace.errors import DeviceError

MONITOR_PATH = f"{PHONE_ROOT}/mace_run.monitor"
"""Where the samples lie on the phone while it runs."""
MONITOR_LIFE_S = 4 * 3600
"""It ends by itself after this long."""

_MAX_BYTES = 8 << 20
_START_MARGIN_S = 60.0


class Monitor:
    """Watches a device from ``with`` to its end; ``log`` then has everything.

    ``on_sample`` is called for each sample as it arrives, from another thread.
    """

    def __init__(
        self,
        device: Device,
        *,
        path: str = MONITOR_PATH,
        life_s: int = MONITOR_LIFE_S,
        on_sample: Callable[[ThermalSample], None] | None = None,
    ) -> None:
        self._device = device
        self._path = checked_path(path)
        self._life_s = life_s
        self._on_sample = on_sample
        self._reader = SampleReader()
        self._live: list[ThermalSample] = []
        self._offset_s: float | None = None
        self._news = threading.Condition()
        self._run: ScriptRun | None = None
        self.log = MonitorLog()
        """Everything, once it was stopped."""
        self.note: str | None = None
        """Why there are no samples, or fewer than there should be."""

    @property
    def samples(self) -> tuple[ThermalSample, ...]:
        """What has arrived so far."""
        with self._news:
            return tuple(self._live)

    @property
    def so_far(self) -> MonitorLog:
        """What has arrived so far, as a log that can be asked by this computer's clock."""
        with self._news:
            return MonitorLog(tuple(self._live), clock_offset_s=self._offset_s)

    def wait_for_samples(self, count: int, timeout_s: float) -> bool:
        """Wait until so many have arrived; False if they do not come in time, or no more."""
        run = self._run
        with self._news:
            self._news.wait_for(
                lambda: len(self._live) >= count or run is None or run.ended.is_set(), timeout_s
            )
            return len(self._live) >= count

    def start(self) -> None:
        """Start it; a phone that cannot is told of in ``note``."""
        try:
            self._run = ScriptRun(
                self._device,
                "monitor.sh",
                self._path,
                str(self._life_s),
                str(_MAX_BYTES),
                timeout_s=self._life_s + _START_MARGIN_S,
                on_line=self._take,
                on_end=self._tell,
            )
        except DeviceError as error:
            self.note = f"the phone was not watched: {error.message}"

    def stop(self) -> MonitorLog:
        """Stop it, fetch its file and remove that; safe to call twice."""
        run, self._run = self._run, None
        if run is None:
            return self.log
        ended = run.stop()
        live = replace(self.so_far, unreadable_lines=self._reader.unreadable_lines)
        if ended:
            live = replace(live, end=self._reader.end)
        self.log = self._fetched(live)
        if run.error is not None:
            self.note = f"the phone was not watched to the end: {run.error.message}"
        elif not self.log.samples:
            self.note = "the phone was not watched: it shows nothing"
        return self.log

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _take(self, line: str) -> None:
        arrived_s = time.monotonic()
        sample = self._reader.feed(line)
        if sample is None:
            return
        offset_s = arrived_s - sample.uptime_s
        with self._news:
            # Each is late by its way here; the quickest tells the clocks' difference best.
            if self._offset_s is None or offset_s < self._offset_s:
                self._offset_s = offset_s
            self._live.append(sample)
            self._news.notify_all()
        if self._on_sample is not None:
            self._on_sample(sample)

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def _fetched(self, live: MonitorLog) -> MonitorLog:
        """What the phone's file holds, unless that is gone or holds less than what has arrived."""
        written = MonitorLog()
        # Whatever broke the way to the phone is the work's to report.
        with (
            contextlib.suppress(DeviceError),
            tempfile.TemporaryDirectory(prefix="droidmace-") as folder,
        ):
            file = Path(folder) / "monitor"
            self._device.pull(self._path, file, max_bytes=2 * _MAX_BYTES)
            written = parse_monitor(file.read_bytes().decode("utf-8", "replace"))
            self._device.remove(self._path)
        if len(written.samples) < len(live.samples):
            return live
        return replace(written, clock_offset_s=live.clock_offset_s)
