"""Where each op of a GPU net runs: on the GPU, on the CPU, or before the net runs at all.

An op that the GPU has no kernel for, or not for what it asks, falls back to the CPU in the middle
of the net, as in MACE (``mace/core/net_def_adapter.cc``). Whole numbers and tensors of other than
one, two or four axes stay with the CPU. What depends on constants and shapes only is computed while
the net is laid out, so a shape that a graph computes is as good as a constant one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from droidmace.engine.attributes import Shape, unsupported
from droidmace.engine.cpu.base import Array, CpuContext
from droidmace.engine.cpu.ops import CPU_OPS, run_op
from droidmace.engine.ops.base import GpuOp, NotOnGpuError
from droidmace.engine.shapes import output_shapes
from droidmace.errors import EngineError
from droidmace.formats.netdef import DataType, OperatorDef

_COMPARISONS = (10, 15)
"""Eltwise types whose results are whole numbers: EQUAL, NOT_EQUAL."""
_MOVERS = (
    "ExpandDims",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "StridedSlice",
    "Transpose",
    "Unsqueeze",
)
"""Ops that go where their input is: on the GPU they are not worth a way there and back."""
_GPU_RANKS = (0, 1, 2, 4)


@dataclass(frozen=True)
class Placed:
    """An op that is to run, and the op on the GPU if it runs there."""

    op: OperatorDef
    gpu_op: GpuOp | None

    def reads(self, constants: Mapping[str, Array]) -> list[str]:
        """The activations that it reads."""
        return [name for name in self.op.inputs if name not in constants]


@dataclass(frozen=True)
class Placement:
    """Ops in order, the shapes of all activations, the values that are known already."""

    ops: tuple[Placed, ...]
    shapes: dict[str, Shape]
    known: dict[str, Array]


def place_ops(
    ops: Sequence[OperatorDef],
    input_shapes: Mapping[str, Shape],
    constants: dict[str, Array],
    make_gpu_op: Callable[[OperatorDef], GpuOp],
    *,
    integers: Sequence[str] = (),
) -> Placement:
    """Decide for each op, in order, and infer shapes.

    Values that are found out are added to ``constants``. ``integers`` are the inputs that hold
    whole numbers. ``make_gpu_op`` raises :class:`NotOnGpuError` for what the GPU does not have.
    Raises ``EngineError`` that names the op for what nothing can run.
    """
    return _Placer(input_shapes, constants, make_gpu_op, integers).place(ops)


class _Placer:
    def __init__(
        self,
        input_shapes: Mapping[str, Shape],
        constants: dict[str, Array],
        make_gpu_op: Callable[[OperatorDef], GpuOp],
        integers: Sequence[str],
    ) -> None:
        self._shapes = dict(input_shapes)
        self._constants = constants
        self._make_gpu_op = make_gpu_op
        self._integers = set(integers)
        self._on_host = {
            name
            for name, shape in input_shapes.items()
            if name in self._integers or len(shape) not in _GPU_RANKS
        }

    def place(self, ops: Sequence[OperatorDef]) -> Placement:
        placed: list[Placed] = []
        known: dict[str, Array] = {}
        for op in ops:
            if self._is_known(op):
                values = self._compute(op)
                known.update(values)
                self._constants.update(values)
                continue
            placed.append(self._place(op))
            if _makes_integers(op):
                self._integers.update(op.outputs)
        return Placement(tuple(placed), self._shapes, known)

    def _is_known(self, op: OperatorDef) -> bool:
        if op.type not in CPU_OPS:
            return False
        if op.type == "Shape":
            return op.inputs[0] in self._shapes
        return all(name in self._constants for name in op.inputs)

    def _compute(self, op: OperatorDef) -> dict[str, Array]:
        """The op's outputs, from constants and, for Shape, from a shape."""
        inputs = [
            _as_floats(self._constants[name])
            if name in self._constants
            else np.broadcast_to(np.float32(0), self._shapes[name])
            for name in op.inputs
        ]
        constants = {name: self._constants[name] for name in op.inputs if name in self._constants}
        values = run_op(op, inputs, CpuContext(constants, on_gpu=True))
        return dict(zip(op.outputs, map(np.ascontiguousarray, values), strict=True))

    def _place(self, op: OperatorDef) -> Placed:
        reason: EngineError | None = None
        if self._may_go_to_gpu(op):
            try:
                gpu_op = self._make_gpu_op(op)
                shapes = gpu_op.output_shapes(self._shapes)
            except NotOnGpuError as exc:
                reason = exc
            else:
                self._shapes.update(zip(op.outputs, shapes, strict=True))
                return Placed(op, gpu_op)
        if op.type not in CPU_OPS:
            raise reason or unsupported(op, "no such op in this engine")
        known = {name: self._constants[name] for name in op.inputs if name in self._constants}
        input_shapes = [
            known[name].shape if name in known else self._shapes[name] for name in op.inputs
        ]
        shapes = output_shapes(op, input_shapes, known, on_gpu=True)
        self._shapes.update(zip(op.outputs, shapes, strict=True))
        self._on_host.update(op.outputs)
        return Placed(op, None)

    def _may_go_to_gpu(self, op: OperatorDef) -> bool:
        read = [name for name in op.inputs if name not in self._constants]
        if any(name in self._integers for name in read):
            return False
        if any(len(self._shapes[name]) not in _GPU_RANKS for name in read):
            return False
        return op.type not in _MOVERS or not all(name in self._on_host for name in read)


def _makes_integers(op: OperatorDef) -> bool:
    if DataType.DT_INT32 in op.output_types or op.type == "ArgMax":
        return True
    return op.type == "Eltwise" and op.int_arg("type") in _COMPARISONS


def _as_floats(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values
