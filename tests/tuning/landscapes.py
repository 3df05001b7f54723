"""Kernels that are not there: their times follow a formula, with noise on top."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from droidmace.tuning.journal import KeyFacts
from droidmace.tuning.search import Choice, Group, Params, Plan, RunRecord, RunStatus
from droidmace.tuning.space import key_space


def convolution(height: int, width: int, channels: int, kwg_size: int = 256) -> KeyFacts:
    """The facts of a 1x1 convolution's key."""
    key = f"conv2d_1x1_opencl_kernel_1_{height}_{width}_{channels}"
    return KeyFacts(key, kwg_size=kwg_size)


def group(name: str, *facts: KeyFacts) -> Group:
    """A group of these keys, with all of their candidates."""
    return Group(name, tuple(key_space(one) for one in facts), (name,))


def net(count: int = 12) -> tuple[Group, ...]:
    """Kernels of several sizes, one key each."""
    sizes = [(112, 16), (112, 96), (56, 24), (56, 144), (28, 32), (28, 192), (14, 64), (14, 384)]
    found = [
        group(f"op{i}", convolution(height + i // len(sizes), height, channels))
        for i in range(count)
        for height, channels in [sizes[i % len(sizes)]]
    ]
    return tuple(found)


def wave_ms(gws: Sequence[int], params: Params | None) -> float:
    """Like a GPU with waves of 32 that wants neighbours along the first axis."""
    if params is None:
        return 3.0
    lws = params[:-1]
    items = math.prod(lws)
    padded = math.prod(-(-size // one) * one for size, one in zip(gws, lws, strict=True))
    waste = padded / math.prod(gws) * (-(-items // 32) * 32 / items)
    coalesced = 1.0 + 0.5 * max(0.0, 3.0 - math.log2(min(lws[0], gws[0])))
    shape = 1.0 + 0.1 * abs(math.log2(lws[1]) - 2.0) + 0.05 * math.log2(lws[2])
    return waste**0.7 * coalesced * shape * (1.0 + 0.05 * max(0.0, 7.0 - math.log2(items)))


@dataclass
class Landscape:
    """Measures plans on groups of kernels; keys of a group add up.

    ``largest``: work-groups of more items are refused. ``noise``: of a sample's logarithm.
    """

    groups: tuple[Group, ...]
    noise: float = 0.0
    seed: int = 0
    largest: int = 1 << 20
    weights: Mapping[str, float] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def true_ms(self, one: Group, choice: Choice) -> float:
        """Without noise."""
        times = (wave_ms(space.gws, params) for space, params in zip(one.keys, choice, strict=True))
        return self.weights.get(one.name, 1.0) * sum(times)

    def best_ms(self, one: Group) -> float:
        """The best there is."""
        return self.weights.get(one.name, 1.0) * sum(
            min(wave_ms(space.gws, params) for params in (None, *space.candidates))
            for space in one.keys
        )

    def total_ms(self, plan: Plan) -> float:
        """Of all groups, without noise."""
        return sum(self.true_ms(one, plan.get(one.name, one.default)) for one in self.groups)

    def __call__(self, plans: Sequence[Plan]) -> Iterator[RunRecord]:
        for plan in plans:
            self.plans.append(plan)
            guilty = next((one.name for one in self.groups if self._refuses(one, plan)), None)
            if guilty is not None:
                yield RunRecord(plan, RunStatus.REFUSED, 0, guilty=guilty)
                continue
            times = {
                one.name: self.true_ms(one, plan.get(one.name, one.default))
                * math.exp(self._random.gauss(0.0, self.noise))
                for one in self.groups
            }
            yield RunRecord(plan, RunStatus.OK, 10, times, wall_s=1.0)

    def _refuses(self, one: Group, plan: Plan) -> bool:
        return any(
            params is not None and math.prod(params[:-1]) > self.largest
            for params in plan.get(one.name, one.default)
        )
