"""``MACE_OUT_OF_RANGE_CHECK``: a write beside an image is found, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from engine_harness import AbortedError, LogReader, Phone
from engine_models import Array, in_memory, make_gpu, model, op

from droidmace.engine.gpu_net import GpuNet
from droidmace.engine.opencl.runtime import Gpu
from droidmace.engine.opencl.tensor import ImageMemory
from droidmace.engine.opencl.weights import Weights
from droidmace.engine.ops.base import NetContext
from droidmace.engine.ops.pointwise import Activation
from droidmace.formats.netdef import MemoryType


@pytest.fixture
def checking(driver: str, opencl_devices: dict[str, object], log_reader: LogReader) -> Gpu:
    """A device that checks."""
    made = make_gpu(opencl_devices[driver], log_reader.log)
    return Gpu(made.device, made.programs, made.tuner, log_reader.log, check_range=True)


def _values(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


def test_a_write_beside_an_image_is_told(checking: Gpu, log_reader: LogReader) -> None:
    """Three pixels of two blocks need an image of 6x1; the last does not fit into 5x1."""
    layer = op("Activation", ["x"], "y", activation="RELU")
    memory = ImageMemory(checking, half=False)
    net = model([layer], {"x": (1, 1, 3, 8)}, ["y"]).net
    made = Activation(layer, NetContext(checking, Weights(memory, {}), net, memory))
    shape = made.output_shape({"x": (1, 1, 3, 8)})
    source = memory.activation(shape, memory.allocate((6, 1)))
    fits = memory.activation(shape, memory.allocate((6, 1)))
    (right,) = made.bind_single([source], fits)
    checking.run(right)
    (wrong,) = made.bind_single([source], memory.activation(shape, memory.allocate((5, 1))))
    with pytest.raises(AbortedError):
        checking.run(wrong)
    assert "] Check failed: *kerror_code == 0 Kernel error code: 5000000\n" in log_reader.text


@pytest.mark.parametrize("memory", [MemoryType.GPU_IMAGE, MemoryType.GPU_BUFFER])
def test_kernels_write_where_they_should(checking: Gpu, memory: MemoryType) -> None:
    """Sizes that no work-group divides, in a net with weights, several outputs and scratch."""
    ops = [
        op("Conv2D", ["x", "w", "b"], "a", strides=(1, 1), padding_values=(2, 2)),
        op("Concat", ["x", "a"], "b2", axis=3),
        op("ResizeBilinear", ["b2"], "c", size=(19, 9)),
        op("Reduce", ["c"], "y", axis=(1, 2), keepdims=1),
    ]
    constants = {"w": _values(7, 5, 3, 3), "b": _values(7)}
    made = in_memory(model(ops, {"x": (1, 7, 9, 5)}, ["y"], constants), memory)
    (found,) = GpuNet(made, checking).run({"x": _values(1, 7, 9, 5)}).values()
    assert found.shape == (1, 1, 1, 12)


def test_the_variable_turns_it_on(phone: Phone) -> None:
    done = phone.run("--round=1", MACE_OUT_OF_RANGE_CHECK="1")
    assert done.returncode == 0
    assert all(" -DOUT_OF_RANGE_CHECK " in key for key in done.routes())
