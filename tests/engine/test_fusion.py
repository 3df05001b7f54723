"""Which additions are drawn into the convolution before them, and which must not be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_models import argument, op

from droidmace.engine.fusion import fuse_residuals, has_residual
from droidmace.formats.netdef import InputOutputInfo, NetDef, OperatorDef, OutputShape

_SHAPE = (1, 4, 4, 8)


def _shaped(made: OperatorDef, shape: tuple[int, ...] = _SHAPE) -> OperatorDef:
    return replace(made, output_shapes=(OutputShape(dims=shape),))


def _conv(source: str, output: str, **arguments: str) -> OperatorDef:
    return _shaped(op("Conv2D", [source, f"{output}_w", f"{output}_b"], output, **arguments))


def _add(one: str, other: str, output: str, **arguments: float) -> OperatorDef:
    return _shaped(op("Eltwise", [one, other], output, type=0, **arguments))


def _fuse(*ops: OperatorDef, outputs: tuple[str, ...] = ("y",)) -> list[OperatorDef]:
    net = NetDef(
        ops=ops,
        input_infos=(InputOutputInfo(name="x", dims=_SHAPE),),
        output_infos=tuple(InputOutputInfo(name=name) for name in outputs),
    )
    return list(fuse_residuals(net, lambda made: made.type == "Conv2D"))


@pytest.mark.parametrize("summands", [("c", "x"), ("x", "c")])
def test_an_addition_becomes_part_of_the_convolution(summands: tuple[str, str]) -> None:
    (fused,) = _fuse(_conv("x", "c"), _add(*summands, "y"))
    assert fused.name == "c_op"
    assert fused.inputs == ("x", "c_w", "c_b", "x")
    assert fused.outputs == ("y",)
    assert has_residual(fused)


def test_the_activation_after_it_follows() -> None:
    after = _shaped(op("Activation", ["s"], "y", activation="RELUX", max_limit=6.0))
    (fused,) = _fuse(_conv("x", "c"), _add("c", "x", "s"), after)
    assert fused.outputs == ("y",)
    assert fused.str_arg("activation") == "RELUX"
    assert fused.float_arg("max_limit") == 6.0


def test_of_two_convolutions_the_later_takes_the_sum_and_waits_for_the_other() -> None:
    one, other = _fuse(_conv("x", "a"), _conv("x", "b"), _add("b", "a", "y"))
    assert one.outputs == ("a",)
    assert other.inputs == ("x", "b_w", "b_b", "a")
    # the other summand is made after the convolution
    *_, last = _fuse(
        _conv("x", "c"),
        _shaped(op("Activation", ["x"], "r", activation="RELU")),
        _add("c", "r", "y"),
    )
    assert last.inputs[-1] == "r"
    assert last.outputs == ("y",)


def test_a_chain_of_additions_takes_one_each() -> None:
    first, second = _fuse(
        _conv("x", "a"), _add("a", "x", "s"), _conv("s", "b"), _add("b", "s", "y")
    )
    assert (first.outputs, second.outputs) == (("s",), ("y",))
    assert second.inputs == ("s", "b_w", "b_b", "s")


@pytest.mark.parametrize(
    "ops",
    [
        [_conv("x", "c", activation="RELU"), _add("c", "x", "y")],
        [_conv("x", "c"), _add("c", "x", "y", coeff=(1.0, 2.0))],
        [_conv("x", "c"), _add("c", "c", "y")],
        [_conv("x", "c"), _shaped(op("Eltwise", ["c", "x"], "y", type=1))],
        [_conv("x", "c"), _shaped(op("Eltwise", ["c"], "y", type=0, scalar_input=1.0))],
        [_shaped(_conv("x", "c"), (1, 1, 1, 8)), _add("c", "x", "y")],
        [replace(_conv("x", "c"), output_shapes=()), _add("c", "x", "y")],
        [_shaped(op("Pooling", ["x"], "c")), _add("c", "x", "y")],
        [_conv("x", "c"), _add("c", "x", "s"), _add("c", "s", "y")],
    ],
)
def test_what_stays_as_it_is(ops: list[OperatorDef]) -> None:
    assert _fuse(*ops) == ops


def test_an_output_of_the_net_is_kept() -> None:
    ops = [_conv("x", "c"), _add("c", "x", "y")]
    assert _fuse(*ops, outputs=("c", "y")) == ops
    prelu = replace(op("Activation", ["s", "slopes"], "y", activation="PRELU"))
    *_, last = _fuse(_conv("x", "c"), _add("c", "x", "s"), prelu)
    assert last == prelu
    relu = op("Activation", ["s"], "y", activation="RELU")
    *_, last = _fuse(_conv("x", "c"), _add("c", "x", "s"), relu, outputs=("s", "y"))
    assert last == relu


def test_other_arguments_stay() -> None:
    conv = replace(
        _conv("x", "c"), args=(argument("strides", (2, 2)), argument("activation", "NOOP"))
    )
    after = op("Activation", ["s"], "y", activation="RELU")
    (fused,) = _fuse(conv, _add("c", "x", "s"), after)
    assert fused.ints_arg("strides") == (2, 2)
    assert [arg.name for arg in fused.args].count("activation") == 1
