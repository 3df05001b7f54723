"""The test cases that the ``onnx`` package carries for its backends, as far as they are ours.

A node case is a model of one op with inputs and the outputs they give. We keep those of the default
domain that compute with float32, at an opset that the converter takes.
"""

from __future__ import annotations

import copy
import lzma
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from droidmace.convert.onnx_file import MAX_OPSET, MIN_OPSET

Array = np.ndarray
LIGHT = "light"
"""Stands for the op of a whole net."""


# Where a tensor of so many axes stands in an image of (n, c, h, w).
_IMAGE_OF: dict[int, Callable[[tuple[int, ...]], tuple[int, ...]]] = {
    0: lambda shape: (1, 1, 1, 1),
    1: lambda shape: (1, *shape, 1, 1),
    2: lambda shape: (*shape, 1, 1),
    3: lambda shape: (1, *shape),
}


@dataclass(frozen=True)
class Case:
    """A model, inputs, and what it makes of them."""

    name: str
    op: str
    model: onnx.ModelProto
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    rtol: float

    def with_constants(self, names: set[str]) -> Case:
        """The same case with these inputs stored in the model, as exporters store weights."""
        model = copy.deepcopy(self.model)
        kept = [value for value in model.graph.input if value.name not in names]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.graph.initializer.extend(
            numpy_helper.from_array(self.inputs[name], name) for name in sorted(names)
        )
        inputs = {name: value for name, value in self.inputs.items() if name not in names}
        return replace(self, model=model, inputs=inputs)

    def first_output_only(self) -> Case:
        """Without the outputs that may be left out, as exporters do with those nobody reads."""
        node = self.model.graph.node[0]
        schema = onnx.defs.get_schema(node.op_type, self.model.opset_import[0].version)
        needed = [
            name
            for name, output in zip(node.output, schema.outputs, strict=False)
            if output.option != onnx.defs.OpSchema.FormalParameterOption.Optional
        ]
        if not 0 < len(needed) < len(self.outputs):
            return self
        model = copy.deepcopy(self.model)
        kept = [value for value in model.graph.output if value.name in needed]
        del model.graph.output[:], model.graph.node[0].output[len(needed) :]
        model.graph.output.extend(kept)
        outputs = {name: value for name, value in self.outputs.items() if name in needed}
        return replace(self, model=model, outputs=outputs)

    def framed(self) -> Case:
        """As in the midst of a net of images: what is no image comes from one, and becomes one."""
        model = copy.deepcopy(self.model)
        graph = model.graph
        before, after = [], []
        inputs, outputs = dict(self.inputs), dict(self.outputs)
        for side, values, nodes in ((graph.input, inputs, before), (graph.output, outputs, after)):
            for info in side:
                value = values[info.name]
                shape = _IMAGE_OF.get(value.ndim)
                if shape is None or value.dtype != np.float32:
                    continue
                image, name = f"{info.name}_image", info.name
                ends = (image, name) if nodes is before else (name, image)
                sizes = value.shape if nodes is before else shape(value.shape)
                dims = f"{name}_dims"
                graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), dims))
                nodes.append(helper.make_node("Reshape", [ends[0], dims], [ends[1]], name=image))
                values[image] = values.pop(name).reshape(shape(value.shape))
                info.CopyFrom(
                    helper.make_tensor_value_info(image, TensorProto.FLOAT, shape(value.shape))
                )
        nodes = [*before, *graph.node, *after]
        del graph.node[:]
        graph.node.extend(nodes)
        return replace(self, model=model, inputs=inputs, outputs=outputs)

    def variants(self) -> Iterator[Case]:
        """What people who convert a model may change of it, the least first.

        Inputs become constants of the model: none, those that are not float, all but the first.
        Outputs that nobody reads are left out. What is no image is put between images.
        """
        names = list(self.inputs)
        whole = {name for name, value in self.inputs.items() if value.dtype != np.float32}
        tried: list[tuple[object, ...]] = []
        for frame in (False, True):
            for case in (self, self.first_output_only()):
                for constants in (set(), whole - set(names[:1]), set(names[1:])):
                    shown = (*case.outputs, *sorted(constants), frame)
                    if shown in tried:
                        continue
                    tried.append(shown)
                    stored = case.with_constants(constants) if constants else case
                    yield stored.framed() if frame else stored


@dataclass(frozen=True)
class NodeCases:
    """What there is, and what was left aside and why."""

    cases: tuple[Case, ...]
    not_float: frozenset[str]
    """Ops without a float32 case that holds a value."""
    too_new: frozenset[str]
    """Ops that came after the newest opset that is converted."""


def node_cases() -> NodeCases:
    """The node cases of the installed ``onnx``, but those of tensors without a value."""
    from onnx.backend.test.case.node import collect_testcases

    # The cases are made up anew each time, some from random numbers.
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    cases: list[Case] = []
    ops, new = set(), set()
    for entry in found:
        model = entry.model
        if len(model.graph.node) != 1 or [item.domain for item in model.opset_import] != [""]:
            continue  # the op spelled out in other ops, or an op of another domain
        op = model.graph.node[0].op_type
        ops.add(op)
        if not _is_float(model):
            continue
        stamped = _at_our_opset(model)
        if stamped is None:
            new.add(op)
            continue
        inputs, outputs = entry.data_sets[0]
        if not all(np.size(value) for value in (*inputs[:1], *outputs[:1])):
            continue
        cases.append(
            Case(
                name=entry.name,
                op=op,
                model=stamped,
                inputs=_named(model.graph.node[0].input, inputs),
                outputs=_named(model.graph.node[0].output, outputs),
                rtol=max(entry.rtol, 1e-3),
            )
        )
    known = {case.op for case in cases}
    return NodeCases(tuple(cases), frozenset(ops - new - known), frozenset(new - known))


def _named(names: list[str], values: list[Array]) -> dict[str, Array]:
    present = [name for name in names if name]
    return {name: np.asarray(value) for name, value in zip(present, values, strict=False)}


def _is_float(model: onnx.ModelProto) -> bool:
    """Whether the first input and the first output are float32 tensors."""
    sides = (model.graph.input, model.graph.output)
    return all(
        not side or side[0].type.tensor_type.elem_type == TensorProto.FLOAT for side in sides
    )


def _at_our_opset(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model at an opset that is converted, if its op exists there as it is used."""
    (entry,) = model.opset_import
    if entry.version < MIN_OPSET:
        return None
    if entry.version <= MAX_OPSET:
        return model
    stamped = copy.deepcopy(model)
    stamped.opset_import[0].version = MAX_OPSET
    try:
        onnx.checker.check_model(stamped)
        onnx.shape_inference.infer_shapes(stamped, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return None
    return stamped


LIGHT_FOLDER = Path(onnx.__file__).parent / "backend/test/data/light"
LARGE = frozenset({"bvlc_alexnet", "vgg19", "zfnet512"})
"""Light models with some hundred MiB of weights."""


def light_names() -> tuple[str, ...]:
    """The light models of the installed ``onnx``: graphs of whole nets."""
    paths = LIGHT_FOLDER.glob("light_*.onnx")
    return tuple(sorted(path.stem.removeprefix("light_") for path in paths))


def light_case(name: str) -> Case:
    """A light model with random weights and input, and what onnxruntime makes of it.

    Its own weights are all alike: they grow beyond measure, and hide what is mixed up.
    """
    model = onnx.load(LIGHT_FOLDER / f"light_{name}.onnx")
    model.ir_version = 8  # since 4, stored weights need not be inputs
    random = np.random.default_rng(0)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in stored:
            kept.append(node)
            continue
        weights = _drawn(tuple(stored[node.input[0]].astype(int)), random)
        model.graph.initializer.append(numpy_helper.from_array(weights, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    (entry,) = [value for value in model.graph.input if value.name not in stored]
    shape = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    inputs = {entry.name: random.standard_normal(shape, dtype=np.float32)}
    case = Case(name, LIGHT, model, inputs, {}, rtol=1e-3)
    return replace(case, outputs=reference(case))


def _drawn(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Filters that keep values of order 1; for scales, variances and biases positive numbers."""
    if len(shape) > 1:
        fan_in = np.prod(shape[1:])
        return random.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
    return random.uniform(0.5, 1.5, shape).astype(np.float32)


def reference(case: Case) -> dict[str, Array]:
    """What onnxruntime makes of the inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(case.model.SerializeToString(), options)
    names = [value.name for value in case.model.graph.output]
    return dict(zip(names, session.run(names, case.inputs), strict=True))


NETS = Path(__file__).parents[2] / "examples/nets/graphs"


def ops_of_nets() -> frozenset[str]:
    """The ops of the example nets and of the light models."""
    models = [onnx.load_from_string(lzma.decompress(path.read_bytes())) for path in NETS.iterdir()]
    models += [onnx.load(LIGHT_FOLDER / f"light_{name}.onnx") for name in light_names()]
    return frozenset(node.op_type for model in models for node in model.graph.node)
