"""The example's net, and ops of it made wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from droidmace.formats.netdef import Argument, OperatorDef, parse_model
from droidmace.formats.op_types import EltwiseType

FASHION = Path(__file__).parents[2] / "examples" / "fashion_mnist" / "fashion_mnist"
GRAPH = parse_model(FASHION.with_suffix(".pb").read_bytes())
WEIGHTS = FASHION.with_suffix(".data").read_bytes()
OPS = GRAPH.nets[0].ops
FACTOR = 3.0
"""Scores of the net change visibly, whichever op is off by so much."""


def spoilt(op: OperatorDef) -> tuple[OperatorDef, OperatorDef]:
    """The op with a multiplication behind it."""
    raw = f"{op.outputs[0]}_raw"
    args = (
        Argument(name="type", i=int(EltwiseType.PROD)),
        Argument(name="scalar_input", f=FACTOR),
        Argument(name="scalar_input_index", i=1),
    )
    spoiler = OperatorDef(type="Eltwise", name=raw, inputs=(raw,), outputs=op.outputs, args=args)
    return replace(op, outputs=(raw,)), spoiler
