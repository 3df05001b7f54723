"""Filters of convolutions in groups, arranged for kernels that work on blocks of four channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from droidmace.engine.opencl.tensor import HostArray, blocks


@dataclass(frozen=True, slots=True)
class Groups:
    """``count`` groups, each of ``inputs`` input and ``outputs`` output channels."""

    count: int
    inputs: int
    outputs: int

    def _first_block(self, out_block: int) -> int:
        """The input block in which the group of an output block's first channel begins."""
        return out_block * 4 // self.outputs * self.inputs // 4

    @property
    def span(self) -> int:
        """Input blocks that an output block may see, the same number for all."""
        last = self.count * self.outputs - 1
        return max(
            ((min(block * 4 + 3, last) // self.outputs + 1) * self.inputs - 1) // 4
            - self._first_block(block)
            + 1
            for block in range(blocks(last + 1))
        )

    def spread(self, weights: HostArray) -> HostArray:
        """[outputs, inputs of a group, h, w] to [outputs, 4 * span, h, w].

        Input 0 of an output is the first channel of its output block's first input block; what is
        not of an output's own group weighs nothing.
        """
        outputs, inputs, height, width = weights.shape
        spread = np.zeros((outputs, self.span * 4, height, width), weights.dtype)
        for output in range(outputs):
            start = output // self.outputs * self.inputs - self._first_block(output // 4) * 4
            spread[output, start : start + inputs] = weights[output]
        return spread


def filter_of_multiplier(groups: Groups, weights: HostArray) -> HostArray:
    """A depthwise filter, [multiplier, channels, h, w], as that of a convolution in groups."""
    _, _, height, width = weights.shape
    return groups.spread(weights.swapaxes(0, 1).reshape(-1, 1, height, width))


def filter_of_deconvolution(groups: Groups, weights: HostArray) -> HostArray:
    """[outputs of a group, all inputs, h, w] as the filter of a convolution in groups."""
    _, _, height, width = weights.shape
    parts = weights.reshape(groups.outputs, groups.count, groups.inputs, height, width)
    own = parts.swapaxes(0, 1).reshape(-1, groups.inputs, height, width)
    return groups.spread(own)
