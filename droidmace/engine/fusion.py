"""Ops that one kernel can do together: a convolution, the addition after it, its activation.

MACE runs the three one after another. Fused, an activation less is written and read again, and a
command or two less are enqueued. The convolution keeps its name, so a profile shows the three as
one op.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from droidmace.formats.netdef import Argument, NetDef, OperatorDef
from droidmace.formats.op_types import EltwiseType

RESIDUAL_ARGUMENT = "droidmace_residual"
"""1 in an op whose last input is to be added before its activation."""
_ACTIVATION_ARGUMENTS = (
    "activation",
    "max_limit",
    "activation_coefficient",
    "hardsigmoid_alpha",
    "hardsigmoid_beta",
)
_Shape = tuple[int, ...]


def fuse_residuals(
    net: NetDef, takes_residual: Callable[[OperatorDef], bool]
) -> tuple[OperatorDef, ...]:
    """The net's ops with additions drawn into the convolutions that they follow.

    A fused convolution has the other summand as its last input, and ``RESIDUAL_ARGUMENT``.
    ``takes_residual`` says which ops know what to do with one. Only additions of two activations
    of one and the same declared shape count, and only where nobody else reads the convolution's
    output.
    """
    uses = Counter(name for op in net.ops for name in op.inputs)
    uses.update(info.name for info in net.output_infos)
    shapes = _declared_shapes(net)
    # by first output, in execution order
    ops: dict[str, OperatorDef] = {}
    for op in net.ops:
        summands = _summands(op, shapes)
        sources = [
            name
            for name in ops
            if name in summands and uses[name] == 1 and _is_plain(ops[name], takes_residual)
        ]
        if sources:
            # the later one; it moves to the addition's place, where the other summand is there
            convolution = ops.pop(sources[-1])
            (other,) = (name for name in summands if name != sources[-1])
            ops[op.outputs[0]] = _with_residual(convolution, other, op.outputs[0])
        elif op.type == "Activation" and _may_follow(op, ops, uses):
            ops[op.outputs[0]] = _with_activation(ops.pop(op.inputs[0]), op)
        else:
            ops[op.outputs[0]] = op
    return tuple(ops.values())


def has_residual(op: OperatorDef) -> bool:
    """Whether the op's last input is to be added to what it computes."""
    return bool(op.int_arg(RESIDUAL_ARGUMENT))


def _declared_shapes(net: NetDef) -> Mapping[str, _Shape]:
    """What the model says about the shapes of its inputs and activations."""
    shapes: dict[str, _Shape] = {info.name: tuple(info.dims) for info in net.input_infos}
    for op in net.ops:
        for name, shape in zip(op.outputs, op.output_shapes, strict=False):
            shapes[name] = tuple(shape.dims)
    return shapes


def _summands(op: OperatorDef, shapes: Mapping[str, _Shape]) -> tuple[str, ...]:
    """The two activations of one shape that ``op`` adds; none if it does anything else."""
    is_sum = op.type == "Eltwise" and op.int_arg("type", -1) == EltwiseType.SUM
    if not is_sum or len(set(op.inputs)) != 2 or len(op.inputs) != 2 or op.floats_arg("coeff"):
        return ()
    if op.str_arg("activation", "NOOP") != "NOOP":
        return ()
    one, other = (shapes.get(name) for name in op.inputs)
    return op.inputs if one is not None and one == other else ()


def _is_plain(op: OperatorDef, takes_residual: Callable[[OperatorDef], bool]) -> bool:
    """Whether nothing happens to the op's result yet, and something may."""
    plain = op.str_arg("activation", "NOOP") == "NOOP" and not has_residual(op)
    return plain and len(op.outputs) == 1 and takes_residual(op)


def _may_follow(
    activation: OperatorDef, ops: Mapping[str, OperatorDef], uses: Mapping[str, int]
) -> bool:
    """Whether the activation can become that of the fused op before it."""
    source = activation.inputs[0] if activation.inputs else ""
    previous = ops.get(source)
    return (
        previous is not None
        and uses[source] == 1
        and has_residual(previous)
        and previous.str_arg("activation", "NOOP") == "NOOP"
        and activation.str_arg("activation", "NOOP") != "PRELU"
    )


def _with_residual(op: OperatorDef, other: str, output: str) -> OperatorDef:
    return replace(
        op,
        inputs=(*op.inputs, other),
        outputs=(output,),
        args=(*op.args, Argument(name=RESIDUAL_ARGUMENT, i=1)),
    )


def _with_activation(op: OperatorDef, activation: OperatorDef) -> OperatorDef:
    kept = (arg for arg in op.args if arg.name not in _ACTIVATION_ARGUMENTS)
    added = (arg for arg in activation.args if arg.name in _ACTIVATION_ARGUMENTS)
    return replace(op, outputs=activation.outputs, args=(*kept, *added))
