"""How fast the cable is: as with USB 2, one budget for both directions and all connections."""

from __future__ import annotations

import time
from collections.abc import Callable


class Link:
    """Says how long to wait before the next byte may move; without a rate, never."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bytes_per_s: float | None = None
        self._free_at_s = 0.0

    def set_rate(self, bytes_per_s: float | None) -> None:
        """Limit the link, or (None) lift the limit; earlier debts are forgotten."""
        self._bytes_per_s = bytes_per_s
        self._free_at_s = 0.0

    @property
    def slice_bytes(self) -> int | None:
        """How much to send in one go so that a slow link flows rather than jerks; None: all."""
        if self._bytes_per_s is None:
            return None
        return max(512, int(self._bytes_per_s / 50))

    def charge(self, byte_count: int) -> None:
        """Account for bytes that moved."""
        if self._bytes_per_s is not None:
            start_s = max(self._clock(), self._free_at_s)
            self._free_at_s = start_s + byte_count / self._bytes_per_s

    def delay_s(self) -> float:
        """How long until the link is free."""
        if self._bytes_per_s is None:
            return 0.0
        return max(0.0, self._free_at_s - self._clock())
