"""Which op of a net goes wrong first: what is run, and what follows from it.

The CPU's tensors are the measure. Each op is fed with them by itself on the GPU, all in one
process, so no op inherits another's error. Only a net whose tensors are too many for that, or whose
ops are all right by themselves, is narrowed down along its order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from droidmace.errors import MaceRunError
from droidmace.formats.netdef import DeviceType, MemoryType
from droidmace.graphs.activations import frontier
from droidmace.graphs.held import at_risk, lain_in, lies_in_its_input
from droidmace.graphs.parts import Dissection, Part
from droidmace.graphs.variants import is_half, memory_type, packed
from droidmace.results.bisect import (
    Cause,
    OpComparison,
    OutputComparison,
    Suspect,
    TensorError,
)
from droidmace.validation.bisection import narrowed, positions, run_limit
from droidmace.validation.tensor_error import (
    Array,
    Limits,
    least_error,
    net_limits,
    op_limits,
    tensor_error,
)
from droidmace.workflows.bisect_finding import Finding, Reproduction
from droidmace.workflows.bisect_runs import PartRunner, Tensors
from droidmace.workflows.bisect_suspects import Suspects
from droidmace.workflows.bisect_verdict import FP32, KEPT, cause_of, comparison_of, worst_of

_SUSPECT_RUNS = 2
"""Processes that narrowing down leaves for suspects."""
_NARROWING_RUNS = 5
"""Processes that narrowing down takes, with a single look."""


@dataclass(slots=True)
class Hunt:
    """One search. ``weights``: the content of the whole model's ``.data`` file."""

    runner: PartRunner
    gpu_graph: str
    """The whole model for the GPU, on the phone."""
    weights: bytes | memoryview
    inputs: Mapping[str, bytes]
    """The model's, as files."""
    memory_bytes: int
    _cpu: dict[str, Array] = field(default_factory=dict)
    _gpu: dict[str, Array] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)
    _on_cpu_in_net: frozenset[str] = frozenset()
    _told_unmeasured: bool = False

    @property
    def _dissection(self) -> Dissection:
        return self.runner.desk.dissection

    @property
    def _half(self) -> bool:
        return is_half(self._dissection.net)

    @property
    def _in_images(self) -> bool:
        return memory_type(self._dissection.net) is MemoryType.GPU_IMAGE

    @property
    def run_limit(self) -> int:
        """Processes at most."""
        return run_limit(len(self._dissection.net.ops))

    @property
    def _runs_left(self) -> int:
        return self.run_limit - len(self.runner.runs)

    def hunt(self) -> Finding:
        """Search. Raises what runs raise; a suspect that cannot be run is no error."""
        known = self._dissection.activations
        last = len(self._dissection.net.ops) - 1
        right, wrong = -1, last
        # Once as what an op makes, and once as what the next one is fed with.
        needed_bytes = 2 * sum(one.size_bytes for one in known.values())
        if needed_bytes <= self.memory_bytes or self.run_limit < _NARROWING_RUNS:
            self._on_cpu(tuple(known), "every tensor")
            outputs = self._outputs(self._whole_net())
        else:
            outputs, right, wrong = self._narrowed_by_memory(last)
            if not any(one.differs for one in outputs):
                mib = math.ceil(needed_bytes / (1 << 20))
                self._warnings.append(
                    f"the ops were not looked at one by one: give at least --memory {mib} for that"
                )
                return self._finding(Cause.UNJUDGED, None, (0, last), outputs, ())
            around = self._around(range(right + 1, wrong + 1))
            self._on_cpu(around, f"ops {right + 2} to {wrong + 1}")
        ops = self._by_themselves(range(right + 1, wrong + 1))
        wrong_ops = [op for op in ops if op.wrong]
        if wrong_ops:
            # What the net does not run on the GPU is wrong, but not what makes the net wrong.
            in_net = [op for op in wrong_ops if op.name not in self._on_cpu_in_net]
            return self._examined((in_net or wrong_ops)[0], outputs, ops)
        if not any(one.differs for one in outputs):
            cause = Cause.UNJUDGED if all(op.on_cpu for op in ops) else Cause.NOTHING
            return self._finding(cause, None, (right + 1, wrong), outputs, ops)
        return self._in_net(right, wrong, outputs, ops)

    def _on_cpu(self, names: Sequence[str], what: str) -> None:
        """Compute tensors where they are right, and leave them on the phone."""
        if not names:
            return
        part = self._dissection.up_to(names)
        made = self.runner.part(part, DeviceType.CPU, what, keep=True)
        self._cpu.update(made)
        self._tell_unmeasured(made)

    def _tell_unmeasured(self, made: Tensors) -> None:
        """Where the CPU has no number, nothing can be said of the GPU's: it is no agreement."""
        if self._told_unmeasured:
            return
        for name, activation in self._dissection.activations.items():
            values = made.get(name)
            if values is None:
                continue
            missing = values.size - int(np.isfinite(values).sum())
            if missing:
                op = self._dissection.net.ops[activation.op_index]
                self._warnings.append(
                    f"{missing} of {values.size} elements are no finite numbers on the CPU itself, "
                    f"first behind {op.name!r}: they, and what follows from them, are not judged"
                )
                self._told_unmeasured = True
                return

    def _error(self, name: str, values: Array, limits: Limits) -> TensorError:
        """A tensor of the GPU against the CPU's; only where the order of axes is open, in any."""
        if self._dissection.activations[name].is_image:
            return tensor_error(values, self._cpu[name], limits)
        return least_error(values, self._cpu[name], limits)

    def _whole_net(self) -> Tensors:
        found = self.runner.whole_net(self.gpu_graph, DeviceType.GPU, "the net as it is")
        self._gpu.update(found)
        self._on_cpu_in_net = self.runner.on_cpu
        return found

    def _outputs(self, found: Tensors) -> tuple[OutputComparison, ...]:
        return tuple(self._compared(name, values) for name, values in found.items())

    def _compared(self, name: str, values: Array) -> OutputComparison:
        limits = net_limits(half=self._half)
        error = self._error(name, values, limits)
        threshold = self.runner.desk.model.similarity_threshold
        return OutputComparison(name, error, limits.exceeded(error) or error.cosine < threshold)

    def _narrowed_by_memory(self, last: int) -> tuple[tuple[OutputComparison, ...], int, int]:
        """The net's outputs, a right position and a wrong one, a few tensors at a time."""
        # Two runs a look, and three more before and after all of them; suspects take theirs.
        looks = max(1, (self.run_limit - _NARROWING_RUNS - _SUSPECT_RUNS) // 2 + 1)
        own = [one.name for one in self._dissection.net.output_infos]
        own = [name for name in own if name in self._dissection.activations]
        # First, because its log tells what is not to be asked for.
        found = self._whole_net()
        first = self._frontiers(positions(-1, last, looks))
        self._on_cpu(tuple(dict.fromkeys((*own, *first))), "outputs and some tensors")
        outputs = self._outputs(found)
        if not any(one.differs for one in outputs):
            return outputs, -1, last

        def are_wrong(asked: Sequence[int]) -> list[bool]:
            names = self._frontiers(asked)
            if missing := [name for name in names if name not in self._cpu]:
                self._on_cpu(missing, "some tensors")
            return self._wrong_in_net(asked)

        right, wrong = narrowed(-1, last, looks, are_wrong)
        self._cpu.clear()
        return outputs, right, wrong

    def _frontiers(self, asked: Iterable[int]) -> tuple[str, ...]:
        """What is handed on at these positions; as images, what can be asked for instead."""
        net, known = self._dissection.net, self._dissection.activations
        names = [name for one in asked for name in frontier(net, known, one)]
        if self._in_images:
            names = [lain_in(net, name, self._on_cpu_in_net) for name in names]
        return tuple(dict.fromkeys(name for name in names if name in known))

    def _wrong_in_net(self, asked: Sequence[int]) -> list[bool]:
        """Whether what the GPU hands on at these positions is wrong."""
        names = self._frontiers(asked)
        if not names:
            return [False] * len(asked)
        part = self._dissection.up_to(names)
        what = f"inside the net, after op {', '.join(str(one + 1) for one in asked)}"
        found = self.runner.part(part, DeviceType.GPU, what, on_cpu=self._on_cpu_in_net)
        self._gpu.update(found)
        limits = net_limits(half=self._half)
        bad = {
            name
            for name, values in found.items()
            if limits.exceeded(self._error(name, values, limits))
        }
        return [bool(bad.intersection(self._frontiers([one]))) for one in asked]

    def _around(self, ops: Iterable[int]) -> tuple[str, ...]:
        """What these ops by themselves read and make."""
        part = self._dissection.alone(ops)
        known = self._dissection.activations
        return tuple(name for name in (*part.inputs, *part.outputs) if name in known)

    def _by_themselves(self, indices: Iterable[int]) -> tuple[OpComparison, ...]:
        """Each op on the GPU, fed with what the CPU has made."""
        net = self._dissection.net
        part = self._dissection.alone(one for one in indices if not self._may_be_lost(one))
        if not part.outputs:
            return ()
        if len(net.ops) > 1:
            found = self.runner.part(part, DeviceType.GPU, "every op by itself")
        else:
            found = {name: self._gpu[name] for name in part.outputs}
        self._gpu.update(found)
        ops = []
        for index, op in enumerate(net.ops):
            names = [name for name in op.outputs if name in found]
            if not names or not set(names) <= set(part.outputs):
                continue
            limits = op_limits(half=self._half)
            errors = {name: self._error(name, found[name], limits) for name in names}
            on_cpu = op.name in self.runner.on_cpu
            ops.append(comparison_of(self._dissection, index, errors, limits, on_cpu=on_cpu))
            if on_cpu and limits.exceeded(ops[-1].error):
                self._warnings.append(
                    f"MACE runs {op.name!r} on the CPU, and still it is off by "
                    f"{ops[-1].error.relative:.2%} in the GPU's run: look at the copies around it"
                )
        return tuple(ops)

    def _may_be_lost(self, index: int) -> bool:
        """Whether what an op by itself hands out could be another's, and nothing helps that.

        In images its output may be kept only if MACE runs it on the CPU. That it does so in the net
        does not say that it does so here; it is not what makes the net wrong, either.
        """
        op = self._dissection.net.ops[index]
        return self._in_images and op.name in self._on_cpu_in_net and lies_in_its_input(op)

    def _examined(
        self,
        culprit: OpComparison,
        outputs: tuple[OutputComparison, ...],
        ops: tuple[OpComparison, ...],
    ) -> Finding:
        """A wrong op, and what its error goes away with."""
        part = self._dissection.alone([culprit.index])
        fed = {name: self._cpu[name] for name in part.inputs if name in self._cpu}
        limits = op_limits(half=self._half)
        input_error = [tensor_error(values, values, limits) for values in fed.values()]
        input_peak = max((one.cpu_peak for one in input_error), default=0.0)
        trials = Suspects(self.runner, self.weights, self.inputs, self._cpu, self._error)
        suspects = tuple(trials.of(culprit, part))
        overflowing = culprit.error.overflowing + sum(one.overflowing for one in input_error)
        cause = cause_of(culprit.error, suspects, half=self._half, overflowing=overflowing > 0)
        reproduction = Reproduction(
            part,
            fed,
            {name: self._cpu[name] for name in part.outputs},
            {name: self._gpu[name] for name in part.outputs},
        )
        return self._finding(
            cause,
            culprit,
            (culprit.index, culprit.index),
            outputs,
            ops,
            suspects,
            reproduction,
            input_peak,
        )

    def _in_net(
        self,
        right: int,
        wrong: int,
        outputs: tuple[OutputComparison, ...],
        ops: tuple[OpComparison, ...],
    ) -> Finding:
        """Every op is right by itself, and still the net is wrong."""
        suspects: list[Suspect] = []
        differing = {one.name for one in outputs if one.differs}
        risk = at_risk(self._dissection.net, DeviceType.GPU, self._on_cpu_in_net)
        if differing.intersection(risk) and self._runs_left > 0:
            suspects.append(self._whole(KEPT))
            if suspects[-1].right:
                return self._finding(
                    Cause.IN_NET, None, (right + 1, wrong), outputs, ops, tuple(suspects)
                )
        if self._half and self._runs_left > 0:
            suspects.append(self._whole(FP32, float32=True))
            if suspects[-1].right:
                return self._finding(
                    Cause.ROUNDING, None, (right + 1, wrong), outputs, ops, tuple(suspects)
                )
        if wrong - right > 1 and set(self._dissection.activations) <= set(self._cpu):
            right, wrong = narrowed(right, wrong, self._runs_left, self._wrong_in_net)
        reproduction = None
        culprit = None
        if wrong - right == 1:
            culprit = next((op for op in ops if op.index == wrong), None)
        if culprit is not None and culprit.output in self._gpu:
            part = self._dissection.up_to([culprit.output])
            reproduction = Reproduction(part, {}, {culprit.output: self._cpu[culprit.output]}, {})
        return self._finding(
            Cause.IN_NET,
            culprit,
            (right + 1, wrong),
            outputs,
            ops,
            tuple(suspects),
            reproduction,
        )

    def _whole(self, name: str, *, float32: bool = False) -> Suspect:
        """The whole net in another way; as it is a part, its outputs' memory is kept."""
        own = [one.name for one in self._dissection.net.output_infos]
        part = self._dissection.up_to([n for n in own if n in self._dissection.activations])
        changed, weights = packed(part.model, self.weights, float32=float32)
        variant = Part(changed, part.inputs, part.outputs)
        what = f"in {name}" if float32 else name
        try:
            found = self.runner.part(
                variant,
                DeviceType.GPU,
                f"the net {what}",
                weights=weights,
                on_cpu=self._on_cpu_in_net,
            )
        except MaceRunError as error:
            return Suspect(name, False, None, error.message)
        compared = [self._compared(one, values) for one, values in found.items()]
        worst = worst_of([one.error for one in compared], net_limits(half=self._half))
        return Suspect(name, not any(one.differs for one in compared), worst)

    def _finding(
        self,
        cause: Cause,
        culprit: OpComparison | None,
        suspected: tuple[int, int],
        outputs: tuple[OutputComparison, ...],
        ops: tuple[OpComparison, ...],
        suspects: tuple[Suspect, ...] = (),
        reproduction: Reproduction | None = None,
        input_peak: float = 0.0,
    ) -> Finding:
        return Finding(
            cause=cause,
            culprit=culprit,
            suspected=suspected,
            outputs=outputs,
            ops=ops,
            suspects=suspects,
            reproduction=reproduction,
            input_peak=input_peak,
            warnings=tuple(self._warnings),
            on_cpu=self._on_cpu_in_net,
        )
