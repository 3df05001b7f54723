"""Keys find their ops through MACE's log, and only where the log says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from droidmace.formats.obfuscation import obfuscate_symbol
from droidmace.formats.store_keys import QUEUE_WINDOW_SIZE_KEY
from droidmace.macerun.op_keys import KeyGroup, OpKeyReader, group_keys, raw_keys
from droidmace.macerun.output import OutputParser


def read(*texts: str) -> dict[str, tuple[str, ...]]:
    parser, reader = OutputParser(), OpKeyReader()
    for line in parser.feed("".join(f"{text}\n" for text in texts).encode()):
        reader.line(line)
    return reader.keys_by_op


def ran(key: str) -> str:
    return f"I mace/utils/tuner.h:113] {key}: [4, 4, 4, 0]"


def op(name: str) -> str:
    return f"I mace/core/net/serial_net.cc:182] Operator {name} has shape: [1, 2, 2, 4]"


WARMUP = "I mace/tools/mace_run.cc:550] Warm up run"
RUN = "I mace/tools/mace_run.cc:600] Run model"


def test_keys_belong_to_the_op_that_follows_them() -> None:
    found = read(
        ran("filter_buffer_to_image_[16, 3]"),
        WARMUP,
        ran("conv_a"),
        op("conv 1/x:0"),
        op("reshape"),
        ran("transform_b"),
        ran("matmul_b"),
        op("winograd"),
        RUN,
        ran("conv_a"),
        op("conv 1/x:0"),
        ran("late"),
        op("reshape"),
        ran("no op follows"),
    )
    assert found == {
        "conv 1/x:0": ("conv_a",),
        "winograd": ("transform_b", "matmul_b"),
        "reshape": ("late",),
    }


def test_inference_that_failed_tells_nothing_of_the_next_op() -> None:
    retry = "E mace/tools/mace_run.cc:555] Warmup runtime error, retry ... errcode: x"
    assert read(WARMUP, ran("a"), retry, op("conv")) == {}


def test_lines_of_other_sources_are_not_keys() -> None:
    assert read(WARMUP, "I mace/core/x.cc:1] conv_a: [4, 4]", op("conv")) == {}


def test_shared_keys_make_one_group() -> None:
    keys = {"a": ("k1",), "b": ("k1", "k2"), "c": ("k3",), "d": ("k2",)}
    assert group_keys(keys, ["c", "a", "b", "d"]) == [
        KeyGroup(("k3",), ("c",)),
        KeyGroup(("k1", "k2"), ("a", "b", "d")),
    ]


def test_key_of_an_op_without_a_time_is_left_alone() -> None:
    keys = {"a": ("k1",), "hidden": ("k1",), "b": ("k2",)}
    assert group_keys(keys, ["a", "b"]) == [KeyGroup(("k2",), ("b",))]


def test_raw_keys_are_those_of_the_file() -> None:
    plain, hidden = "conv2d_1x1_opencl_kernel_1_8_8_16", "softmax_opencl_kernel_1_1_1_10"
    in_file = [plain, obfuscate_symbol(hidden), QUEUE_WINDOW_SIZE_KEY]
    assert obfuscate_symbol(hidden) != hidden
    assert raw_keys([plain, hidden, "unknown", QUEUE_WINDOW_SIZE_KEY], in_file) == {
        plain: plain,
        hidden: obfuscate_symbol(hidden),
    }


NAMES = st.text("abc_/:. 12", min_size=1, max_size=8).filter(lambda name: name == name.strip())


@given(st.dictionaries(NAMES, st.lists(NAMES.map("k{}".format), unique=True, max_size=4)))
def test_any_net_is_read_back(net: dict[str, list[str]]) -> None:
    lines = [text for name, keys in net.items() for text in (*map(ran, keys), op(name))]
    found = read(WARMUP, *lines, RUN, *lines)
    assert found == {name: tuple(keys) for name, keys in net.items() if keys}


@given(st.dictionaries(NAMES, st.lists(NAMES.map("k{}".format), min_size=1, max_size=4)))
def test_groups_share_nothing(net: dict[str, list[str]]) -> None:
    groups = group_keys(net, list(net))
    ops = [name for group in groups for name in group.ops]
    keys = [key for group in groups for key in group.keys]
    assert sorted(ops) == sorted(net)
    assert len(keys) == len(set(keys)) == len({key for some in net.values() for key in some})
    for group in groups:
        for name in group.ops:
            assert set(net[name]) <= set(group.keys)


@given(st.binary(max_size=300))
def test_foreign_bytes_never_raise(data: bytes) -> None:
    parser, reader = OutputParser(), OpKeyReader()
    for line in [*parser.feed(data), *parser.finish()]:
        reader.line(line)
