"""Which ONNX ops can be converted, to what, and where MACE runs them: the table and its filling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from droidmace.convert.conversion import Conversion
from droidmace.convert.graph import Node

Handler = Callable[[Conversion, Node], None]


@dataclass(frozen=True, slots=True)
class OpSupport:
    """What becomes of one ONNX op.

    ``mace_ops`` are the MACE ops that it can become; none if it only changes how a tensor is read
    or is folded into its neighbours. ``gpu`` tells whether MACE's GPU runtime has them; if not,
    a GPU model runs them on the CPU in between. ``limits`` are what is refused.
    """

    onnx_op: str
    mace_ops: tuple[str, ...]
    gpu: bool
    limits: tuple[str, ...] = ()

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Where MACE runs it."""
        return ("gpu", "cpu") if self.gpu else ("cpu",)


HANDLERS: dict[str, Handler] = {}
"""ONNX op to what makes MACE ops of it."""
SUPPORTED: dict[str, OpSupport] = {}
"""ONNX op to what becomes of it."""


def converts(
    *onnx_ops: str, to: tuple[str, ...], gpu: bool = True, limits: tuple[str, ...] = ()
) -> Callable[[Handler], Handler]:
    """Register a function as the one that converts ``onnx_ops``."""

    def register(handler: Handler) -> Handler:
        for name in onnx_ops:
            HANDLERS[name] = handler
            SUPPORTED[name] = OpSupport(name, to, gpu, limits)
        return handler

    return register


def folds(*onnx_ops: str, limits: tuple[str, ...] = ()) -> None:
    """Enter ops that a pass folds away before any handler sees them."""
    for name in onnx_ops:
        SUPPORTED[name] = OpSupport(name, (), gpu=True, limits=limits)
