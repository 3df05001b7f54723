"""The example nets load, run, and are what they say."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/nets"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def nets() -> ModuleType:
    import nets

    return nets


@pytest.fixture(scope="module")
def pytorch_weights() -> ModuleType:
    import pytorch_weights

    return pytorch_weights


def run(model: onnx.ModelProto, *images: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [session.run(None, {session.get_inputs()[0].name: image})[0] for image in images]


def noise(shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    return [generator.normal(size=shape).astype(np.float32) for _ in range(count)]


SMALL = {"mobilenet_v1": 224, "inception_v3": 107}
NAMES = sorted(path.name.removesuffix(".onnx.xz") for path in (FOLDER / "graphs").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_every_net_is_valid_and_tells_images_apart(nets: ModuleType, name: str) -> None:
    model = nets.load_net(name, image_size=SMALL.get(name, 64))
    onnx.checker.check_model(model, full_check=True)
    border = nets.description_of(model)
    (shape,) = border.inputs.values()
    assert shape == (1, 3, SMALL.get(name, 64), SMALL.get(name, 64))
    first, second = run(model, *noise(shape, 2))
    (output_shape,) = border.outputs.values()
    assert first.shape == output_shape
    assert 0.1 < first.std() < 10
    assert np.abs(first - second).max() > 0.1 * first.std()
    if first.ndim == 2:
        best, next_best = np.sort(first[0])[:-3:-1]
        assert best - next_best > 1e-3


def test_a_seed_gives_the_same_weights_again_and_another_gives_others(nets: ModuleType) -> None:
    first, again = (nets.load_net("squeezenet1_1") for _ in range(2))
    assert first.SerializeToString() == again.SerializeToString()
    other = nets.load_net("squeezenet1_1", seed=1)
    assert first.SerializeToString() != other.SerializeToString()


def test_the_graphs_are_as_varied_as_the_exports_say(nets: ModuleType) -> None:
    models = [nets.load_structure(name) for name in nets.NAMES]
    opsets = {nets.description_of(model).opset for model in models}
    assert {11, 13, 17, 18, 20, 21} <= opsets
    batches = collections.Counter(
        "dim_param" if model.graph.input[0].type.tensor_type.shape.dim[0].dim_param else "fixed"
        for model in models
    )
    assert min(batches["dim_param"], batches["fixed"]) > 3
    ops = {node.op_type for model in models for node in model.graph.node}
    expected = {"BatchNormalization", "HardSwish", "HardSigmoid", "ConvTranspose", "Resize", "Pad"}
    assert expected <= ops
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size < 1_500_000


def test_what_a_net_cannot_take_is_refused(nets: ModuleType) -> None:
    with pytest.raises(KeyError, match="no net 'resnet99'"):
        nets.load_net("resnet99")
    with pytest.raises(ValueError, match="multiples of 32"):
        nets.load_net("resnet18", image_size=100)
    with pytest.raises(ValueError, match="last pool"):
        nets.load_net("mobilenet_v1", image_size=64)


def test_real_weights_name_18_of_20_photographs(nets: ModuleType) -> None:
    import photographs

    twenty = photographs.load_photographs()
    assert len(twenty) == 20
    model = nets.efficientnet_lite0()
    onnx.checker.check_model(model, full_check=True)
    scores = run(model, *(photographs.as_input(photograph.pixels) for photograph in twenty))
    right = sum(
        photograph.label == int(score.argmax())
        for photograph, score in zip(twenty, scores, strict=True)
    )
    assert right == 18


def test_a_pickle_that_calls_anything_is_refused(pytorch_weights: ModuleType) -> None:
    class Call:
        def __reduce__(self) -> tuple[object, ...]:
            return print, ("called",)

    with pytest.raises(pytorch_weights.WeightsError, match="refused to load builtins.print"):
        pytorch_weights.read_weights(pickle.dumps(Call()))


def saved(*, elements: int = 2, stored: int = 2) -> bytes:
    """A ``.pth`` file of one tensor, ``x``, of ``elements`` elements."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", "FloatStorage", "7", "cpu", 2, None) if value is Storage else None

    parts = [pickle.dumps(part) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    file = io.BytesIO()
    pickler = Pickler(file, protocol=2)
    # what torch.save writes: the global torch._utils._rebuild_tensor_v2, called with its arguments
    pickler.dump({"x": _Rebuilt(Storage, elements)})
    content = file.getvalue().replace(_PLACE, b"ctorch._utils\n_rebuild_tensor_v2\n")
    parts += [content, pickle.dumps(["7"])]
    return b"".join(parts) + struct.pack("<q", stored) + struct.pack("<2f", 1.5, -2)


def _rebuild(*_arguments: object) -> None:
    """Stands where the file names PyTorch's function."""


_PLACE = f"c{_rebuild.__module__}\n_rebuild\n".encode()


class _Rebuilt:
    def __init__(self, storage: object, elements: int) -> None:
        self._arguments = (storage, 0, (elements,), (1,), False, collections.OrderedDict())

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, self._arguments


def test_tensors_are_read_and_lies_about_their_sizes_are_not(pytorch_weights: ModuleType) -> None:
    assert pytorch_weights.read_weights(saved())["x"].tolist() == [1.5, -2]
    with pytest.raises(pytorch_weights.WeightsError, match="beyond its storage"):
        pytorch_weights.read_weights(saved(elements=3))
    with pytest.raises(pytorch_weights.WeightsError, match="3 elements"):
        pytorch_weights.read_weights(saved(stored=3))
    with pytest.raises(pytorch_weights.WeightsError, match="cut off"):
        pytorch_weights.read_weights(saved()[:-4])
