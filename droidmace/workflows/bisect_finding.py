"""What a bisection's runs showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from droidmace.graphs.parts import Part
from droidmace.results.bisect import Cause, OpComparison, OutputComparison, Suspect
from droidmace.validation.tensor_error import Array


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What shows the error again: a part with its tensors, by the whole net's names."""

    part: Part
    inputs: Mapping[str, Array]
    """Those that are activations; the others are the model's inputs."""
    expected: Mapping[str, Array]
    found: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the runs showed. ``suspected``: the first and last op that may be the culprit."""

    cause: Cause
    culprit: OpComparison | None
    suspected: tuple[int, int]
    outputs: tuple[OutputComparison, ...]
    ops: tuple[OpComparison, ...]
    suspects: tuple[Suspect, ...]
    reproduction: Reproduction | None
    input_peak: float = 0.0
    """The largest value that the culprit reads."""
    warnings: tuple[str, ...] = ()
    on_cpu: frozenset[str] = frozenset()
    """Ops that MACE runs on the CPU in the whole net."""

    @property
    def wrong(self) -> bool:
        """Whether anything is."""
        return self.cause not in {Cause.NOTHING, Cause.UNJUDGED}

    @property
    def on_gpu(self) -> tuple[OpComparison, ...]:
        """The ops that the GPU has run by themselves."""
        return tuple(op for op in self.ops if not op.on_cpu)
