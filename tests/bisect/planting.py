"""Models to bisect, and phones' programs that compute them wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PLACEHOLDER = 'PLAN = json.loads("{}")'
IMAGE = 32


def planted(
    folder: Path,
    *,
    kernels: Mapping[str, tuple[str, str]] | None = None,
    winograd: bool = False,
    inside: str | None = None,
) -> Path:
    """A program for ``--mace-run``; see ``planted_engine.py``."""
    plan = {"kernels": dict(kernels or {}), "winograd": winograd, "inside": inside}
    source = Path(__file__).with_name("planted_engine.py").read_text("utf-8")
    assert source.count(PLACEHOLDER) == 1
    folder.mkdir()
    program = folder / "mace_run"
    program.write_text(
        source.replace(PLACEHOLDER, f"PLAN = json.loads({json.dumps(plan)!r})"), "utf-8"
    )
    return program


@dataclass
class Drawing:
    """An ONNX model that is being drawn."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def node(self, op_type: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Add a node; returns its output."""
        self.nodes.append(
            helper.make_node(op_type, list(inputs), [f"{name}_out"], name=name, **attributes)
        )
        return f"{name}_out"

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add a weight."""
        self.weights[name] = values.astype(np.float32)
        return name

    def conv(
        self,
        source: str,
        name: str,
        channels: tuple[int, int],
        *,
        kernel: int = 1,
        stride: int = 1,
        group: int = 1,
        gain: float = 1.0,
        relu6: bool = True,
    ) -> str:
        """Convolution with bias, and ReLU6 that the converter draws into it."""
        inputs, outputs = channels
        fan_in = inputs // group * kernel * kernel
        scale = gain * np.sqrt(2.0 / fan_in)
        shape = (outputs, inputs // group, kernel, kernel)
        weight = self.constant(f"{name}_w", self.random.normal(0, scale, shape))
        bias = self.constant(f"{name}_b", self.random.normal(0, 0.1, outputs))
        pad = kernel // 2
        made = self.node(
            "Conv",
            [source, weight, bias],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=group,
        )
        if not relu6:
            return made
        low = self.constant("zero", np.array(0.0))
        high = self.constant("six", np.array(6.0))
        return self.node("Clip", [made, low, high], f"{name}_relu6")

    def save(self, path: Path, output: str, output_shape: Sequence[int]) -> Path:
        """Write it."""
        graph = helper.make_graph(
            self.nodes,
            "planted",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, IMAGE, IMAGE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, list(output_shape))],
            [numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        opset = [helper.make_opsetid("", 13)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        path.write_bytes(model.SerializeToString())
        return path


def mobile_net(path: Path, *, blocks: int = 8) -> Path:
    """A small net of inverted residuals as in MobileNetV2: four to five ops a block."""
    net = Drawing()
    flow = net.conv("image", "stem", (3, 8), kernel=3, stride=2)
    channels = 8
    for index in range(blocks):
        stride = 2 if index in {1, 4} else 1
        out_channels = channels + 8 * (stride - 1)
        name = f"block{index}"
        wide = channels * 4
        made = net.conv(flow, f"{name}_expand", (channels, wide))
        made = net.conv(made, f"{name}_dw", (wide, wide), kernel=3, stride=stride, group=wide)
        made = net.conv(made, f"{name}_project", (wide, out_channels), relu6=False, gain=0.5)
        flow = net.node("Add", [flow, made], f"{name}_add") if stride == 1 else made
        channels = out_channels
    flow = net.conv(flow, "head", (channels, 64))
    flow = net.node("GlobalAveragePool", [flow], "pool")
    flow = net.node("Flatten", [flow], "flatten")
    weight = net.constant("fc_w", net.random.normal(0, 0.3, (10, 64)))
    bias = net.constant("fc_b", net.random.normal(0, 0.1, 10))
    flow = net.node("Gemm", [flow, weight, bias], "fc", transB=1)
    net.nodes.append(helper.make_node("Softmax", [flow], ["scores"], name="softmax", axis=1))
    return net.save(path, "scores", [1, 10])


def plain_convs(path: Path, gains: Sequence[float]) -> Path:
    """Convolutions one after another without activations; ``gains`` scale their outputs."""
    net = Drawing()
    flow, channels = "image", 3
    for index, gain in enumerate(gains):
        flow = net.conv(flow, f"conv{index}", (channels, 8), kernel=3, gain=gain, relu6=False)
        channels = 8
    net.nodes.append(helper.make_node("Relu", [flow], ["scores"], name="relu"))
    return net.save(path, "scores", [1, 8, IMAGE, IMAGE])


def near_difference(path: Path) -> Path:
    """Two large tensors that are nearly the same, and their difference."""
    net = Drawing()
    near = net.node("Add", ["image", net.constant("large", np.array(500.0))], "near")
    weight = net.random.normal(0, 0.001, (3, 3, 1, 1)) + np.eye(3)[:, :, None, None]
    far = net.node("Conv", [near, net.constant("w", weight * 1.0)], "mix", kernel_shape=[1, 1])
    gap = net.node("Sub", [near, far], "gap")
    net.nodes.append(helper.make_node("Relu", [gap], ["scores"], name="relu"))
    return net.save(path, "scores", [1, 3, IMAGE, IMAGE])


def normalised(path: Path) -> Path:
    """Two convolutions, and between them an op that the GPU has no kernel for."""
    net = Drawing()
    flow = net.conv("image", "first", (3, 8), kernel=3, relu6=False)
    flow = net.node("LRN", [flow], "lrn", size=3)
    flow = net.conv(flow, "second", (8, 8), kernel=3, relu6=False)
    net.nodes.append(helper.make_node("Relu", [flow], ["scores"], name="relu"))
    return net.save(path, "scores", [1, 8, IMAGE, IMAGE])


def logistic_map(path: Path, *, steps: int = 10) -> Path:
    """``y = 4 x (1 - x)`` again and again: each step doubles the error of the one before."""
    net = Drawing()
    one, four = net.constant("one", np.array(1.0)), net.constant("four", np.array(4.0))
    flow = net.node("Mul", ["image", "image"], "square")
    for step in range(steps):
        rest = net.node("Sub", [one, flow], f"rest{step}")
        made = net.node("Mul", [flow, rest], f"product{step}")
        flow = net.node("Mul", [made, four], f"step{step}")
    net.nodes.append(helper.make_node("Relu", [flow], ["scores"], name="relu"))
    return net.save(path, "scores", [1, 3, IMAGE, IMAGE])


def deployment(model: Path, **settings: object) -> Path:
    """A deployment file beside the model."""
    output_shape = onnx.load(str(model)).graph.output[0].type.tensor_type.shape.dim
    shape = [one.dim_value for one in output_shape]
    lines = [
        "library_name: planted",
        "target_abis: [arm64-v8a]",
        "target_socs: [all]",
        "models:",
        "  planted:",
        "    platform: onnx",
        f"    model_file_path: {model.name}",
        "    subgraphs:",
        "      - input_tensors: [image]",
        f'        input_shapes: ["1,3,{IMAGE},{IMAGE}"]',
        "        input_data_formats: [NCHW]",
        "        output_tensors: [scores]",
        f'        output_shapes: ["{",".join(map(str, shape))}"]',
        f"        output_data_formats: [{'NCHW' if len(shape) == 4 else 'NONE'}]",
        "    runtime: gpu",
        *(f"    {key}: {value}" for key, value in settings.items()),
        "droidmace:",
        "  models:",
        "    planted:",
        f"      graph_file: {model.stem}.pb",
        f"      data_file: {model.stem}.data",
    ]
    path = model.with_suffix(".yml")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
