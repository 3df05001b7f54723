"""Is tuned faster than untuned? Blocks of fresh processes, until it is known or not worth more.

A block is four fresh processes: untuned, tuned, tuned, untuned, or the other way round. A phone
that slows down evenly hurts both sides of a block alike. Which side stands outside is drawn by lot:
with a fixed order some phone keeps step, such as one that does other work every eighth time, and
all blocks err the same way. Where a block does not begin as the one before has ended, a process of
its outer side runs first and does not count: so each side follows each side equally often, and a
phone that is hot from the one does not make the other look slow. The outer two are the same
variant, so they are the block's canary: if they differ by more than ``max_drift`` something
happened in between, and the block is thrown out and measured again. If both untuned processes are
slower than in the first blocks by more than ``max_slowdown``, the phone throttles: the block is
thrown out as well, and the phone may cool down; should it stay slow, that is its speed from then
on. Both rules look at one variant against itself and never at tuned against untuned: they cannot
favour either. A single outlier among the inner two stays in, whichever side it hits.

When to stop: see :mod:`droidmace.tuning.sequential`. From ``FUTILE_BLOCKS`` on it also ends if the
median does not show half of the gain that is asked for: to give up early can hide a gain, and
cannot invent one.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from droidmace.results import LatencyBlock
from droidmace.tuning.sequential import Finding, finding, sequential_ratio
from droidmace.tuning.statistics import PairedRatio, bootstrap_median

Conditions = tuple[float | None, float | None]
"""Temperature of the chip's hottest zone (degrees Celsius) and the GPU's clock (MHz), if known."""

FUTILE_BLOCKS = 12
"""Fewer say too little about the median to give up on a gain."""
_LEVEL_BLOCKS = 3
"""Kept blocks whose speed is the phone's own."""
_MAX_COOLINGS = 3


@dataclass(frozen=True, slots=True)
class BlockRules:
    """Stated before the first block; shares of 1.

    ``max_drift``: twice the scatter between processes of one kind that is common on phones, so that
    a steady phone loses hardly a block. ``max_slowdown``: thermal governors step down by a quarter
    and more. Blocks that were thrown out are measured again, at most ``max_blocks / 2`` of them.
    """

    min_gain: float = 0.01
    max_blocks: int = 40
    max_drift: float = 0.10
    max_slowdown: float = 0.25


@dataclass(frozen=True, slots=True)
class LatencyEvidence:
    """All blocks, in order, and what those that were kept say."""

    blocks: tuple[LatencyBlock, ...]
    ratio: PairedRatio
    finding: Finding
    notes: tuple[str, ...] = ()

    @property
    def bootstrap(self) -> tuple[float, float]:
        """A bootstrap interval of the median ratio: told beside the one that decides."""
        return bootstrap_median([block.ratio for block in self.blocks if not block.thrown_out])

    def samples_ms(self, *, tuned: bool) -> tuple[float, ...]:
        """The kept blocks' samples of one side."""
        return tuple(
            time_ms
            for block in self.blocks
            if not block.thrown_out
            for time_ms in (block.tuned_ms if tuned else block.untuned_ms)
        )


def compare_latency(
    run_ms: Callable[[bool], float],
    rules: BlockRules,
    *,
    cool_down: Callable[[], bool] = lambda: False,
    conditions: Callable[[], Conditions] = lambda: (None, None),
    progress: Callable[[str, int, int], None] = lambda *_: None,
    lot: random.Random | None = None,
) -> LatencyEvidence:
    """Measure blocks until the gain is proven, disproven, or the blocks are used up.

    ``run_ms(is_tuned)`` starts a fresh process and returns its average latency; ``cool_down`` waits
    until the phone is cooler, False if that cannot be told; ``conditions`` tells how the phone is
    at the end of a block; ``lot`` draws which side stands outside, anew every time if left out.
    """
    lot = lot or random.Random()  # noqa: S311 - nobody guesses it to gain by it
    last: bool | None = None
    blocks: list[LatencyBlock] = []
    notes: list[str] = []
    kept: list[float] = []
    speed = _Speed(rules.max_slowdown)
    thrown = coolings = 0
    found = Finding.OPEN
    while len(kept) < rules.max_blocks:
        progress(_progress_text(kept), len(kept), rules.max_blocks)
        outside = lot.random() < 0.5
        if outside is not last:
            run_ms(outside)
        last = outside
        times = _four(run_ms, tuned_outside=outside)
        hottest_c, gpu_mhz = conditions()
        times = replace(times, hottest_c=hottest_c, gpu_mhz=gpu_mhz)
        reason = ""
        if abs(times.drift) > rules.max_drift:
            reason = f"its outer processes differ by {times.drift:+.1%}"
        elif speed.is_slow(times):
            reason = f"the phone ran at {speed.of(times):.2f} of its time before"
        if reason and thrown < rules.max_blocks // 2:
            thrown += 1
            blocks.append(times.as_thrown_out(reason))
            if speed.is_slow(times):
                if coolings < _MAX_COOLINGS and cool_down():
                    coolings += 1
                else:
                    notes.append(f"throttled: {reason}; measured on at that speed")
                    speed.accept(times)
            continue
        blocks.append(times)
        speed.keep(times)
        kept.append(times.ratio)
        ratio = sequential_ratio(kept)
        found = finding(ratio, rules.min_gain)
        if found is not Finding.OPEN or _is_futile(ratio, rules):
            break
    if thrown:
        notes.append(f"{thrown} of {len(blocks)} blocks were thrown out: the phone was not steady")
    return LatencyEvidence(tuple(blocks), sequential_ratio(kept), found, tuple(notes))


class _Speed:
    """How long the untuned process took in the first blocks that were kept (ms).

    The faster one of a block's two stands for the phone: what slows one process down alone is an
    outlier, and to throw out those of the untuned side alone would not be fair to the tuned one.
    """

    def __init__(self, max_slowdown: float) -> None:
        self._max_slowdown = max_slowdown
        self._level: list[float] = []

    def of(self, block: LatencyBlock) -> float:
        """The block's time as a multiple of the phone's own."""
        if not self._level:
            return 1.0
        return min(block.untuned_ms) / statistics.median(self._level)

    def is_slow(self, block: LatencyBlock) -> bool:
        """Whether the phone throttles."""
        return self.of(block) > 1.0 + self._max_slowdown

    def keep(self, block: LatencyBlock) -> None:
        """Learn from a block that counts."""
        if len(self._level) < _LEVEL_BLOCKS:
            self._level.append(min(block.untuned_ms))

    def accept(self, block: LatencyBlock) -> None:
        """Take the block's speed for the phone's from now on."""
        self._level = [min(block.untuned_ms)]


def _four(run_ms: Callable[[bool], float], *, tuned_outside: bool) -> LatencyBlock:
    first = run_ms(tuned_outside)
    inner = (run_ms(not tuned_outside), run_ms(not tuned_outside))
    outer = (first, run_ms(tuned_outside))
    return LatencyBlock(
        untuned_ms=inner if tuned_outside else outer,
        tuned_ms=outer if tuned_outside else inner,
        tuned_outside=tuned_outside,
    )


def _is_futile(ratio: PairedRatio, rules: BlockRules) -> bool:
    return ratio.pairs >= FUTILE_BLOCKS and ratio.median > 1.0 - rules.min_gain / 2


def _progress_text(kept: Sequence[float]) -> str:
    if not kept:
        return "block 1"
    return f"block {len(kept) + 1}, so far x {statistics.median(kept):.3f}"
