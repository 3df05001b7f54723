"""The CPU's pooling, resizing and moving ops, in every order of axes that a model may count."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_harness import AUTO, NCHW, NHWC, NONE, close, cpu_op, noise, onnx_node, to_nchw, to_nhwc
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.errors import EngineError

ORDERS = [
    # data_format, has_data_format, whether axes count NHWC
    (AUTO, 1, True),
    (NHWC, 0, True),
    (AUTO, 0, False),
    (NCHW, 0, False),
    (NONE, 0, False),
]


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(4, 10), st.integers(4, 10)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    totals=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    kind=st.sampled_from([1, 2]),
    ceil=st.integers(0, 1),
)
def test_pooling(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    totals: tuple[int, int],
    kind: int,
    ceil: int,
) -> None:
    """Every window by itself; what lies outside of the image does not count."""
    x = noise(1, 1, *size, 3)
    (y,) = cpu_op(
        "Pooling",
        [x],
        pooling_type=kind,
        kernels=kernel,
        strides=stride,
        padding_values=totals,
        round_mode=ceil,
    )
    spans = [(size[i] + totals[i] - kernel[i]) / stride[i] for i in (0, 1)]
    assert y.shape[1:3] == tuple(int(np.ceil(s) if ceil else np.floor(s)) + 1 for s in spans)
    for i, j in np.ndindex(y.shape[1:3]):
        top, left = i * stride[0] - totals[0] // 2, j * stride[1] - totals[1] // 2
        seen = x[0, max(top, 0) : top + kernel[0], max(left, 0) : left + kernel[1]].reshape(-1, 3)
        if len(seen):
            close(y[0, i, j], seen.max(axis=0) if kind == 2 else seen.mean(axis=0))


def test_pooling_rounds_up_unless_it_is_told() -> None:
    x = noise(1, 1, 5, 5, 1)
    window = {"kernels": (2, 2), "strides": (2, 2), "padding_values": (0, 0)}
    assert cpu_op("Pooling", [x], **window)[0].shape == (1, 3, 3, 1)
    assert cpu_op("Pooling", [x], round_mode=0, **window)[0].shape == (1, 2, 2, 1)


def test_global_pooling() -> None:
    x = noise(1, 2, 5, 4, 3)
    (y,) = cpu_op("Pooling", [x], kernels=(5, 4), padding_values=(0, 0), round_mode=0)
    close(y, x.mean(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("out", [(8, 10), (3, 3), (1, 1), (4, 13)])
@pytest.mark.parametrize("mode", ["align_corners", "pytorch_half_pixel", "half_pixel"])
@pytest.mark.parametrize("kind", ["ResizeBilinear", "ResizeBicubic"])
def test_resize(kind: str, mode: str, out: tuple[int, int]) -> None:
    x = noise(1, 1, 4, 5, 2)
    if mode == "half_pixel":
        arguments = {"coordinate_transformation_mode": 1}
    elif mode == "align_corners":
        arguments = {"align_corners": 1}
    else:
        arguments = {"coordinate_transformation_mode": 2}
    (y,) = cpu_op(kind, [x], size=out, **arguments)
    attributes: dict[str, object] = {
        "mode": "linear" if kind == "ResizeBilinear" else "cubic",
        "coordinate_transformation_mode": mode,
        # at half pixels MACE has TensorFlow's kernel, else PyTorch's
        "cubic_coeff_a": -0.5 if mode == "half_pixel" else -0.75,
        "exclude_outside": int(kind == "ResizeBicubic" and mode == "half_pixel"),
    }
    sizes = np.array([1, 2, *out], np.int64)
    (expected,) = onnx_node("Resize", [to_nchw(x), None, None, sizes], attributes)
    # MACE's cubic weights come from a table of 1024 steps
    atol = 1e-4 if kind == "ResizeBilinear" else 5e-3
    close(y, to_nhwc(expected), atol=atol)


@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.5, 3.0), (0.5, 0.75)])
@pytest.mark.parametrize("rounding", ["floor", "round_prefer_floor"])
def test_resize_nearest(rounding: str, scales: tuple[float, float]) -> None:
    x = noise(1, 1, 4, 8, 2)
    (y,) = cpu_op(
        "ResizeNearestNeighbor",
        [x],
        height_scale=scales[0],
        width_scale=scales[1],
        nearest_mode=rounding,
    )
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": rounding,
    }
    given = np.array([1, 1, *scales], np.float32)
    close(y, to_nhwc(onnx_node("Resize", [to_nchw(x), None, given], attributes)[0]))


def test_resize_to_a_size_that_is_an_input() -> None:
    x, size = noise(1, 1, 3, 3, 1), np.array([6, 9], np.int32)
    (y,) = cpu_op("ResizeNearestNeighbor", [x, size])
    close(y, x.repeat(2, axis=1).repeat(3, axis=2))
    (corners,) = cpu_op("ResizeNearestNeighbor", [x, size], align_corners=1)
    close(corners[:, [0, -1]][:, :, [0, -1]], x[:, [0, -1]][:, :, [0, -1]])


def test_resize_to_the_same_size_moves_nothing() -> None:
    x = noise(1, 1, 3, 4, 2)
    for kind in ("ResizeBilinear", "ResizeBicubic", "ResizeNearestNeighbor"):
        close(cpu_op(kind, [x], size=(3, 4))[0], x)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    x = noise(1, 2, 3, 4, 12)
    (y,) = cpu_op("DepthToSpace", [x], block_size=2, mode=mode)
    (expected,) = onnx_node("DepthToSpace", [to_nchw(x)], {"blocksize": 2, "mode": mode})
    close(y, to_nhwc(expected))
    if mode == "DCR":
        close(cpu_op("SpaceToDepth", [y], block_size=2)[0], x)


def test_batches_of_blocks() -> None:
    x = noise(1, 2, 5, 6, 3)
    (blocks,) = cpu_op("SpaceToBatchND", [x], block_shape=(3, 2), paddings=(1, 0, 1, 1))
    assert blocks.shape == (12, 2, 4, 3)
    # the second row of blocks begins at the image's first row
    close(blocks[2 * (1 * 2 + 1)], np.pad(x, ((0, 0), (1, 0), (1, 1), (0, 0)))[0, 1::3, 1::2])
    close(
        cpu_op("BatchToSpaceND", [blocks], block_shape=(3, 2), crops=(1, 0, 1, 1))[0],
        x,
    )


def test_channel_shuffle() -> None:
    x = noise(1, 1, 2, 3, 6)
    (y,) = cpu_op("ChannelShuffle", [x], group=2)
    close(y, x[..., [0, 3, 1, 4, 2, 5]])


def test_image_patches() -> None:
    x = noise(1, 1, 4, 5, 2)
    (y,) = cpu_op("ExtractImagePatches", [x], kernels=(2, 3), strides=(1, 2), padding=0)
    assert y.shape == (1, 3, 2, 12)
    close(y[0, 1, 1], x[0, 1:3, 2:5].ravel())


@pytest.mark.parametrize(("order", "has", "nhwc"), ORDERS)
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concat_and_split(order: int, has: int, nhwc: bool, axis: int) -> None:
    x = noise(1, 2, 3, 4, 6)
    place = {"data_format": order, "has_data_format": has, "axis": axis}
    turned = axis if nhwc else [0, 3, 1, 2][axis]
    (y,) = cpu_op("Concat", [x, 2 * x, x], constants=(), **place)
    close(y, np.concatenate([x, 2 * x, x], turned))
    sizes = np.array([1, x.shape[turned] - 1], np.int32)
    parts = cpu_op("Split", [x, sizes], outputs=2, **place)
    for part, expected in zip(parts, np.split(x, [1], turned), strict=True):
        close(part, expected)
    thirds = cpu_op("Split", [y], outputs=3, **place)
    close(thirds[1], 2 * x)


def test_constant_in_concat_lies_as_nchw() -> None:
    x, constant = noise(1, 1, 2, 3, 4), noise(2, 1, 2, 3, 5)
    place = {"data_format": AUTO, "has_data_format": 1, "axis": 3}
    (y,) = cpu_op("Concat", [x, to_nchw(constant)], **place)
    close(y, np.concatenate([x, constant], 3))


@pytest.mark.parametrize(("order", "has", "nhwc"), ORDERS)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_pad(order: int, has: int, nhwc: bool, kind: int) -> None:
    x = noise(1, 1, 4, 5, 3)
    pads = (0, 0, 1, 2, 2, 0, 1, 1)
    (y,) = cpu_op(
        "Pad",
        [x],
        paddings=pads,
        pad_type=kind,
        constant_value=1.5,
        data_format=order,
        has_data_format=has,
    )
    pairs = [pads[i : i + 2] for i in range(0, 8, 2)]
    values = x if nhwc else to_nchw(x)
    mode = ("constant", "reflect", "symmetric")[kind]
    extra = {"constant_values": 1.5} if kind == 0 else {}
    expected = np.pad(values, pairs, mode=mode, **extra)
    close(y, expected if nhwc else to_nhwc(expected))


@pytest.mark.parametrize("order", [NCHW, AUTO, NONE])
def test_slice_and_transpose_count_nchw(order: int) -> None:
    """Even with ``has_data_format``: these ops do not look at it."""
    x = noise(1, 1, 4, 5, 6)
    place = {"data_format": order, "has_data_format": 1}
    (part,) = cpu_op("Slice", [x], axes=(1,), starts=(1,), ends=(-1,), **place)
    close(part, x[..., 1:-1])
    (turned,) = cpu_op("Transpose", [x], dims=(0, 1, 3, 2), **place)
    close(turned, x.transpose(0, 2, 1, 3))


def test_formatless_op_in_a_gpu_net_counts_nhwc() -> None:
    x = noise(1, 1, 4, 5, 6)
    (y,) = cpu_op("Slice", [x], on_gpu=True, axes=(1,), starts=(1,), ends=(3,), data_format=NONE)
    close(y, x[:, 1:3])


def test_slice_of_several_axes_with_inputs() -> None:
    x = noise(1, 6, 7, 8)
    lists = [[1, -5], [100, -1], [0, 1], [2, 3]]
    inputs = [np.array(values, np.int32) for values in lists]
    close(cpu_op("Slice", [x, *inputs])[0], x[1:100:2, -5:-1:3])


def test_strided_slice() -> None:
    x = noise(1, 4, 5, 6)
    begin, end, strides = (np.array(v, np.int32) for v in ([1, -1, 2], [9, 0, 3], [2, -2, 1]))
    (y,) = cpu_op("StridedSlice", [x, begin, end, strides], end_mask=2, shrink_axis_mask=4)
    close(y, x[1:9:2, -1::-2, 2])
    (short,) = cpu_op("StridedSlice", [x, begin[:1], end[:1]], begin_mask=1)
    close(short, x[:9])
    begin, size = np.array([1, 0, 2], np.int32), np.array([2, -1, 3], np.int32)
    close(cpu_op("StridedSlice", [x, begin, size], slice=1)[0], x[1:3, :, 2:5])


@pytest.mark.parametrize(("order", "has", "nhwc"), ORDERS)
def test_flatten_counts_as_mace_holds_values(order: int, has: int, nhwc: bool) -> None:
    """NCHW on the CPU, unless the op takes NHWC without mapping, as TensorFlow's do."""
    x = noise(1, 2, 3, 4, 5)
    flat = x if order == NHWC else to_nchw(x)
    place = {"data_format": order, "has_data_format": has}
    close(cpu_op("Reshape", [x], dim=(2, -1), **place)[0], flat.reshape(2, -1))
    shape = np.array([0, 60], np.int32)
    close(cpu_op("Reshape", [x, shape], **place)[0], flat.reshape(2, -1))
    (image,) = cpu_op("Reshape", [x], dim=(2, 6, 2, 5) if nhwc else (2, 5, 6, 2), **place)
    expected = flat.reshape(2, 6, 2, 5) if order == NHWC else to_nhwc(flat.reshape(2, 5, 6, 2))
    close(image, expected)
    (back,) = cpu_op(
        "Reshape", [flat.reshape(2, -1)], dim=image.shape if nhwc else (2, 5, 6, 2), **place
    )
    close(back, expected)


def test_squeeze_and_its_reverse() -> None:
    x = noise(1, 2, 1, 1, 5)
    mapped = {"data_format": AUTO, "has_data_format": 1}
    close(cpu_op("Squeeze", [x], axis=(1, 2), **mapped)[0], x[:, 0, 0])
    close(cpu_op("Squeeze", [x], axis=(2, 3), data_format=NCHW)[0], x[:, 0, 0])
    close(cpu_op("Unsqueeze", [x[:, 0, 0]], axis=(2, 3), data_format=NCHW)[0], x)
    close(cpu_op("ExpandDims", [x[:, 0]], axis=-1)[0], x[:, 0, :, :, None])


def test_tile_crop_reverse() -> None:
    x = noise(1, 1, 3, 4, 5)
    mapped = {"data_format": AUTO, "has_data_format": 1}
    times = np.array([1, 2, 1, 3], np.int32)
    close(cpu_op("Tile", [x, times], **mapped)[0], np.tile(x, times))
    like = noise(2, 1, 2, 2, 5)
    close(
        cpu_op("Crop", [x, like], constants=(), offset=(-1, 1, 2, -1), **mapped)[0],
        x[:, 1:3, 2:4],
    )
    close(cpu_op("Reverse", [x, np.array([1], np.int32)], data_format=NCHW)[0], x[..., ::-1])


def test_picking_and_stacking() -> None:
    table, places = noise(1, 7, 3), np.array([[0, 6], [-1, 2]], np.int32)
    close(cpu_op("Gather", [table, places], constants=(0,))[0], table[places])
    (column,) = cpu_op("Gather", [table, np.array([2], np.int32)], axis=1)
    close(column, table[:, 2:])
    x, y = noise(2, 2, 3), noise(3, 2, 3)
    (stacked,) = cpu_op("Stack", [x, y], constants=(), axis=-1)
    close(stacked, np.stack([x, y], -1))
    first, second = cpu_op("Unstack", [stacked], outputs=2, axis=2)
    close(first, x)
    close(second, y)
    shape = np.array([2, 3], np.int32)
    (filled,) = cpu_op("Fill", [shape, np.array([1.5], np.float32)], constants=(0, 1))
    close(filled, np.full((2, 3), 1.5, np.float32))


def test_shape_is_of_the_values_as_mace_holds_them() -> None:
    x = noise(1, 1, 3, 4, 5)
    (of_nchw,) = cpu_op("Shape", [x], data_format=NCHW)
    assert of_nchw.tolist() == [1, 5, 3, 4]
    assert of_nchw.dtype == np.int32
    assert cpu_op("Shape", [x], data_format=NHWC)[0].tolist() == [1, 3, 4, 5]


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int) -> None:
    x = np.array([[0, 2], [1, 5]], np.float32)
    (y,) = cpu_op("OneHot", [x], depth=3, axis=axis, on_value=2.0, off_value=-1.0)
    rows = np.where(x[..., None] == np.arange(3), 2, -1).astype(np.float32)
    close(y, np.moveaxis(rows, -1, axis))


@pytest.mark.parametrize(
    ("kind", "shapes", "arguments", "words"),
    [
        ("Concat", [(1, 2), (1, 2, 3)], {"axis": 0}, "inputs"),
        ("Concat", [(1, 2), (1, 3)], {"axis": 4}, "axis 4"),
        ("Pad", [(1, 2, 2, 1)], {"paddings": (0, 0, 1 << 20, 0, 1 << 20, 0, 0, 0)}, "too large"),
        ("Pad", [(1, 2, 2, 1)], {"paddings": (0, 0, 3, 0, 0, 0, 0, 0), "pad_type": 1}, "reflect"),
        ("Reshape", [(2, 3)], {"dim": (4, 2)}, "\\[2, 3\\] to \\[4, 2\\]"),
        ("Reshape", [(2, 3)], {"dim": (1 << 40, 1 << 40)}, "\\[2, 3\\] to"),
        ("Transpose", [(2, 3)], {"dims": (0, 2)}, "dims"),
        ("Slice", [(2, 3)], {"starts": (2,), "ends": (1,), "axes": (1,)}, "output of shape"),
        ("Slice", [(2, 3)], {"starts": (1,), "ends": (2,), "axes": (5,)}, "axis 5"),
        ("DepthToSpace", [(1, 2, 2, 6)], {"block_size": 2}, "block size"),
        ("ResizeBilinear", [(1, 2, 2, 1)], {"size": (1 << 20, 1 << 20)}, "too large"),
        ("ResizeBilinear", [(1, 2, 2, 1)], {"height_scale": 1e30}, "scales"),
        ("ResizeBilinear", [(1, 2, 2, 1)], {}, "size is not constant"),
        ("Pooling", [(1, 2, 2, 1)], {"kernels": (2,)}, "kernels"),
        ("OneHot", [(1 << 10,)], {"depth": 1 << 30}, "too large"),
        ("Unsqueeze", [(2,)], {"axis": (3,)}, "axis 3"),
        ("ExpandDims", [(2,)], {"axis": 7}, "axis 7"),
    ],
)
def test_refusals_name_the_op(
    kind: str, shapes: list[tuple[int, ...]], arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(EngineError, match=f"'the_op' \\({kind}\\).*{words}"):
        cpu_op(kind, [np.ones(shape, np.float32) for shape in shapes], **arguments)  # type: ignore[arg-type]


def test_hostile_values() -> None:
    """Indices and shapes that come as data are checked like arguments."""
    x = noise(1, 3, 2)
    with pytest.raises(EngineError, match="'the_op' \\(Gather\\).*index"):
        cpu_op("Gather", [x, np.array([3], np.int32)])
    with pytest.raises(EngineError, match="'the_op' \\(Tile\\).*too large"):
        cpu_op("Tile", [x, np.array([1 << 30, 1 << 30], np.int32)])
    with pytest.raises(EngineError, match="'the_op' \\(Fill\\)"):
        cpu_op("Fill", [np.array([-1], np.int32), np.ones(1, np.float32)], constants=(0, 1))
    with pytest.raises(EngineError, match="'the_op' \\(Reshape\\)"):
        cpu_op("Reshape", [x, np.array([[2, 3]], np.int32)])
    with pytest.raises(EngineError, match="'the_op' \\(Split\\)"):
        cpu_op("Split", [x, np.array([2, 2], np.int32)], outputs=2, axis=0)
