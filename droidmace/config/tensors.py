"""The inputs and outputs of a model in a deployment file."""

from __future__ import annotations

import math
from pathlib import Path

from droidmace.config.paths import beside
from droidmace.config.values import TensorSpec
from droidmace.yamltree import YamlMapping, YamlNode

TENSOR_TYPES = ("float32", "int32", "float16", "bfloat16", "int16", "uint8")
DATA_FORMATS = ("NHWC", "NCHW", "OIHW", "NONE")

MAX_RANK = 8
MAX_DIM = 1 << 20
MAX_ELEMENTS = 1 << 28


def read_tensors(entry: YamlMapping, side: str, path: Path) -> tuple[TensorSpec, ...]:
    """The tensors of one ``side`` (``input`` or ``output``) that stand in ``entry``."""
    names_node = entry.need(f"{side}_tensors")
    names = [item.text() for item in names_node.items()]
    if not names:
        raise names_node.error("at least one tensor is needed")
    if len(set(names)) != len(names):
        raise names_node.error("a tensor is named twice")
    shapes = _shapes(entry.need(f"{side}_shapes"), len(names))
    types = _spread(entry.get(f"{side}_data_types"), len(names), TENSOR_TYPES, "float32")
    formats = _spread(entry.get(f"{side}_data_formats"), len(names), DATA_FORMATS, "NHWC")
    ranges = _ranges(entry.get("input_ranges") if side == "input" else None, len(names))
    data_node = entry.get(f"validation_{side}s_data")
    data = [beside(item, path) for item in data_node.items()] if data_node else []
    if data_node and len(data) != len(names):
        raise data_node.error(f"expected {len(names)} files, found {len(data)}")
    aliases = _aliases(entry.get(f"{side}_aliases"), len(names))
    return tuple(
        TensorSpec(
            name=name,
            shape=shapes[index],
            data_type=types[index],
            data_format=formats[index],
            value_range=ranges[index],
            validation_data=data[index] if data else None,
            alias=aliases[index],
        )
        for index, name in enumerate(names)
    )


def _shapes(node: YamlNode, count: int) -> list[tuple[int, ...]]:
    items = node.items()
    # ``[1, 28, 28, 1]`` for a single tensor is a shape too, not four shapes.
    if node.is_list and count == 1 and len(items) > 1:
        return [_shape(node, [item.text() for item in items])]
    if len(items) != count:
        raise node.error(f"expected {count} shapes, found {len(items)}")
    return [_shape(item, item.text().split(",")) for item in items]


def _shape(node: YamlNode, words: list[str]) -> tuple[int, ...]:
    try:
        shape = tuple(int(word.strip().strip("[]")) for word in words)
    except ValueError as exc:
        raise node.error("expected whole numbers separated by commas, like 1,224,224,3") from exc
    if not 1 <= len(shape) <= MAX_RANK:
        raise node.error(f"a shape has 1 to {MAX_RANK} dimensions, found {len(shape)}")
    elements = 1
    for dim in shape:
        if not 1 <= dim <= MAX_DIM:
            raise node.error(f"a dimension of {dim} is not between 1 and {MAX_DIM}")
        elements *= dim
    if elements > MAX_ELEMENTS:
        raise node.error(f"{elements} elements are more than {MAX_ELEMENTS}")
    return shape


def _spread(node: YamlNode | None, count: int, allowed: tuple[str, ...], default: str) -> list[str]:
    """One word per tensor; a single word goes for all, as in MACE's tools."""
    if node is None:
        return [default] * count
    words = [item.one_of(allowed) for item in node.items()]
    if len(words) == 1:
        return words * count
    if len(words) != count:
        raise node.error(f"expected {count} values, found {len(words)}")
    return words


def _ranges(node: YamlNode | None, count: int) -> list[tuple[float, float] | None]:
    """One range per tensor; a single one goes for all, as in MACE's tools."""
    if node is None:
        return [None] * count
    ranges: list[tuple[float, float] | None] = [_range(item) for item in node.items()]
    if len(ranges) == 1:
        return ranges * count
    if len(ranges) != count:
        raise node.error(f"expected {count} ranges, found {len(ranges)}")
    return ranges


def _range(node: YamlNode) -> tuple[float, float]:
    words = node.text().split(",")
    try:
        low, high = (float(word) for word in words)
    except ValueError as exc:
        raise node.error("expected two numbers separated by a comma, like -1.0,1.0") from exc
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise node.error(f"{low:g} to {high:g} is not a range: finite numbers, lower one first")
    return low, high


def _aliases(node: YamlNode | None, count: int) -> list[str | None]:
    if node is None:
        return [None] * count
    aliases: list[str | None] = [item.text() for item in node.items()]
    if len(aliases) != count:
        raise node.error(f"expected {count} aliases, found {len(aliases)}")
    if len(set(aliases)) != count:
        raise node.error("an alias is given twice")
    return aliases
