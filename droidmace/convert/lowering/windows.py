"""What slides over height and width: kernel, stride, dilation and padding as MACE can say them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from droidmace.convert.graph import Node

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """A window over (height, width) of ``size``; ``before`` and ``after`` are its padding."""

    size: Pair
    kernel: Pair
    strides: Pair
    dilations: Pair
    before: Pair
    after: Pair
    ceil: bool = False

    @classmethod
    def of(cls, node: Node, size: Pair, kernel: Pair) -> Window:
        """From a node's attributes, ``auto_pad`` worked out; a 1-D node slides over the height.

        Raises ``ModelError`` for attributes that make no sense, and for negative padding.
        """
        strides, dilations = _pair(node, "strides"), _pair(node, "dilations")
        # A kernel of one row has no use for a dilation.
        dilations = (
            dilations[0] if kernel[0] > 1 else 1,
            dilations[1] if kernel[1] > 1 else 1,
        )
        before, after = _pads(node, size, kernel, strides, dilations)
        ceil = bool(node.integer("ceil_mode", 0))
        return cls(size, kernel, strides, dilations, before, after, ceil)

    @property
    def extent(self) -> Pair:
        """Rows and columns from the kernel's first to its last."""
        return (
            self.dilations[0] * (self.kernel[0] - 1) + 1,
            self.dilations[1] * (self.kernel[1] - 1) + 1,
        )

    @property
    def output(self) -> Pair:
        """Height and width of the result, as ONNX counts them."""
        return (self._output(0), self._output(1))

    def _output(self, axis: int) -> int:
        padded = self.size[axis] + self.before[axis] + self.after[axis]
        span = padded - self.extent[axis]
        stride = self.strides[axis]
        if not self.ceil:
            return span // stride + 1
        count = -(-span // stride) + 1
        # No window begins in the padding behind the image.
        if (count - 1) * stride >= self.size[axis] + self.before[axis]:
            count -= 1
        return count

    def totals(self) -> Pair | None:
        """``padding_values`` that give this window rounding down, or None.

        MACE pads half of the total, rounded down, before. What is behind only decides how many
        steps there are.
        """
        both = [self._total(axis) for axis in (0, 1)]
        return None if both[0] is None or both[1] is None else (both[0], both[1])

    def _total(self, axis: int) -> int | None:
        early, late = self.before[axis], self.after[axis]
        for total in (early + late, 2 * early, 2 * early + 1):
            span = self.size[axis] + total - self.extent[axis]
            if total // 2 == early and span // self.strides[axis] + 1 == self._output(axis):
                return total
        return None

    def unpadded(self) -> Window:
        """The same window over an image that is padded already."""
        height, width = (self.size[axis] + self.before[axis] + self.after[axis] for axis in (0, 1))
        return Window((height, width), self.kernel, self.strides, self.dilations, (0, 0), (0, 0))


def kernel_of(node: Node, shape: tuple[int, ...]) -> Pair:
    """A kernel of one or two dimensions as (h, w)."""
    if len(shape) not in {1, 2} or min(shape) < 1:
        raise node.refuse(
            f"a window of {len(shape)} dimensions, {shape}; MACE's have height and width"
        )
    return (shape[0], shape[1] if len(shape) == 2 else 1)


def _pair(node: Node, attribute: str) -> Pair:
    values = node.ints(attribute) or (1, 1)
    if len(values) not in {1, 2} or not all(1 <= value < 1 << 31 for value in values):
        raise node.refuse(f"{attribute} {values} are not two positive numbers of 32 bits")
    return (values[0], values[1] if len(values) == 2 else 1)


def _pads(
    node: Node, size: Pair, kernel: Pair, strides: Pair, dilations: Pair
) -> tuple[Pair, Pair]:
    """Padding (h, w) before and after."""
    automatic = node.text("auto_pad", "NOTSET")
    if automatic in {"NOTSET", "VALID"}:
        pads = (node.ints("pads") if automatic == "NOTSET" else None) or (0, 0, 0, 0)
        if len(pads) == 2:
            pads = (pads[0], 0, pads[1], 0)
        if len(pads) != 4 or min(pads) < 0:
            raise node.refuse("negative padding crops; MACE cannot")
        return (pads[0], pads[1]), (pads[2], pads[3])
    if automatic not in {"SAME_UPPER", "SAME_LOWER"}:
        raise node.refuse(f"auto_pad {automatic!r} is unknown")
    if dilations != (1, 1) and node.op_type != "Conv":
        raise node.refuse(
            f"auto_pad {automatic} of a dilated window, on which runtimes disagree",
            hint="export the model with explicit pads",
        )
    small, large = [], []
    for axis in (0, 1):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        steps = math.ceil(size[axis] / strides[axis]) - 1
        total = steps * strides[axis] + reach - size[axis]
        if total < 0 and node.op_type != "Conv":
            raise node.refuse(
                f"auto_pad {automatic} of a window smaller than its stride would crop",
                hint="export the model with explicit pads",
            )
        total = max(total, 0)
        small.append(total // 2)
        large.append(total - total // 2)
    before, after = (small, large) if automatic == "SAME_UPPER" else (large, small)
    return (before[0], before[1]), (after[0], after[1])
