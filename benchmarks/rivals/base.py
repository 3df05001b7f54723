"""What every rival can do, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class UnavailableError(Exception):
    """The rival cannot take part here; the text says why."""


@dataclass(frozen=True)
class Task:
    """A net to get ready.

    ``model`` is an ONNX file, ``image`` its one input (NCHW); ``scratch`` a folder of this net that
    rivals share one after the other; ``threads`` how many threads may work, where it can be chosen.
    """

    model: Path
    image: Array
    scratch: Path
    threads: int
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The net's name."""
        return self.model.stem


class Runner(ABC):
    """A net that is ready to run again and again."""

    versions: dict[str, str]
    """Package or driver to version: what ran."""
    notes: tuple[str, ...] = ()

    @abstractmethod
    def run(self) -> None:
        """One inference, from the start of its first command to the end of its last.

        The input is where the rival computes already, and the output stays there.
        """

    @abstractmethod
    def run_with_io(self) -> Array:
        """One inference from an array in the host's memory to an array there."""
