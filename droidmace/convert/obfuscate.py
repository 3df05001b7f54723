"""``obfuscate: 1``: names of ops and tensors that tell nothing.

Names are made as MACE's ``tools/python/encrypt.py`` makes them: the first 8 hexadecimal digits of
the MD5 of a kind (``tensor``, ``op``, ``in`` or ``out``) and the old name, all 32 where two agree
in the first 8. Inputs and outputs of the net keep their names: users feed and read those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from droidmace.formats.netdef import NetDef

_SHORT = 8


def obfuscate(net: NetDef) -> NetDef:
    """The same net under other names."""
    border = {info.name for info in (*net.input_infos, *net.output_infos)}
    taken = set(border)
    tensors = {tensor.name: _new_name("tensor", tensor.name, taken) for tensor in net.tensors}
    ops: list[str] = []
    for op in net.ops:
        ops.append(_new_name("op", op.name, taken))
        for kind, names in (("in", op.inputs), ("out", op.outputs)):
            for name in names:
                if name not in tensors:
                    tensors[name] = _new_name(kind, name, taken)
    tensors.update({name: name for name in border})

    def renamed(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(tensors[name] for name in names)

    return replace(
        net,
        ops=tuple(
            replace(op, name=name, inputs=renamed(op.inputs), outputs=renamed(op.outputs))
            for op, name in zip(net.ops, ops, strict=True)
        ),
        tensors=tuple(replace(tensor, name=tensors[tensor.name]) for tensor in net.tensors),
    )


def _new_name(kind: str, name: str, taken: set[str]) -> str:
    digest = hashlib.md5(f"{kind}{name}".encode(), usedforsecurity=False).hexdigest()
    wanted = digest[:_SHORT] if digest[:_SHORT] not in taken else digest
    taken.add(wanted)
    return wanted
