"""Ops that the GPU lacks run on the CPU in the middle of a net; memory that it lacks has a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from engine_harness import DRIVERS, LogReader
from engine_models import Array, in_memory, make_gpu, model, op

from droidmace.engine.cpu_net import CpuNet
from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.macelog import MaceLog, StdioStream
from droidmace.engine.model import Model
from droidmace.engine.net import OpTiming
from droidmace.engine.opencl.runtime import Gpu
from droidmace.errors import EngineError
from droidmace.formats.netdef import DataType, InputOutputInfo, MemoryType, OperatorDef

MEMORIES = (MemoryType.GPU_IMAGE, MemoryType.GPU_BUFFER)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogReader]:
    """One log for the module."""
    made = LogReader(tmp_path_factory.mktemp("log") / "log.txt")
    yield made
    made.close()


@pytest.fixture(scope="module", params=DRIVERS)
def gpu(
    request: pytest.FixtureRequest,
    opencl_devices: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gpu]:
    """One device for the module, with a quiet log: so later runs are enqueued as prepared."""
    path = tmp_path_factory.mktemp("quiet") / "log.txt"
    with path.open("wb") as stream:
        log = MaceLog(StdioStream(stream.fileno()), verbosity=0)
        yield make_gpu(opencl_devices[request.param], log)


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(11)


def _random(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _conv(source: str, weights: str, target: str) -> OperatorDef:
    return op("Conv2D", [source, weights], target, strides=(1, 1), padding_values=(2, 2))


def _attention(rng: np.random.Generator) -> Model:
    """A convolution, products of matrices per pixel as only the CPU has them, a convolution."""
    ops = [
        _conv("x", "w0", "a"),
        op("Reshape", ["a"], "rows", dim=(1, 30, 6)),
        op("MatMul", ["rows", "rows"], "scores", transpose_b=1),
        op("Softmax", ["scores"], "weights"),
        op("MatMul", ["weights", "rows"], "mixed"),
        op("Reshape", ["mixed"], "b", dim=(1, 5, 6, 6)),
        op("Eltwise", ["a", "b"], "c", type=0),
        _conv("c", "w1", "y"),
    ]
    constants = {"w0": _random(rng, 6, 4, 3, 3), "w1": _random(rng, 3, 6, 3, 3)}
    return model(ops, {"x": (1, 5, 6, 4)}, ["y", "scores"], constants)


@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: str(memory.name))
def test_ops_of_the_cpu_run_between_those_of_the_gpu(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator, memory: MemoryType
) -> None:
    made = _attention(rng)
    net = GpuNet(in_memory(made, memory), gpu)
    on_cpu = CpuNet(made, reader.log)
    for _ in range(3):  # the first run builds, later ones enqueue what was prepared
        inputs = {"x": _random(rng, 1, 5, 6, 4)}
        ours, reference = net.run(inputs), on_cpu.run(inputs)
        for name in ("y", "scores"):
            np.testing.assert_allclose(ours[name], reference[name], rtol=1e-4, atol=2e-4)


def test_a_profile_tells_both_kinds_in_order(gpu: Gpu, rng: np.random.Generator) -> None:
    net = GpuNet(_attention(rng), gpu)
    timings: list[OpTiming] = []
    net.run({"x": _random(rng, 1, 5, 6, 4)}, timings)
    types = [timing.type for timing in timings if timing.type != "BufferTransform"]
    assert types == [
        "Conv2D",
        "Reshape",
        "MatMul",
        "Softmax",
        "MatMul",
        "Reshape",
        "Eltwise",
        "Conv2D",
    ]
    (scores,) = [timing for timing in timings if timing.name == "scores_op"]
    assert scores.output_shape == (1, 30, 30)
    assert scores.kernels == (1, 30, 6)


def test_shapes_that_the_graph_computes_are_known_before_it_runs(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator
) -> None:
    """Batch and channels stay, the pixels become one axis: for any size of input."""
    ops = [
        op("Shape", ["x"], "shape"),
        op("Gather", ["shape", "last"], "channels", axis=0),
        op("Concat", ["lead", "channels"], "target", axis=0),
        op("Reshape", ["x", "target"], "y"),
    ]
    constants = {"last": np.array([3], np.int32), "lead": np.array([1, 1, -1], np.int32)}
    made = model(ops, {"x": (1, 4, 5, 6)}, ["y"], constants)
    net = GpuNet(made, gpu)
    for shape in ((1, 4, 5, 6), (1, 2, 3, 7), (1, 4, 5, 6)):
        values = _random(rng, *shape)
        (ours,) = net.run({"x": values}).values()
        np.testing.assert_array_equal(ours, values.reshape(1, 1, -1, shape[3]))


def test_whole_numbers_stay_on_the_cpu(
    gpu: Gpu, reader: LogReader, rng: np.random.Generator
) -> None:
    made = model(
        [op("Gather", ["table", "indices"], "rows", axis=0), op("Softmax", ["rows"], "y")],
        {"indices": (3,)},
        ["y"],
        {"table": _random(rng, 1 << 3, 5)},
    )
    infos = (InputOutputInfo(name="indices", dims=(3,), data_type=DataType.DT_INT32),)
    made = Model(dataclasses.replace(made.net, input_infos=infos), made.constants)
    inputs = {"indices": np.array([7, 0, 3], np.float32)}
    ours, reference = GpuNet(made, gpu).run(inputs), CpuNet(made, reader.log).run(inputs)
    np.testing.assert_allclose(ours["y"], reference["y"], rtol=1e-5)


def test_what_nobody_can_run_is_named(gpu: Gpu, rng: np.random.Generator) -> None:
    made = model([op("LSTMCell", ["x"], "y")], {"x": (1, 4)}, ["y"])
    with pytest.raises(EngineError, match=r"'y_op' \(LSTMCell\): no such op"):
        GpuNet(made, gpu)


def _limited(opencl_devices: dict[str, object], log: MaceLog, **limits: object) -> Gpu:
    gpu = make_gpu(opencl_devices["intel"], log)
    gpu.device = dataclasses.replace(gpu.device, **limits)  # type: ignore[arg-type]
    return gpu


_WIDE = [op("Softmax", ["x"], "thin"), op("Concat", ["thin", "thin"], "wide", axis=2)]


@pytest.mark.parametrize(
    ("memory", "limits", "words"),
    [
        (MemoryType.GPU_IMAGE, {"max_image_size": (50, 50)}, "CL_INVALID_IMAGE_SIZE"),
        (MemoryType.GPU_IMAGE, {"max_allocation_bytes": 3000}, "CL_OUT_OF_RESOURCES"),
        (MemoryType.GPU_BUFFER, {"max_allocation_bytes": 2600}, "CL_OUT_OF_RESOURCES"),
    ],
)
def test_a_tensor_beyond_the_device_is_named(
    opencl_devices: dict[str, object],
    log_reader: LogReader,
    memory: MemoryType,
    limits: dict[str, object],
    words: str,
) -> None:
    made = in_memory(model(_WIDE, {"x": (1, 3, 40, 4)}, ["wide"]), memory)
    with pytest.raises(EngineError, match="Out of resources") as caught:
        GpuNet(made, _limited(opencl_devices, log_reader.log, **limits))
    assert caught.value.where == "op 'wide_op' (Concat)"
    assert "smaller input" in str(caught.value.hint)
    assert words in log_reader.text
    assert "op 'wide_op' (Concat) takes" in log_reader.text


def test_weights_beyond_the_device_are_named(
    opencl_devices: dict[str, object],
    log_reader: LogReader,
    rng: np.random.Generator,
) -> None:
    layer = op("FullyConnected", ["x", "w"], "y")
    made = model([layer], {"x": (1, 1, 1, 400)}, ["y"], {"w": _random(rng, 90, 400, 1, 1)})
    gpu = _limited(opencl_devices, log_reader.log, max_image_size=(100, 80))
    with pytest.raises(EngineError, match="Out of resources") as caught:
        GpuNet(made, gpu)
    assert caught.value.where == "op 'y_op' (FullyConnected)"


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (MemoryType.GPU_IMAGE, (4, 2)),
        (MemoryType.GPU_BUFFER, (4, 2)),
    ],
)
def test_peak_memory_is_logged(
    opencl_devices: dict[str, object],
    log_reader: LogReader,
    memory: MemoryType,
    expected: tuple[int, int],
) -> None:
    chain = [op("Softmax", [source], target) for source, target in ("xa", "ab", "bc")]
    made = in_memory(model(chain, {"x": (1, 64, 64, 64)}, ["c"]), memory)
    GpuNet(made, make_gpu(opencl_devices["intel"], log_reader.log))
    tensors, allocations = expected
    assert (
        f"] Peak memory of {tensors} tensors in {allocations} allocations: 2.00 MiB"
        " (4.00 MiB if none were shared)\n"
    ) in log_reader.text
