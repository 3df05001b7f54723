"""What the story needs of a net, whichever runtime it runs on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from droidmace.engine.attributes import Shape
from droidmace.engine.macelog import MaceLog, format_float
from droidmace.formats.netdef import OperatorDef

Array = npt.NDArray[np.float32]


_RANGE_AT = "core/net/serial_net.cc:199"
_WINDOW_OPS = ("Conv2D", "Deconv2D", "DepthwiseConv2d", "DepthwiseDeconv2d", "Pooling")


@dataclass(frozen=True, slots=True)
class OpTiming:
    """One op's share of a run, for the statistics tables.

    Times in microseconds on one clock; ``kernels`` is the filter's shape, the window's, or that of
    a MatMul's first operand. ``other_shapes`` are those of the outputs behind the first.
    """

    name: str
    type: str
    start_us: int
    end_us: int
    output_shape: Shape
    strides: tuple[int, ...] = ()
    paddings: tuple[int, ...] = ()
    padding_type: int = -1
    dilations: tuple[int, ...] = ()
    kernels: tuple[int, ...] = ()
    other_shapes: tuple[Shape, ...] = ()


def timing_of(
    op: OperatorDef,
    start_us: int,
    end_us: int,
    output_shape: Shape,
    filter_shape: Shape,
    *,
    input_shape: Shape = (),
    other_shapes: tuple[Shape, ...] = (),
) -> OpTiming:
    """An op's timing with the arguments that MACE's tables show for its type.

    Source: ``SerialNet::Run`` in ``mace/core/net/serial_net.cc``.
    """
    windowed = op.type in _WINDOW_OPS
    if op.type == "Pooling":
        kernels = op.ints_arg("kernels")
    elif op.type == "MatMul":
        kernels = input_shape
        if op.int_arg("transpose_a") and len(kernels) > 1:
            kernels = (*kernels[:-2], kernels[-1], kernels[-2])
    else:
        kernels = filter_shape if windowed or op.type == "FullyConnected" else ()
    return OpTiming(
        name=op.name,
        type=op.type,
        start_us=start_us,
        end_us=end_us,
        output_shape=output_shape,
        strides=op.ints_arg("strides") if windowed else (),
        paddings=op.ints_arg("padding_values") if windowed else (),
        padding_type=op.int_arg("padding", -1) if windowed else -1,
        dilations=op.ints_arg("dilations") if windowed else (),
        kernels=kernels,
        other_shapes=other_shapes,
    )


def log_range(log: MaceLog, name: str, values: Array) -> None:
    """The line of ``MACE_LOG_TENSOR_RANGE``, from which quantization takes its ranges."""
    low, high = float(values.min()), float(values.max())
    log.info(
        _RANGE_AT,
        f"Tensor range @@{name}@@{format_float(low)},{format_float(high)}",
    )


class Net(ABC):
    """A net that is ready to run. Activations go in and out as NHWC arrays (or of other ranks)."""

    runtimes: tuple[str, ...]
    """What it runs on, as MACE prints it."""

    @abstractmethod
    def run(
        self, inputs: Mapping[str, Array], timings: list[OpTiming] | None = None
    ) -> dict[str, Array]:
        """Run once; append each op's timing to ``timings``. Raises ``EngineError``."""

    def begin(self, inputs: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        """Begin a run; the call that comes back waits for its outputs.

        At most one more may be begun before that, and ``inputs`` must stay as they are until then.
        Both raise ``EngineError``. A net that cannot work beside the caller is through at once.
        """
        outputs = self.run(inputs)
        return lambda: outputs

    @abstractmethod
    def prepare(self) -> None:
        """``--fake_warmup``: compile everything without running. Raises ``EngineError``."""
