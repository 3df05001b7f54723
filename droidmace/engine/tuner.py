"""Tuned parameters at run time: read, searched for, written.

Source: ``mace/utils/tuner.h``. The table is read from ``--opencl_parameter_file`` and written to
``MACE_RUN_PARAMETER_PATH`` when the process ends normally, whether it tuned or not; in place, so a
full disk leaves part of a file, silently.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence

from droidmace.engine.file_region import read_region
from droidmace.engine.macelog import MaceLog, atoi, format_vector
from droidmace.errors import FormatError
from droidmace.formats.kvstore import Generation
from droidmace.formats.store_keys import QUEUE_WINDOW_SIZE_KEY
from droidmace.formats.tuned_parameters import TunedParameters

Params = tuple[int, ...]
Measure = Callable[[Params], tuple[float, Params]]
"""Runs a kernel once with these parameters; returns its time in microseconds, and the parameters
as they are to be kept (the block may have been chosen in the run)."""

_TUNER = "utils/tuner.h"
_MAX_RUNS = 10
_ENOUGH_US = 100_000.0
_TOO_MUCH_US = 200_000.0


class Tuner:
    """Key to parameters, and the search for them."""

    def __init__(self, log: MaceLog, environ: Mapping[str, str], parameter_file: str) -> None:
        self._log = log
        self._output_path = environ.get("MACE_RUN_PARAMETER_PATH", "")
        self.is_tuning = environ.get("MACE_TUNING") == "1"
        self._table: dict[str, Params] = {}
        if self.is_tuning:
            window = atoi(environ.get(QUEUE_WINDOW_SIZE_KEY, ""))
            self._table[QUEUE_WINDOW_SIZE_KEY] = (window & 0xFFFFFFFF,)
        self._read(parameter_file)

    @property
    def queue_window_size(self) -> int:
        """How many commands may be queued before the host waits; 0: any number."""
        values = () if self.is_tuning else self._table.get(QUEUE_WINDOW_SIZE_KEY, ())
        return values[0] if values else 0

    def known(self, key: str) -> Params | None:
        """The parameters of ``key`` in the table, or None."""
        found = self._table.get(key)
        if found is not None and self._log.verbose(3):
            self._log.vlog(3, f"{_TUNER}:113", f"{key}: {format_vector(found)}")
        return found

    def search(
        self, key: str, default: Params, candidates: Sequence[Params], measure: Measure
    ) -> Params:
        """Time every candidate, keep the fastest under ``key`` and return it.

        Each runs once to warm up, then up to 10 times: until 200 ms are spent, or after 2 runs
        100 ms. Without candidates the default stands.
        """
        best, best_us = default, float("inf")
        for candidate in candidates:
            measure(candidate)
            mean_us, params = _mean_time(candidate, measure)
            if mean_us < best_us:
                best, best_us = params, mean_us
        self._log.vlog(3, f"{_TUNER}:106", f"Tuning {key} result: {format_vector(best)}")
        self._table[key] = best
        return best

    def write(self) -> None:
        """Write the table to ``MACE_RUN_PARAMETER_PATH``, if that is set."""
        if not self._output_path:
            return
        data = TunedParameters.build(self._table).serialize()
        try:
            stream = io.FileIO(self._output_path, "w")
        except OSError:
            self._log.warning(f"{_TUNER}:164", "Write run parameter file failed.")
            return
        # an ofstream: what becomes of the bytes is not looked at
        with stream, contextlib.suppress(OSError):
            stream.write(data)

    def _read(self, path: str) -> None:
        if not path:
            self._log.vlog(1, f"{_TUNER}:204", "There is no tuned parameters.")
            return
        try:
            data = read_region(path)
        except OSError:
            self._log.warning(f"{_TUNER}:189", f"Failed to read tuned param file: {path}")
            return
        try:
            parameters = TunedParameters.parse(data)
        except FormatError:
            parameters = None
        if parameters is None or parameters.generation is not Generation.CURRENT:
            self._log.warning(f"{_TUNER}:199", f"CRC value of {path}is invalid")
            return
        for key, values in parameters.entries.items():
            self._table.setdefault(key, values)


def _mean_time(candidate: Params, measure: Measure) -> tuple[float, Params]:
    total_us = 0.0
    for run in range(1, _MAX_RUNS + 1):
        time_us, params = measure(candidate)
        total_us += time_us
        if total_us > _TOO_MUCH_US or (run > 1 and total_us > _ENOUGH_US):
            break
    return total_us / run, params
