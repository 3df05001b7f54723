"""An ONNX graph as PyTorch calls over the same weights: what the graph says, call by call.

So the GPU machine needs neither torchvision nor tracing. Constant parts are folded beforehand, and
a batch norm behind a convolution goes into its weights, as every runtime of inference does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as nnf
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

Values = dict[str, Any]
Array = npt.NDArray[Any]


class TorchGraph:
    """A graph of one input and one output; call it with a tensor on ``device``."""

    def __init__(self, model: onnx.ModelProto, device: str) -> None:
        graph = model.graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        nodes = _fold_batch_norms(_fold_constants(model, constants), constants)
        self._input = next(i.name for i in graph.input if i.name not in constants)
        self._output = graph.output[0].name
        self._constants: Values = {
            name: torch.from_numpy(np.array(constants[name])).to(device)
            for name in {name for node in nodes for name in node.input} & set(constants)
            if constants[name].dtype == np.float32 and constants[name].ndim > 0
        }
        live = {self._input, *self._constants, *(node.output[0] for node in nodes)}
        self._steps = [
            (_call(node, constants), [name for name in node.input if name in live], node.output[0])
            for node in nodes
        ]

    @torch.no_grad()
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The output for ``image``."""
        values: Values = {**self._constants, self._input: image}
        for function, inputs, output in self._steps:
            values[output] = function(*(values[name] for name in inputs))
        result: torch.Tensor = values[self._output]
        return result


def _fold_constants(model: onnx.ModelProto, constants: dict[str, Array]) -> list[onnx.NodeProto]:
    """The nodes that depend on the input; what the others compute goes into ``constants``."""
    nodes = []
    for node in model.graph.node:
        if not all(name in constants for name in node.input if name):
            nodes.append(node)
            continue
        names = [name for name in dict.fromkeys(node.input) if name]
        single = onnx.helper.make_graph(
            [node],
            "constant",
            [
                onnx.helper.make_tensor_value_info(
                    name,
                    onnx.helper.np_dtype_to_tensor_dtype(constants[name].dtype),
                    constants[name].shape,
                )
                for name in names
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output],
        )
        evaluator = ReferenceEvaluator(
            onnx.helper.make_model(single, opset_imports=model.opset_import)
        )
        results = evaluator.run(None, {name: constants[name] for name in names})
        constants.update(zip(node.output, map(np.asarray, results), strict=True))
    return nodes


def _fold_batch_norms(
    nodes: list[onnx.NodeProto], constants: dict[str, Array]
) -> list[onnx.NodeProto]:
    readers: dict[str, int] = {}
    for name in (name for node in nodes for name in node.input):
        readers[name] = readers.get(name, 0) + 1
    makers = {node.output[0]: node for node in nodes}
    kept = []
    for node in nodes:
        convolution = makers.get(node.input[0])
        if (
            node.op_type != "BatchNormalization"
            or convolution is None
            or convolution.op_type != "Conv"
            or readers[node.input[0]] > 1
        ):
            kept.append(node)
            continue
        scale, shift, mean, variance = (constants[name] for name in node.input[1:])
        epsilon = _attributes(node).get("epsilon", 1e-5)
        factor = (scale / np.sqrt(variance + epsilon)).astype(np.float32)
        weight = convolution.input[1]
        bias = constants[convolution.input[2]] if len(convolution.input) > 2 else np.float32(0)
        prefix = convolution.output[0]
        constants[f"{prefix}/weight"] = constants[weight] * factor.reshape(-1, 1, 1, 1)
        constants[f"{prefix}/bias"] = ((bias - mean) * factor + shift).astype(np.float32)
        convolution.input[:] = [convolution.input[0], f"{prefix}/weight", f"{prefix}/bias"]
        convolution.output[:] = [node.output[0]]
    return kept


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _call(node: onnx.NodeProto, constants: Mapping[str, Array]) -> Callable[..., torch.Tensor]:
    """A function of the node's tensors; numbers among its inputs are read now."""
    maker = _MAKERS.get(node.op_type)
    if maker is None:
        raise NotImplementedError(f"no PyTorch call for ONNX's {node.op_type}")
    given = [constants.get(name) for name in node.input]
    return maker(_attributes(node), given)


_Given = list[Array | None]
_Maker = Callable[[dict[str, Any], _Given], Callable[..., torch.Tensor]]


def _symmetric(attributes: dict[str, Any]) -> tuple[list[int], list[int]]:
    """(padding per axis, what is to be padded beforehand as PyTorch's pad takes it)."""
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if pads[:2] == pads[2:]:
        return pads[:2], []
    return [0, 0], [pads[1], pads[3], pads[0], pads[2]]


def _conv(attributes: dict[str, Any], _: _Given) -> Callable[..., torch.Tensor]:
    padding, before = _symmetric(attributes)
    options = {
        "stride": tuple(attributes.get("strides", (1, 1))),
        "padding": tuple(padding),
        "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": attributes.get("group", 1),
    }
    if before:
        return lambda x, *weights: nnf.conv2d(nnf.pad(x, before), *weights, **options)
    return lambda x, *weights: nnf.conv2d(x, *weights, **options)


def _gemm(attributes: dict[str, Any], given: _Given) -> Callable[..., torch.Tensor]:
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if (alpha, beta) != (1.0, 1.0) or attributes.get("transA"):
        raise NotImplementedError("a scaled or transposed Gemm")
    if attributes.get("transB"):
        return nnf.linear
    return lambda x, weight, bias: torch.addmm(bias, x, weight)


def _clip(_: dict[str, Any], given: _Given) -> Callable[..., torch.Tensor]:
    low, high = (None if v is None else float(v) for v in (*given[1:], None, None)[:2])
    if (low, high) == (0.0, 6.0):
        return lambda x, *_limits: nnf.relu6(x)
    return lambda x, *_limits: torch.clamp(x, low, high)


def _pad(_: dict[str, Any], given: _Given) -> Callable[..., torch.Tensor]:
    pads = given[1]
    if pads is None:
        raise NotImplementedError("a Pad whose amounts are computed")
    half = len(pads) // 2
    amounts = [int(pads[axis + side * half]) for axis in reversed(range(half)) for side in (0, 1)]
    value = 0.0 if len(given) < 3 or given[2] is None else float(given[2])
    return lambda x, *_rest: nnf.pad(x, amounts, value=value)


def _max_pool(attributes: dict[str, Any], _: _Given) -> Callable[..., torch.Tensor]:
    padding, before = _symmetric(attributes)
    if before:
        raise NotImplementedError("a lopsided MaxPool")
    window, strides = attributes["kernel_shape"], attributes.get("strides", (1, 1))
    ceil = bool(attributes.get("ceil_mode", 0))
    return lambda x: nnf.max_pool2d(x, window, strides, padding, ceil_mode=ceil)


def _reduce_mean(attributes: dict[str, Any], given: _Given) -> Callable[..., torch.Tensor]:
    axes = attributes.get("axes")
    if axes is None and len(given) > 1 and given[1] is not None:
        axes = given[1].tolist()
    keep = bool(attributes.get("keepdims", 1))
    return lambda x, *_axes: torch.mean(x, dim=tuple(axes), keepdim=keep)


def _reshape(_: dict[str, Any], given: _Given) -> Callable[..., torch.Tensor]:
    if given[1] is None:
        raise NotImplementedError("a Reshape whose shape is computed")
    shape = tuple(int(n) for n in given[1])
    return lambda x, *_shape: x.reshape(shape)


def _plain(function: Callable[..., torch.Tensor]) -> _Maker:
    return lambda _attributes, _given: function


_MAKERS: dict[str, _Maker] = {
    "Add": _plain(torch.add),
    "Clip": _clip,
    "Concat": lambda attributes, _: lambda *xs: torch.cat(xs, dim=attributes["axis"]),
    "Conv": _conv,
    "Dropout": _plain(lambda x, *_: x),
    "Flatten": lambda attributes, _: lambda x: torch.flatten(x, attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(lambda x: torch.mean(x, dim=(2, 3), keepdim=True)),
    "Identity": _plain(lambda x: x),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Softmax": lambda attributes, _: lambda x: torch.softmax(x, attributes.get("axis", -1)),
}
