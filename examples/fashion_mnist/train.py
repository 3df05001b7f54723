"""Train the example classifier, export it to ONNX, and measure it.

    python train.py train [--dataset DIR] [--epochs N] …   weights, fashion_mnist.onnx, metrics.json
    python train.py evaluate [--dataset DIR]               metrics.json of the model that is there
    python train.py subset [--dataset DIR] [--count 1000]  the first test images, as small IDX files

Needs ``pip install 'droidmace[train,convert,reference]'`` and Fashion-MNIST as four gzipped IDX
files (Debian: package ``dataset-fashion-mnist``). README.md beside this file is the model card.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import platform
import struct
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).resolve().parent
DEBIAN_DATASET = Path("/usr/share/datasets/fashion-mnist")
MODEL = HERE / "fashion_mnist.onnx"
METRICS = HERE / "metrics.json"
TRAINING_KEYS = ("training_seconds", "recipe", "versions")
IMAGE_SIZE = 28
CLASS_COUNT = 10
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
OPSET = 13

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One inverted residual: expand by ``expansion``, 3x3 depthwise, project to ``channels``."""

    channels: int
    stride: int
    expansion: int


STEM_CHANNELS = 16
STAGES = (
    Stage(channels=24, stride=2, expansion=3),
    Stage(channels=24, stride=1, expansion=4),
    Stage(channels=40, stride=2, expansion=4),
    Stage(channels=40, stride=1, expansion=4),
    Stage(channels=40, stride=1, expansion=4),
)
HEAD_CHANNELS = 160


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the weights are found. Nothing here was chosen by looking at the test images."""

    epochs: int = 18
    batch_size: int = 256
    peak_learning_rate: float = 8e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    shift_pixels: int = 2
    hold_out: int = 2000
    """Last images of the training set that are not trained on: the progress figure."""
    seed: int = 20240311
    threads: int = 2


# --- data ---------------------------------------------------------------------------------------


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes.

    The format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, type 0x08, number of
    dimensions, big-endian sizes, data).
    """
    content = gzip.decompress(path.read_bytes())
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path}: not an IDX file of unsigned bytes")
    dimension_count = content[3]
    header_bytes = 4 + 4 * dimension_count
    if len(content) < header_bytes:
        raise SystemExit(f"{path}: the header is cut off")
    shape = struct.unpack(f">{dimension_count}I", content[4:header_bytes])
    if len(content) != header_bytes + int(np.prod(shape)):
        raise SystemExit(f"{path}: {len(content)} bytes do not hold {shape}")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def idx_gz(values: NDArray[np.uint8]) -> bytes:
    """``values`` as a gzipped IDX file; the same bytes every time."""
    header = b"\x00\x00\x08" + struct.pack(f">B{values.ndim}I", values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes(), compresslevel=9, mtime=0)


def load_split(dataset: Path, split: str) -> tuple[Images, Labels]:
    """Images (n, 28, 28) and labels (n,) of ``train`` or ``t10k``."""
    images = read_idx(dataset / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(dataset / f"{split}-labels-idx1-ubyte.gz")
    if images.shape != (len(labels), IMAGE_SIZE, IMAGE_SIZE):
        raise SystemExit(f"{dataset}: {images.shape} images for {len(labels)} labels")
    return images, labels


def as_input(images: Images) -> NDArray[np.float32]:
    """Pixels as the network takes them: (n, 1, 28, 28), each pixel divided by 255."""
    return images[:, np.newaxis].astype(np.float32) / np.float32(255)


def write_subset(dataset: Path, count: int) -> None:
    """Write the first ``count`` test images and labels beside this file."""
    images, labels = load_split(dataset, "t10k")
    for kind, values in (("images-idx3", images[:count]), ("labels-idx1", labels[:count])):
        path = HERE / f"t10k-first{count}-{kind}-ubyte.gz"
        content = idx_gz(values)
        path.write_bytes(content)
        print(f"{path.name}: {len(content)} bytes")


# --- network ------------------------------------------------------------------------------------


def build_network() -> torch.nn.Module:
    """The network, logits out. All padding is symmetric: MACE can say no other."""
    from torch import nn  # noqa: PLC0415

    def unit(
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> nn.Sequential:
        layers = OrderedDict[str, nn.Module](
            conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            norm=nn.BatchNorm2d(outputs),
        )
        if act:
            layers["act"] = nn.ReLU6()
        return nn.Sequential(layers)

    class InvertedResidual(nn.Module):
        def __init__(self, inputs: int, stage: Stage) -> None:
            super().__init__()
            hidden = inputs * stage.expansion
            self.residual = stage.stride == 1 and inputs == stage.channels
            self.expand = unit(inputs, hidden, 1)
            self.depthwise = unit(hidden, hidden, 3, stride=stage.stride, groups=hidden)
            self.project = unit(hidden, stage.channels, 1, act=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
            return x + y if self.residual else y

    # The names become those of the ONNX and MACE ops, and so of the rows of a benchmark.
    layers = OrderedDict[str, nn.Module](stem=unit(1, STEM_CHANNELS, 3))
    channels = STEM_CHANNELS
    for number, stage in enumerate(STAGES, start=1):
        layers[f"block{number}"] = InvertedResidual(channels, stage)
        channels = stage.channels
    layers["head"] = unit(channels, HEAD_CHANNELS, 1)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(HEAD_CHANNELS, CLASS_COUNT)
    return nn.Sequential(layers)


def augment(batch: torch.Tensor, shift: int) -> torch.Tensor:
    """Shift each image by up to ``shift`` pixels either way and mirror every other one."""
    import torch  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415

    count = len(batch)
    padded = functional.pad(batch, (shift, shift, shift, shift))
    offsets = torch.randint(0, 2 * shift + 1, (2, count, 1))
    grid = torch.arange(IMAGE_SIZE).expand(count, IMAGE_SIZE)
    rows = grid + offsets[0]
    columns = grid + offsets[1]
    mirrored = torch.rand(count, 1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    picked = padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    return picked[:, None]


def fit(network: torch.nn.Module, images: Images, labels: Labels, recipe: Recipe) -> float:
    """Train in place; print loss and hold-out accuracy per epoch; return the seconds it took."""
    import torch  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415

    x = torch.from_numpy(as_input(images))
    y = torch.from_numpy(labels.astype(np.int64))
    kept = len(x) - recipe.hold_out
    steps = kept // recipe.batch_size
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=recipe.peak_learning_rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_learning_rate, epochs=recipe.epochs, steps_per_epoch=steps
    )
    started = time.perf_counter()
    for epoch in range(recipe.epochs):
        network.train()
        order = torch.randperm(kept)
        total = 0.0
        for step in range(steps):
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            batch = augment(x[chosen], recipe.shift_pixels)
            logits = network(batch.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(
                logits, y[chosen], label_smoothing=recipe.label_smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - started
        held_out = accuracy_of_network(network, x[kept:], y[kept:])
        print(
            f"epoch {epoch + 1:2}/{recipe.epochs}  loss {total / steps:.4f}  "
            f"hold-out {held_out:.4f}  {seconds:.0f} s",
            flush=True,
        )
    return time.perf_counter() - started


def accuracy_of_network(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of ``x`` (n, 1, 28, 28) whose largest logit is ``y``; 0 for no images."""
    import torch  # noqa: PLC0415

    network.eval()
    right = 0
    with torch.inference_mode():
        for images, labels in zip(x.split(1000), y.split(1000), strict=True):
            right += int((network(images).argmax(1) == labels).sum())
    return right / len(y) if len(y) else 0.0


# --- export and measurement ---------------------------------------------------------------------


def export(network: torch.nn.Module, path: Path) -> None:
    """Write the network with a softmax as ONNX: static shapes, batch norm folded."""
    import onnx  # noqa: PLC0415
    import torch  # noqa: PLC0415

    whole = torch.nn.Sequential(
        OrderedDict([*network.named_children(), ("softmax", torch.nn.Softmax(dim=1))])
    ).eval()
    torch.onnx.export(
        whole.to(memory_format=torch.contiguous_format),
        (torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE),),
        str(path),
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load(str(path))
    model.graph.name = "fashion_mnist"
    for node in model.graph.node:
        node.ClearField("doc_string")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def count_parameters_and_macs(path: Path) -> tuple[int, int]:
    """Weights in the ONNX file, and multiply-accumulates of its Conv and Gemm nodes."""
    import onnx  # noqa: PLC0415

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)), strict_mode=True)
    weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
    shapes = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in (*model.graph.value_info, *model.graph.output)
    }
    parameters = 0
    macs = 0
    for node in model.graph.node:
        if node.op_type not in {"Conv", "Gemm"}:
            continue
        parameters += sum(int(np.prod(weights[name])) for name in node.input[1:])
        per_output = int(np.prod(weights[node.input[1]][1:]))
        macs += int(np.prod(shapes[node.output[0]])) * per_output
    return parameters, macs


def correct_answers(path: Path, images: Images, labels: Labels) -> NDArray[np.bool_]:
    """Per image: is onnxruntime's largest probability the label? One image per call, on the CPU."""
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = [
        int(session.run([OUTPUT_NAME], {INPUT_NAME: image[np.newaxis]})[0].argmax())
        for image in as_input(images)
    ]
    correct: NDArray[np.bool_] = np.array(answers) == labels
    return correct


def evaluate(path: Path, dataset: Path) -> dict[str, Any]:
    """What the model card says about the ONNX file: size, work and Top-1."""
    images, labels = load_split(dataset, "t10k")
    parameters, macs = count_parameters_and_macs(path)
    correct = correct_answers(path, images, labels)
    return {
        "top1_test_10000": float(correct.mean()),
        "top1_test_first_1000": float(correct[:1000].mean()),
        "top1_test_10000_by_class": [
            float(correct[labels == label].mean()) for label in range(CLASS_COUNT)
        ],
        "parameters": parameters,
        "macs": macs,
    }


def write_metrics(metrics: dict[str, Any]) -> None:
    """Write and print ``metrics.json``."""
    text = json.dumps(metrics, indent=2) + "\n"
    METRICS.write_text(text, encoding="utf-8")
    print(text, end="")


def train(dataset: Path, recipe: Recipe) -> None:
    """Train, export, evaluate once on the test images, write ``metrics.json``."""
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    network = build_network().to(memory_format=torch.channels_last)
    images, labels = load_split(dataset, "train")
    seconds = fit(network, images, labels, recipe)
    export(network, MODEL)
    write_metrics(
        {
            **evaluate(MODEL, dataset),
            "training_seconds": round(seconds),
            "recipe": dataclasses.asdict(recipe),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "onnxruntime": onnxruntime.__version__,
                "numpy": np.__version__,
            },
        }
    )


def evaluate_again(dataset: Path) -> None:
    """Measure the committed model again; what is known of its training stays."""
    known = json.loads(METRICS.read_text(encoding="utf-8")) if METRICS.is_file() else {}
    write_metrics(
        {**evaluate(MODEL, dataset), **{k: known[k] for k in TRAINING_KEYS if k in known}}
    )


def parse_arguments() -> argparse.Namespace:
    """The command line; every field of :class:`Recipe` is an option."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("train", "train, export and evaluate"),
        ("evaluate", "evaluate the model that is there"),
        ("subset", "cut out the first test images"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--dataset", type=Path, default=DEBIAN_DATASET)
        if name == "subset":
            command.add_argument("--count", type=int, default=1000)
        elif name == "train":
            for field in dataclasses.fields(Recipe):
                option = "--" + field.name.replace("_", "-")
                command.add_argument(option, type=type(field.default), default=field.default)
    return parser.parse_args()


def main() -> None:
    """Entry point."""
    arguments = parse_arguments()
    if arguments.command == "subset":
        write_subset(arguments.dataset, arguments.count)
    elif arguments.command == "evaluate":
        evaluate_again(arguments.dataset)
    else:
        fields = [field.name for field in dataclasses.fields(Recipe)]
        train(arguments.dataset, Recipe(**{name: getattr(arguments, name) for name in fields}))


if __name__ == "__main__":
    main()
