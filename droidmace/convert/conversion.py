"""What a conversion knows while it goes through the nodes: where each tensor is, the ops so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from droidmace.convert.graph import Array, Graph, Node, Shape, fresh_name
from droidmace.convert.layout import C, Groups, Layout, N, Value, nhwc
from droidmace.convert.mace_ops import ArgumentValue, OpDraft
from droidmace.errors import ModelError
from droidmace.formats.netdef import DataFormat
from droidmace.formats.op_types import EltwiseType

NO_ARGUMENTS: Mapping[str, ArgumentValue] = {}
INT32 = np.iinfo(np.int32)


class Conversion:
    """One conversion: the ops and constants so far, and where each ONNX tensor is.

    ``ops`` are in execution order. Every op is emitted with four axes and ``data_format`` AUTO: an
    op that MACE runs on the CPU sees (n, c, h, w), wherever the net runs.
    """

    def __init__(self, graph: Graph, *, runs_on_gpu: bool) -> None:
        self.graph = graph
        self.runs_on_gpu = runs_on_gpu
        self.uses = graph.uses()
        self.ops: list[OpDraft] = []
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Array] = {}
        self._writers: dict[str, int] = {}
        self._names = graph.tensor_names()
        self._op_names = {node.name for node in graph.nodes}

    # --- names and constants ---------------------------------------------------------------------

    def new_name(self, wanted: str) -> str:
        """A name for a tensor or constant that the model does not have, near ``wanted``."""
        name = fresh_name(wanted, self._names)
        self._names.add(name)
        return name

    def use_constant(self, name: str, array: NDArray[Any], node: Node) -> str:
        """Register a constant as this op reads it; another layout of the same gets its own name.

        Integers are stored as int32, everything else as floats.
        """
        if array.dtype.kind in "iub":
            values: Array = np.clip(array, INT32.min, INT32.max).astype(np.int32)
        else:
            values = np.ascontiguousarray(array, dtype=np.float32)
            if not np.isfinite(values).all():
                raise node.refuse(
                    f"its weights {name!r} hold NaN or infinity",
                    hint="the training diverged or the export is damaged",
                )
        present = self.constants.get(name)
        if present is not None and not (
            present.shape == values.shape and np.array_equal(present, values)
        ):
            name = self.new_name(f"{node.name}_{name}")
        self.constants[name] = values
        return name

    def new_constant(self, node: Node, suffix: str, array: NDArray[Any]) -> str:
        """Register a constant that the model does not have."""
        return self.use_constant(self.new_name(f"{node.name}_{suffix}"), array, node)

    def constant(self, node: Node, index: int) -> NDArray[np.float32]:
        """Input ``index``, which must be a constant."""
        value = self.graph.constants.get(node.input(index))
        if value is None:
            raise node.refuse(
                f"its input {index} ({node.input(index)!r}) is not a constant",
                hint="weights must be stored in the model",
            )
        return value.astype(np.float32)

    def integers(self, node: Node, index: int, what: str) -> tuple[int, ...] | None:
        """Input ``index`` as integers, or None where it is absent; ``what`` it means."""
        name = node.input(index)
        if not name:
            return None
        value = self.graph.constants.get(name)
        if value is None:
            raise node.refuse(
                f"its {what} {name!r} are computed while the model runs",
                hint="export the model with static shapes",
            )
        return tuple(int(number) for number in value.reshape(-1))

    def bias(self, node: Node, channels: int, factor: float = 1.0) -> tuple[str, ...]:
        """The third input as a constant of one value per channel, if there is one."""
        name = node.input(2)
        if not name:
            return ()
        bias = self.constant(node, 2)
        if bias.size not in {1, channels} or bias.shape[:-1] != (1,) * (bias.ndim - 1):
            raise node.refuse(f"a bias of shape {bias.shape} for {channels} channels")
        spread = np.broadcast_to(bias.reshape(-1), (channels,)) * np.float32(factor)
        return (self.use_constant(name, spread, node),)

    def ordered_constants(self) -> dict[str, Array]:
        """As MACE orders them: those of the model as they stand there, then the new ones."""
        used = {name for op in self.ops for name in op.inputs}
        known = [name for name in self.graph.constants if name in self.constants]
        new = [name for name in self.constants if name not in self.graph.constants]
        return {name: self.constants[name] for name in [*known, *new] if name in used}

    # --- values ----------------------------------------------------------------------------------

    def value(self, node: Node, index: int = 0) -> Value:
        """Where input ``index`` is."""
        name = node.input(index)
        value = self.values.get(name)
        if value is None:
            what = "a constant" if name in self.graph.constants else "not a tensor of floats"
            raise node.refuse(f"its input {index} ({name!r}) is {what}")
        return value

    def is_computed(self, node: Node, index: int) -> bool:
        """Whether input ``index`` is computed rather than a constant."""
        return node.input(index) in self.values

    def graph_size(self, node: Node, index: int) -> int:
        """Elements of input ``index``; 1 where its shape is not known."""
        name = node.input(index)
        constant = self.graph.constants.get(name)
        return math.prod(self.graph.shapes.get(name, ())) if constant is None else constant.size

    def placed(self, node: Node, index: int, places: Sequence[int]) -> Value:
        """Input ``index``, moved so that its axes are at ``places``."""
        value = self.value(node, index)
        if len(value.groups) != len(places):
            raise node.refuse(f"its input has {len(value.groups)} axes, not {len(places)}")
        return self.arrange(node, value, Layout.at(value.onnx_shape, places))

    def plain(self, node: Node, value: Value) -> Value:
        """``value``, moved to the usual place of its shape."""
        layout = Layout.plain(value.onnx_shape)
        if layout is None:
            raise node.refuse(f"{value.onnx_shape} has too many axes; MACE's tensors have four")
        return self.arrange(node, value, layout)

    def arrange(self, node: Node, value: Value, layout: Layout) -> Value:
        """``value`` as ``layout`` wants it: as it is, by a Reshape, by a Transpose, or both."""
        wanted = layout.order
        sizes = tuple(layout.sizes[axis] for axis in wanted)
        own_sizes = tuple(value.size(axis) for axis in value.order)
        if value.groups == layout.groups and own_sizes == sizes:
            return value
        if value.in_order and wanted == tuple(sorted(wanted)):
            return self._reshape(node, value, layout)
        if own_sizes == sizes:
            return self._transpose(node, value, layout)
        ordered = tuple(sorted(wanted))
        if wanted != ordered:
            # First in order at the right sizes, then to the right axes.
            place = dict(zip(wanted, ordered, strict=True))
            groups = tuple(tuple(place[axis] for axis in group) for group in layout.groups)
            new_sizes = [1, 1, 1, 1]
            for axis in wanted:
                new_sizes[place[axis]] = layout.sizes[axis]
            value = self.arrange(node, value, Layout(groups, tuple(new_sizes)))
            return self.arrange(node, value, layout)
        places = tuple(sorted(value.order))
        straight = Layout.at(tuple(value.size(axis) for axis in value.order), places)
        source = value.regrouped(tuple((axis,) for axis in value.order))
        return self._reshape(node, self._transpose(node, source, straight), layout)

    def _reshape(self, node: Node, value: Value, layout: Layout) -> Value:
        shape = nhwc(layout.sizes)
        # MACE takes `dim`; the constant beside it tells its GPU runtime that the shape is fixed.
        constant = self.new_constant(node, "shape", np.array(layout.sizes, np.int32))
        arguments: dict[str, ArgumentValue] = {"dim": shape, "has_data_format": 1}
        output = self.step(node, "reshaped", "Reshape", (value.tensor, constant), shape, arguments)
        return Value(output, shape, layout.groups)

    def _transpose(self, node: Node, value: Value, layout: Layout) -> Value:
        came_from = dict(zip(layout.order, value.order, strict=True))
        spare = iter(axis for axis in range(4) if axis not in value.order)
        dims = tuple(came_from[axis] if axis in came_from else next(spare) for axis in range(4))
        sizes = tuple(value.size(axis) for axis in dims)
        shape = nhwc(sizes)
        # Only MACE's CPU runtime has it; it counts axes as they lie there, (n, c, h, w).
        output = self.step(node, "transposed", "Transpose", (value.tensor,), shape, {"dims": dims})
        return Value(output, shape, layout.groups)

    # --- ops -------------------------------------------------------------------------------------

    def step(
        self,
        node: Node,
        suffix: str,
        op_type: str,
        inputs: Sequence[str],
        shape: Shape,
        arguments: Mapping[str, ArgumentValue] = NO_ARGUMENTS,
        multiply_adds: int = 0,
    ) -> str:
        """Append an op on the way to ``node``'s result; its new output's name."""
        output = self.new_name(f"{node.name}_{suffix}")
        draft = OpDraft(
            output, op_type, tuple(inputs), (output,), (shape,), arguments, multiply_adds
        )
        self._append(draft)
        return output

    def emit(
        self,
        node: Node,
        op_type: str,
        inputs: Sequence[str],
        shape: Shape,
        groups: Groups,
        arguments: Mapping[str, ArgumentValue] = NO_ARGUMENTS,
        *,
        multiply_adds: int = 0,
        integers: bool = False,
    ) -> None:
        """Append the op that computes ``node``'s only output."""
        self._append(
            OpDraft(
                node.name,
                op_type,
                tuple(inputs),
                (node.output,),
                (shape,),
                arguments,
                multiply_adds,
                integers,
            ),
            own_name=True,
        )
        self.settle(node, Value(node.output, shape, groups))

    def emit_several(
        self,
        node: Node,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[Value],
        arguments: Mapping[str, ArgumentValue],
    ) -> None:
        """Append an op that writes all of ``node``'s outputs; ``outputs`` are named as there."""
        names = tuple(value.tensor for value in outputs)
        shapes = tuple(value.shape for value in outputs)
        draft = OpDraft(node.name, op_type, tuple(inputs), names, shapes, arguments)
        self._append(draft, own_name=True)
        for index, value in enumerate(outputs):
            self.settle(node, value, index)

    def settle(self, node: Node, value: Value, index: int = 0) -> None:
        """``value`` is ``node``'s output; its shape must be the one that ONNX infers."""
        expected = self.graph.shapes.get(node.outputs[index])
        if expected is not None and value.onnx_shape != expected:
            raise node.refuse(f"MACE gives it the shape {value.onnx_shape}, ONNX {expected}")
        self.values[node.outputs[index]] = value

    def fuse(self, node: Node, types: frozenset[str], more: Mapping[str, ArgumentValue]) -> bool:
        """Add ``node``'s arguments to the op that writes its input, where nothing else reads it."""
        value = self.value(node)
        index = self._writers.get(value.tensor)
        if index is None or node.input(0) != value.tensor or self.uses[value.tensor] != 1:
            return False
        before = self.ops[index]
        if before.type not in types or "activation" in before.arguments:
            return False
        fused = replace(before, name=node.name, outputs=(node.output,)).with_arguments(more)
        self.ops[index] = fused
        del self._writers[value.tensor]
        self._writers[node.output] = index
        self.settle(node, replace(value, tensor=node.output))
        return True

    def _append(self, draft: OpDraft, *, own_name: bool = False) -> None:
        if not own_name:
            draft = replace(draft, name=fresh_name(draft.name, self._op_names))
            self._op_names.add(draft.name)
        for shape in draft.shapes:
            if min(shape) < 1 or math.prod(shape) > INT32.max:
                size = "too large" if min(shape) > 0 else "without elements"
                raise ModelError(
                    f"op {draft.name!r} ({draft.type}) makes a tensor of {shape}, {size}",
                    hint="MACE counts elements in 32 bits: check the declared input_shapes",
                )
        for output in draft.outputs:
            self._writers[output] = len(self.ops)
        self.ops.append(draft)

    # --- the border ------------------------------------------------------------------------------

    def take_input(self, name: str) -> None:
        """Where input ``name`` lies when MACE hands it over; whole numbers stay as they are."""
        if name in self.graph.whole:
            return
        shape = self.graph.shapes[name]
        places = self.graph.places.get(name)
        if places is not None:
            layout = Layout.at(shape, places)
            self.values[name] = Value(name, nhwc(layout.sizes), layout.groups)
            return
        self.values[name] = self.enter(Node(name, "Input", (), (name,)), name, shape)

    def enter(self, node: Node, tensor: str, shape: Shape) -> Value:
        """A MACE tensor of the ONNX tensor's own ``shape``, brought to four axes by a Reshape."""
        layout = Layout.plain(shape)
        if layout is None or (len(shape) != 2 and self.runs_on_gpu):
            raise node.refuse(
                f"{tensor!r} has {len(shape)} dimensions",
                hint="MACE's GPU runtime takes tensors of four or two; give the model another "
                "input, or set 'runtime: cpu'",
            )
        four = nhwc(layout.sizes)
        constant = self.new_constant(node, "shape", np.array(layout.sizes, np.int32))
        arguments: dict[str, ArgumentValue] = {"dim": four}
        # A matrix is no image yet: only the CPU turns `dim` into its own order of axes.
        if self.runs_on_gpu:
            arguments["data_format"] = int(DataFormat.NHWC)
        else:
            arguments["has_data_format"] = 1
        output = self.step(node, "reshaped", "Reshape", (tensor, constant), four, arguments)
        return Value(output, four, layout.groups)

    def finish_output(self, name: str) -> None:
        """Leave output ``name`` where MACE hands it out, under its own name."""
        value = self.values.get(name)
        if value is None:
            raise ModelError(
                f"output {name!r} is a constant, or not the first output of its node",
                hint="declare a tensor that the model computes from its inputs",
            )
        node = Node(name, "Output", (name,), (name,))
        places = self.graph.places.get(name)
        if places is not None:
            value = self.arrange(node, value, Layout.at(value.onnx_shape, places))
        elif not _same_on_both(value):
            value = self.plain(node, value)
            if not _same_on_both(value):
                raise ModelError(
                    f"output {name!r} has {len(value.groups)} dimensions and no order of axes",
                    hint="set output_data_formats to NCHW or NHWC for an image; MACE cannot hand "
                    "out other tensors of four axes",
                )
        if value.tensor == name:
            return
        if name in self._writers:
            # What the node wrote lay otherwise; the moved tensor takes its name.
            self._rename(name, self.new_name(f"{name}_unmoved"))
        index = self._writers.get(value.tensor)
        if index is None or value.tensor in self.graph.outputs:
            # The tensor has a name already: a copy under this one.
            arguments: dict[str, ArgumentValue] = {
                "type": int(EltwiseType.SUM),
                "scalar_input": 0.0,
                "scalar_input_index": 1,
                "has_data_format": 1,
            }
            draft = OpDraft(name, "Eltwise", (value.tensor,), (name,), (value.shape,), arguments)
            self._append(draft)
            self.values[name] = replace(value, tensor=name)
            return
        self._rename(value.tensor, name)

    def _rename(self, old: str, new: str) -> None:
        def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(new if name == old else name for name in names)

        self.ops = [
            replace(op, inputs=renamed(op.inputs), outputs=renamed(op.outputs)) for op in self.ops
        ]
        self._writers[new] = self._writers.pop(old)
        self.values = {
            key: replace(value, tensor=new) if value.tensor == old else value
            for key, value in self.values.items()
        }


def _same_on_both(value: Value) -> bool:
    """Whether the values lie as ONNX has them both in (n, c, h, w) and in (n, h, w, c)."""
    return value.in_order and (C not in value.order or set(value.order) <= {N, C})
