"""The story of ``droidmace bisect`` on one phone: which op goes wrong first on its GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from droidmace.errors import DeviceError, MaceRunError
from droidmace.files import sha256_of_file
from droidmace.formats.netdef import DeviceType, serialize_model
from droidmace.graphs.runtime import on_runtime
from droidmace.graphs.variants import is_half
from droidmace.macerun.session import MaceRunSession
from droidmace.results.bisect import BisectResult
from droidmace.workflows.bisect_finding import Finding
from droidmace.workflows.bisect_request import BisectMatter, BisectRequest, check_request
from droidmace.workflows.bisect_runs import STORAGE, Desk, PartRunner, clear, feed
from droidmace.workflows.bisect_search import Hunt
from droidmace.workflows.bisect_sentence import sentence_of
from droidmace.workflows.measure import base_invocation
from droidmace.workflows.phase import NoteCallback, Phase
from droidmace.workflows.reproducer import write_reproducer
from droidmace.workflows.staging import push_files
from droidmace.workflows.workplace import Workplace, find_workplace, taken


def bisect(request: BisectRequest, on_note: NoteCallback) -> BisectResult:
    """Find the first op that is wrong on the phone's GPU, with one sample.

    Raises ``DroidmaceError`` s whose message says in which phase it happened. Whatever ends it, the
    phone is left as it was.
    """
    return _Story(request, on_note).tell()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What runs where, all of it checked."""

    matter: BisectMatter
    place: Workplace
    desk: Desk
    folder: Path
    """Where the finding goes on the host."""


class _Story:
    """The state of one run; the methods are its phases, in order."""

    def __init__(self, request: BisectRequest, on_note: NoteCallback) -> None:
        self._request = request
        self._on_note = on_note
        self._warnings: list[str] = []

    def _phase(self, name: str) -> Phase:
        return Phase(self._request.phone.serial, name, self._on_note)

    def tell(self) -> BisectResult:
        with self._phase("probe") as phase:
            plan = self._plan()
            phase.summary = f"{plan.place.summary}; {len(plan.desk.dissection.net.ops)} ops"
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(taken(plan.place.device, self._phase, self._warnings))
            stack.enter_context(_cleared(plan.desk))
            with self._phase("push") as phase:
                self._push(plan, phase)
            weights = _mapped(plan.matter.files.data)
            with self._phase("search") as phase:
                runner = PartRunner(plan.desk, phase.progress)
                hunt = Hunt(
                    runner,
                    _gpu_graph(plan.desk),
                    weights,
                    plan.matter.inputs,
                    self._request.memory_bytes,
                )
                finding = self._hunted(hunt)
                phase.summary = f"{len(runner.runs)} of at most {hunt.run_limit} runs"
            lock.check()
            result = self._result(plan, hunt, finding)
            if result.found:
                with self._phase("reproducer") as phase:
                    result = replace(result, reproducer=str(plan.folder))
                    write_reproducer(
                        plan.folder,
                        plan.desk,
                        finding.reproduction,
                        plan.matter.inputs,
                        weights,
                        result,
                    )
                    phase.summary = str(plan.folder)
        return result

    def _plan(self) -> _Plan:
        """All that can be refused before anything is done to the phone."""
        request = self._request
        matter = check_request(request)
        tensors = sum(one.size_bytes for one in matter.dissection.activations.values())
        place = find_workplace(
            request.phone,
            needed_bytes=3 * matter.files.size_bytes + min(3 * tensors, 2 * request.memory_bytes),
        )
        layout = place.layout
        base = replace(base_invocation(layout, request.model), storage_dir=layout.storage(STORAGE))
        desk = Desk(
            place.device,
            MaceRunSession(place.device, layout.root),
            layout,
            request.model,
            base,
            matter.dissection,
            request.timeout_s,
        )
        folder = request.out_dir / f"{place.file_name}.bisect"
        return _Plan(matter, place, desk, folder)

    def _push(self, plan: _Plan, phase: Phase) -> None:
        desk, matter = plan.desk, plan.matter
        others: dict[str, Path | bytes] = {
            path: matter.inputs[tensor.name] for path, tensor in desk.base.input_paths().items()
        }
        pushed = push_files(
            desk.device, desk.layout, plan.place.binary, matter.files, others, phase.progress
        )
        feed(desk, matter.inputs)
        graph = serialize_model(on_runtime(matter.graph, DeviceType.GPU))
        desk.device.push(graph, _gpu_graph(desk))
        phase.summary = pushed.text

    def _hunted(self, hunt: Hunt) -> Finding:
        try:
            return hunt.hunt()
        except MaceRunError as error:
            if hunt.runner.runs:
                run = hunt.runner.runs[-1]
                error.message = f"run {len(hunt.runner.runs)} ({run.runtime}, {run.what}): " + (
                    error.message
                )
                smaller = "a smaller --memory asks for fewer tensors at once"
                error.hint = f"{error.hint}; {smaller}" if error.hint else smaller
            raise

    def _result(self, plan: _Plan, hunt: Hunt, finding: Finding) -> BisectResult:
        desk, place, files = plan.desk, plan.place, plan.matter.files
        net = desk.dissection.net
        device = place.device_info
        half = is_half(net)
        return BisectResult(
            device=device,
            model=self._request.model.name,
            data_type="fp16" if half else "fp32",
            sample=plan.matter.sample,
            op_count=len(net.ops),
            cause=finding.cause,
            sentence=sentence_of(finding, net, device, half=half),
            culprit=finding.culprit,
            outputs=finding.outputs,
            ops=finding.ops,
            suspects=finding.suspects,
            runs=tuple(hunt.runner.runs),
            run_limit=hunt.run_limit,
            identity={
                "model_graph": sha256_of_file(files.graph),
                "model_data": sha256_of_file(files.data),
                "mace_run": place.binary_record().sha256,
                "driver": place.report.gl_version,
            },
            warnings=(*self._warnings, *finding.warnings),
            on_cpu=tuple(op.name for op in net.ops if op.name in finding.on_cpu),
        )


def _gpu_graph(desk: Desk) -> str:
    return desk.tensor_prefix("whole.pb")


@contextlib.contextmanager
def _cleared(desk: Desk) -> Iterator[None]:
    """Leave nothing on the phone; an error on the way out does not hide the first one."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(DeviceError):
            clear(desk)
        raise
    clear(desk)


def _mapped(path: Path) -> bytes | memoryview:
    """A file's content without reading it whole."""
    if not path.stat().st_size:
        return b""
    return np.memmap(path, np.uint8, "r").data
