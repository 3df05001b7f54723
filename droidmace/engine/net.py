"""What the story needs of a net, whichever runtime it runs on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from droidmace.engine.attributes import Shape

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OpTiming:
    """One op's share of a run, for the statistics tables.

    Times in microseconds on one clock; ``kernels`` is the filter's shape, or the window's.
    """

    name: str
    type: str
    start_us: int
    end_us: int
    output_shape: Shape
    strides: tuple[int, ...] = ()
    paddings: tuple[int, ...] = ()
    padding_type: int = -1
    dilations: tuple[int, ...] = ()
    kernels: tuple[int, ...] = ()


class Net(ABC):
    """A net that is ready to run. Activations go in and out as NHWC arrays (or of other ranks)."""

    runtimes: tuple[str, ...]
    """What it runs on, as MACE prints it."""

    @abstractmethod
    def run(
        self, inputs: Mapping[str, Array], timings: list[OpTiming] | None = None
    ) -> dict[str, Array]:
        """Run once; append each op's timing to ``timings``. Raises ``EngineError``."""

    @abstractmethod
    def prepare(self) -> None:
        """``--fake_warmup``: compile everything without running. Raises ``EngineError``."""
