"""Parts of a net as models of their own: all up to some tensors, or single ops fed from outside.

Tensors get short names, so that no name of the model is one that ``mace_run`` cannot be asked for.
The weights stay where they are: a part runs with the whole model's ``.data`` file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from droidmace.formats.netdef import InputOutputInfo, MultiNetDef, NetDef, OperatorDef
from droidmace.graphs.activations import Activation, activations, only_net


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a net.

    ``inputs`` and ``outputs``: the tensors of the whole net, and what the part calls them. An input
    is one of the net's own, or an activation.
    """

    model: MultiNetDef
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class Dissection:
    """One net, ready to be taken apart. Raises ``InputError`` for a model of several nets."""

    def __init__(self, model: MultiNetDef) -> None:
        self.model = model
        self.net = only_net(model)
        self.activations: dict[str, Activation] = activations(self.net)
        self._constants = {tensor.name for tensor in self.net.tensors}
        self._maker = {name: index for index, op in enumerate(self.net.ops) for name in op.outputs}
        stem = _free_stem("t", self._constants)
        self._names = {
            **{info.name: f"{stem}in{i}" for i, info in enumerate(self.net.input_infos)},
            **{name: f"{stem}{i}" for i, name in enumerate(self._maker)},
        }

    def name(self, tensor: str) -> str:
        """What every part calls a tensor of the net that it reads or hands out."""
        return self._names[tensor]

    def up_to(self, outputs: Sequence[str]) -> Part:
        """All that it takes to make these activations from the net's own inputs."""
        needed = self._needed((self._maker[name] for name in outputs), stop_at=frozenset())
        ops = [_renamed(self.net.ops[index], self._names) for index in needed]
        return self._part(ops, {name: self._names[name] for name in outputs})

    def alone(self, ops: Iterable[int]) -> Part:
        """Each of these ops by itself, fed with the activations that it reads.

        An op that reads what cannot be fed (whole numbers) brings the ops before it along. What is
        made of constants only, or cannot be asked for, is left out.
        """
        drafts: list[OperatorDef] = []
        outputs: dict[str, str] = {}
        available = frozenset(self.activations)
        for index in ops:
            op = self.net.ops[index]
            if not op.outputs or not set(op.outputs) <= available:
                continue
            chain = self._needed([index], stop_at=available)
            inner = {name for one in chain for name in self.net.ops[one].outputs}
            read = {name for one in chain for name in self.net.ops[one].inputs}
            if not read - inner - self._constants:
                continue
            # No other op may make, or read, what this one makes for itself.
            own = {name: f"{self._names[name]}op{index}" for name in inner}
            drafts += [_renamed(self.net.ops[one], {**self._names, **own}) for one in chain]
            outputs.update((name, own[name]) for name in op.outputs)
        return self._part(drafts, outputs)

    def _needed(self, ops: Iterable[int], *, stop_at: frozenset[str]) -> list[int]:
        """The ops, and those that make what they read, in order; ``stop_at`` is there already."""
        needed: set[int] = set()
        waiting = list(ops)
        while waiting:
            index = waiting.pop()
            if index in needed:
                continue
            needed.add(index)
            waiting += [
                self._maker[name]
                for name in self.net.ops[index].inputs
                if name in self._maker and name not in stop_at
            ]
        return sorted(needed)

    def _part(self, ops: Sequence[OperatorDef], outputs: Mapping[str, str]) -> Part:
        read = {name for op in ops for name in op.inputs}
        made = {name for op in ops for name in op.outputs}
        inputs = {
            name: short
            for name, short in self._names.items()
            if short in read and short not in made
        }
        net = replace(
            self.net,
            ops=tuple(ops),
            tensors=tuple(one for one in self.net.tensors if one.name in read),
            input_infos=tuple(self._input(name, short) for name, short in inputs.items()),
            output_infos=tuple(
                self.activations[name].info(short) for name, short in outputs.items()
            ),
        )
        model = replace(
            self.model,
            nets=(net,),
            input_tensors=tuple(inputs.values()),
            output_tensors=tuple(outputs.values()),
        )
        return Part(model, inputs, dict(outputs))

    def _input(self, name: str, short: str) -> InputOutputInfo:
        if name in self.activations:
            return self.activations[name].info(short)
        info = next(one for one in self.net.input_infos if one.name == name)
        return replace(info, name=short, alias=short)


def describe(net: NetDef, index: int) -> str:
    """An op in one line: what it is and how it computes."""
    op = net.ops[index]
    words = [op.type]
    if kernels := op.ints_arg("kernels"):
        words.append("x".join(map(str, kernels)))
    strides = op.ints_arg("strides")
    if any(one != 1 for one in strides):
        words.append("stride " + "x".join(map(str, strides)))
    if any(one != 1 for one in op.ints_arg("dilations")):
        words.append("dilation " + "x".join(map(str, op.ints_arg("dilations"))))
    if block := op.int_arg("wino_block_size"):
        words.append(f"Winograd {block}")
    if (activation := op.str_arg("activation", "NOOP")) != "NOOP":
        words.append(activation)
    return " ".join(words)


def _renamed(op: OperatorDef, names: Mapping[str, str]) -> OperatorDef:
    return replace(
        op,
        inputs=tuple(names.get(name, name) for name in op.inputs),
        outputs=tuple(names.get(name, name) for name in op.outputs),
    )


def _free_stem(stem: str, taken: Iterable[str]) -> str:
    """Letters that no other tensor's name begins with."""
    while any(name.startswith(stem) for name in taken):
        stem += "t"
    return stem
