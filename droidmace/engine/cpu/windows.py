"""Windows that slide over an image: padding, and a view of every window."""

from __future__ import annotations

import numpy as np

from droidmace.engine.attributes import Window
from droidmace.engine.cpu.base import Array, pad_array


def padded(x: Array, window: Window, fill: float, *, ceil: bool = False) -> tuple[Array, Array]:
    """NHWC ``x`` with what lies outside of it filled, as far as any window reaches.

    Returns it with the output's (height, width).
    """
    size = (x.shape[1], x.shape[2])
    out, total = window.slide(size, ceil=ceil)
    pads = []
    for i in (0, 1):
        extent = (window.kernel[i] - 1) * window.dilation[i] + 1
        before = total[i] // 2
        reach = (out[i] - 1) * window.stride[i] + extent - before
        pads.append((before, max(reach - size[i], 0)))
    if any(max(pair) for pair in pads):
        x = pad_array(x, [(0, 0), *pads, (0, 0)], fill)
    return x, np.array(out)


def taps(x: Array, window: Window, out: Array) -> list[Array]:
    """For each place in the window, row by row, what lies under it in all windows of padded ``x``.

    Each is a view of shape [N, out height, out width, C].
    """
    views = []
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            top, left = i * window.dilation[0], j * window.dilation[1]
            rows = slice(top, top + (int(out[0]) - 1) * window.stride[0] + 1, window.stride[0])
            columns = slice(left, left + (int(out[1]) - 1) * window.stride[1] + 1, window.stride[1])
            views.append(x[:, rows, columns])
    return views


def all_windows(x: Array, window: Window, out: Array) -> Array:
    """Every window of padded ``x`` as a view of shape [N, OH, OW, KH, KW, C]."""
    n, h, w, c = x.strides
    (sh, sw), (dh, dw) = window.stride, window.dilation
    return np.lib.stride_tricks.as_strided(
        x,
        (x.shape[0], int(out[0]), int(out[1]), *window.kernel, x.shape[3]),
        (n, h * sh, w * sw, h * dh, w * dw, c),
        writeable=False,
    )
