"""Pooling with a kernel of its own, for CPU drivers with activations in buffers."""

from __future__ import annotations

from collections.abc import Sequence

from droidmace.engine.attributes import nhwc
from droidmace.engine.opencl.runtime import Dispatch
from droidmace.engine.opencl.tensor import Tensor
from droidmace.engine.ops.aggregate import POOL_AVERAGE, Pooling
from droidmace.engine.ops.base import shape_key
from droidmace.engine.ops.buffer_wide import LANES, bind_wide


class BufferPooling(Pooling):
    """Maximum or average over a window; of few channels as on any device."""

    def bind_single(self, inputs: Sequence[Tensor], output: Tensor) -> list[Dispatch]:
        """See :class:`SingleOutputOp`."""
        if output.stride < LANES:
            return super().bind_single(inputs, output)
        batch, height, _, channels = nhwc(output.shape)
        window = self.window
        return [
            bind_wide(
                self.gpu,
                "buffer_pooling",
                "buffer_pooling",
                options=("-DPOOL_AVG",) if self.kind == POOL_AVERAGE else (),
                arguments=(
                    inputs[0],
                    output,
                    nhwc(inputs[0].shape)[1],
                    height,
                    *window.kernel,
                    *window.stride,
                    self.padding[0] // 2,
                    self.padding[1] // 2,
                    *window.dilation,
                ),
                key=shape_key("pooling_opencl_kernel_", *nhwc(output.shape)),
                gws=(-(-channels // LANES), 1, batch * height),
            )
        ]
