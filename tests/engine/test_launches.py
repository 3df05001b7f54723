"""Commands prepared once: the same results as one by one, and errors that are told."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyopencl as cl
import pytest
from engine_harness import DRIVERS, LogReader
from engine_models import in_memory, make_gpu, model, op
from pyopencl import _cl

from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.macelog import MaceLog, StdioStream
from droidmace.engine.net import OpTiming
from droidmace.engine.opencl.kernel import Kernel
from droidmace.engine.opencl.launches import LaunchList
from droidmace.errors import EngineError
from droidmace.formats.netdef import MemoryType

_SOURCE = "__kernel void add(__global int *x, int step) { x[get_global_id(0)] += step; }"


# Intel's compiler has something to say about every program
pytestmark = pytest.mark.filterwarnings("ignore:Non-empty compiler output")


@pytest.fixture(params=DRIVERS)
def device(request: pytest.FixtureRequest, opencl_devices: dict[str, cl.Device]) -> cl.Device:
    return opencl_devices[request.param]


def _kernel(context: cl.Context, values: cl.Buffer, step: int) -> Kernel:
    program = _cl._Program(context, _SOURCE)
    program._build(b"", context.devices)
    kernel = Kernel(program, "add")
    kernel.set_args([values, step])
    return kernel


def test_all_commands_run_in_order_with_their_offsets(device: cl.Device) -> None:
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    values = np.zeros(8, np.int32)
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, values.nbytes)
    cl.enqueue_copy(queue, buffer, values)
    launches = LaunchList(
        queue,
        [
            (_kernel(context, buffer, 1), ((0,), (8,), (4,))),
            (_kernel(context, buffer, 10), ((4,), (4,), (2,))),
        ],
    )
    launches.enqueue()
    launches.enqueue()
    cl.enqueue_copy(queue, values, buffer)
    assert values.tolist() == [2, 2, 2, 2, 22, 22, 22, 22]


def test_a_refused_command_is_an_error_with_its_code(device: cl.Device) -> None:
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, 64)
    launches = LaunchList(queue, [(_kernel(context, buffer, 1), ((0,), (1 << 20,), (1 << 20,)))])
    with pytest.raises(cl.Error) as caught:
        launches.enqueue()
    assert caught.value.code == cl.status_code.INVALID_WORK_GROUP_SIZE


@pytest.fixture
def quiet_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaceLog]:
    """A log that is not verbose: a verbose one looks at each command."""
    with (tmp_path_factory.mktemp("log") / "log.txt").open("wb") as stream:
        yield MaceLog(StdioStream(stream.fileno()), verbosity=0, abort=pytest.fail)


def test_later_runs_of_a_net_give_what_the_first_gave(
    device: cl.Device, quiet_log: MaceLog, log_reader: LogReader
) -> None:
    layers = [
        op("Activation", ["x"], "a", activation="SIGMOID"),
        op("Eltwise", ["a", "x"], "y", type=0),
    ]
    made = model(layers, {"x": (1, 3, 5, 6)}, ["y"])
    values = np.random.default_rng(3).standard_normal((1, 3, 5, 6), dtype=np.float32)
    net = GpuNet(made, make_gpu(device, quiet_log))
    first = net.run({"x": values})["y"]
    other = net.run({"x": values + 1})["y"]
    again = net.run({"x": values})["y"]
    np.testing.assert_array_equal(first, again)
    expected = values + 1 + 1 / (1 + np.exp(-values - 1))
    np.testing.assert_allclose(other, expected, rtol=1e-5)
    # a verbose log tells the parameters of every kernel, so it looks at each command
    watched = GpuNet(made, make_gpu(device, log_reader.log))
    np.testing.assert_array_equal(watched.run({"x": values})["y"], first)


@pytest.mark.parametrize("channels", [16, 5])
@pytest.mark.parametrize("width", [1, 3])
def test_an_output_without_gaps_is_read_where_it_lies(
    device: cl.Device, quiet_log: MaceLog, channels: int, width: int
) -> None:
    shape = (1, 1, width, channels)
    relu = op("Activation", ["x"], "y", activation="RELU")
    made = in_memory(model([relu], {"x": shape}, ["y"]), MemoryType.GPU_BUFFER)
    values = np.random.default_rng(5).standard_normal(shape, dtype=np.float32)
    net = GpuNet(made, make_gpu(device, quiet_log))
    timings: list[OpTiming] = []
    for _ in range(2):
        np.testing.assert_array_equal(net.run({"x": values})["y"], np.maximum(values, 0))
    net.run({"x": values}, timings)
    transforms = [timing.type for timing in timings].count("BufferTransform")
    assert transforms == (1 if channels == 16 or width == 1 else 2)


def test_a_resident_run_leaves_its_outputs_on_the_device(
    device: cl.Device, quiet_log: MaceLog
) -> None:
    made = model([op("Activation", ["x"], "y", activation="RELU")], {"x": (1, 2, 2, 4)}, ["y"])
    net = GpuNet(made, make_gpu(device, quiet_log))
    with pytest.raises(EngineError, match="no prepared commands"):
        net.run_resident()
    values = np.ones((1, 2, 2, 4), np.float32)
    net.run({"x": values})
    net.run_resident()
    np.testing.assert_array_equal(net.run({"x": -values})["y"], 0 * values)
