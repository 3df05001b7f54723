"""Kernels with bound arguments, enqueued by tuned or default parameters, or tuned.

Source: ``TuningOrRun3DKernel`` and ``TuningOrRun2DKernel`` in
``mace/runtimes/opencl/core/opencl_helper.cc``.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyopencl as cl

from droidmace.engine.attributes import OUT_OF_RESOURCES
from droidmace.engine.macelog import MaceLog
from droidmace.engine.opencl.device import Device, describe_error
from droidmace.engine.opencl.kernel import Argument, Kernel, Launch, with_scalars_together
from droidmace.engine.opencl.launches import LaunchList
from droidmace.engine.opencl.local_size import (
    Limits,
    Rule,
    candidates_2d,
    candidates_3d,
    round_up,
)
from droidmace.engine.opencl.program import ProgramLibrary
from droidmace.engine.opencl.range_check import BUILD_OPTION, RangeCheck
from droidmace.engine.tuner import Params, Tuner
from droidmace.errors import EngineError

_HELPER = "runtimes/opencl/core/opencl_helper.cc"
_MAX_KERNEL_US = 1000.0
_COMPUTE_OPTIONS = ("-DDATA_TYPE=float", "-DCMD_DATA_TYPE=f")

KernelArgument = Argument
"""What the kernels of ops take beside tensors."""


Copy = tuple[cl.Event, object]
"""A copy under way, and the host memory that must outlive it."""


class Bindable(Protocol):
    """What brings several arguments, and the build options that go with them: a tensor."""

    @property
    def arguments(self) -> tuple[KernelArgument, ...]:
        """In the order the kernel takes them."""

    @property
    def build_options(self) -> tuple[str, ...]:
        """For every kernel that takes it."""


@dataclass(eq=False)
class Dispatch:
    """A kernel, its bound arguments, and how it may be spread over the device.

    ``gws`` is the exact global size (2 or 3 axes); ``default`` the parameters when none are tuned;
    ``params`` those it runs with, once they are known; ``choices`` what a tuning run tries, if not
    what suits most kernels.
    """

    kernel: Kernel
    key: str
    gws: tuple[int, ...]
    default: Params
    kwg_size: int
    arguments: Sequence[KernelArgument]
    params: Params | None = None
    choices: Sequence[Params] | None = None

    def candidates(self) -> Sequence[Params]:
        """What a tuning run tries."""
        if self.choices is not None:
            return self.choices
        if len(self.gws) == 2:
            return candidates_2d(self.kwg_size)
        return candidates_3d((self.gws[0], self.gws[1], self.gws[2]), self.kwg_size)


class Gpu:
    """One device with its programs and tuned parameters: builds kernels and runs them."""

    def __init__(
        self,
        device: Device,
        programs: ProgramLibrary,
        tuner: Tuner,
        log: MaceLog,
        *,
        limit_kernel_time: bool = False,
        failure_ratio: float = 0.0,
        check_range: bool = False,
    ) -> None:
        self.device = device
        self.programs = programs
        self.tuner = tuner
        self.log = log
        self._limit_kernel_time = limit_kernel_time
        self._failure_ratio = failure_ratio
        self._range_check = RangeCheck(device) if check_range else None
        self._window = tuner.queue_window_size
        self._queued = 0
        self._copies: list[Copy] = []

    def bind(
        self,
        program: str,
        name: str,
        *,
        options: Iterable[str] = (),
        arguments: Sequence[KernelArgument | Bindable],
        key: str,
        gws: tuple[int, ...],
        rule: Rule,
        scalars_together: bool = False,
    ) -> Dispatch:
        """Build kernel ``name`` of ``program`` and set its arguments, ``gws`` before all others.

        Tensors bring their own arguments and build options; Python numbers become ``int`` and
        ``float``. ``scalars_together``: the kernel takes them as one structure after the memory
        objects, which is cheaper to enqueue. Raises ``EngineError``.
        """
        flat, tensor_options = _flatten(arguments)
        flag = self._range_flag(flat)
        range_options = [BUILD_OPTION] if flag else []
        kernel = self.programs.kernel(
            program,
            name,
            (*_COMPUTE_OPTIONS, f"-D{name}={name}", *range_options, *tensor_options, *options),
        )
        try:
            kwg_size = kernel.work_group_size(self.device.device)
            values = (*flag, *gws, *flat)
            kernel.set_args(with_scalars_together(values) if scalars_together else values)
        except cl.Error as exc:
            raise self._failed(exc, 243) from exc
        limits = Limits(self.device.cache_bytes, self.device.compute_units, kwg_size)
        shape = gws if len(gws) == 3 else (*gws, 1)
        default = self._within_axes(rule((shape[0], shape[1], shape[2]), limits))
        return Dispatch(kernel, key, gws, default, kwg_size, flat)

    def _within_axes(self, params: Params) -> Params:
        """``params`` with each local size within what the device takes along its axis.

        MACE looks at the work-group's size alone; NVIDIA takes 64 along the third axis and refuses
        more as CL_INVALID_KERNEL_ARGS.
        """
        *lws, block = params
        sizes = self.device.max_work_item_sizes
        return (*(min(size, most) for size, most in zip(lws, sizes, strict=False)), block)

    def _range_flag(self, arguments: Sequence[KernelArgument]) -> list[KernelArgument]:
        """What a kernel that is to be checked takes before all else; nothing for others."""
        check = self._range_check
        return [check.flag] if check is not None and check.concerns(arguments) else []

    def run(self, dispatch: Dispatch) -> list[cl.Event]:
        """Enqueue the kernel; when tuning, search for its parameters first.

        Returns the events of the last time it ran. Raises ``EngineError``. Aborts, as MACE does,
        when the kernel wrote beside an image and that is checked.
        """
        try:
            if self._range_check is None:
                return self._run(dispatch)
            self._range_check.clear()
            events = self._run(dispatch)
            code = self._range_check.read()
        except cl.Error as exc:
            raise self._failed(exc, 288) from exc
        if code:
            self.log.fatal(
                f"{_HELPER}:55", f"Check failed: *kerror_code == 0 Kernel error code: {code}"
            )
        return events

    def _run(self, dispatch: Dispatch) -> list[cl.Event]:
        if self.tuner.is_tuning:
            return self._tune(dispatch)
        if dispatch.params is None or self.log.verbose(3):
            known = self.tuner.known(dispatch.key)
            dispatch.params = dispatch.default if known is None else known
        return self._launch(dispatch, dispatch.params)

    def prepare(self, dispatches: Iterable[Dispatch]) -> LaunchList | None:
        """All commands of ``dispatches``, which ran before, ready to be enqueued at once.

        None where each command needs a look of its own: in a tuning run, with a queue window, when
        writes are checked, and when the log tells the parameters of every kernel.
        """
        if self.tuner.is_tuning or self._window or self._range_check or self.log.verbose(3):
            return None
        return LaunchList(
            self.device.queue,
            (
                (dispatch.kernel, launch)
                for dispatch in dispatches
                for launch in self._split(dispatch.gws, dispatch.params or dispatch.default)
            ),
        )

    def enqueue(self, launches: LaunchList) -> None:
        """Enqueue them all. Raises ``EngineError``."""
        try:
            launches.enqueue()
        except cl.Error as exc:
            raise self._failed(exc, 288) from exc

    def risk_failure(self) -> None:
        """Fail an allocation now and then, if ``MACE_RUNTIME_FAILURE_RATIO`` asks for it.

        Raises ``EngineError``.
        """
        if self._failure_ratio > 0 and random.random() < self._failure_ratio:  # noqa: S311
            self.log.vlog(0, "core/runtime_failure_mock.cc:44", "Mock runtime failure.")
            raise EngineError(OUT_OF_RESOURCES, details="MACE_RUNTIME_FAILURE_RATIO")

    def upload(self, buffer: cl.Buffer, values: np.ndarray[Any, Any]) -> None:
        """Copy ``values`` to the device without waiting. Raises ``EngineError``."""
        queue = self.device.queue
        try:
            event = cl.enqueue_copy(queue, buffer, values, is_blocking=False)
        except cl.Error as exc:
            raise self._failed(exc, 288) from exc
        self._copies.append((event, values))  # host memory must outlive the copy

    def download(self, values: np.ndarray[Any, Any], buffer: cl.Buffer) -> None:
        """Copy a buffer into ``values``, which are right after :meth:`finish`.

        Raises ``EngineError``.
        """
        queue = self.device.queue
        try:
            event = cl.enqueue_copy(queue, values, buffer, is_blocking=False)
        except cl.Error as exc:
            raise self._failed(exc, 288) from exc
        self._copies.append((event, values))

    def finish(self) -> None:
        """Wait until the device has nothing left to do. Raises ``EngineError``."""
        try:
            self.device.queue.finish()
        except cl.Error as exc:
            raise self._failed(exc, 288) from exc
        self._copies.clear()

    def flush(self) -> list[Copy]:
        """Have the device begin with all that is enqueued, without waiting for it.

        Returns the copies under way: :meth:`wait` for them. Raises ``EngineError``.
        """
        try:
            self.device.queue.flush()
        except cl.Error as exc:
            raise self._failed(exc, 288) from exc
        copies, self._copies = self._copies, []
        return copies

    def wait(self, copies: Sequence[Copy]) -> None:
        """Wait until the last of these copies, and so all before it, are done.

        Raises ``EngineError``.
        """
        try:
            copies[-1][0].wait()
        except cl.Error as exc:
            raise self._failed(exc, 288) from exc

    def _failed(self, error: cl.Error, line: int) -> EngineError:
        self.log.error(f"{_HELPER}:{line}", f"error: {describe_error(error)}")
        return EngineError(OUT_OF_RESOURCES, details=str(error))

    def _enqueue(self, dispatch: Dispatch, launch: Launch) -> cl.Event:
        event = dispatch.kernel.enqueue(self.device.queue, launch)
        if self._window:
            self._queued += 1
            if self._queued >= self._window:
                event.wait()
                self._queued = 0
        return event

    def _launch(self, dispatch: Dispatch, params: Params) -> list[cl.Event]:
        return [self._enqueue(dispatch, launch) for launch in self._split(dispatch.gws, params)]

    def _split(self, gws: tuple[int, ...], params: Params) -> Iterator[Launch]:
        """The commands that run ``gws`` with ``params``, local sizes then block.

        One at a time: the driver refuses absurd sizes at the first of billions.
        """
        axes = len(gws)
        if len(params) != axes + 1:
            line = 218 if axes == 3 else 332
            self.log.fatal(
                f"{_HELPER}:{line}",
                f"Check failed: params.size() == {axes + 1} Tuning parameters of {axes}D kernel"
                f" must be {axes + 1}D",
            )
        lws, block = params[:-1], params[-1]
        if 0 in lws:
            line = 224 if axes == 3 else 338
            self.log.fatal(f"{_HELPER}:{line}", "Check failed: params[i] != 0 ")
        whole = tuple(round_up(size, local) for size, local in zip(gws, lws, strict=True))
        step = block or whole[-1]
        front = (0,) * (axes - 1)
        for start in range(0, whole[-1], step):
            yield (*front, start), (*whole[:-1], step), lws

    def _tune(self, dispatch: Dispatch) -> list[cl.Event]:
        events: list[cl.Event] = []

        def measure(params: Params) -> tuple[float, Params]:
            events[:] = self._timed(dispatch, params)
            if not self._limit_kernel_time:
                return _elapsed_us(events), params
            params = self._limited(dispatch, params, _elapsed_us(events))
            events[:] = self._timed(dispatch, params)
            return _elapsed_us(events), params

        candidates = [
            params for params in dispatch.candidates() if params == self._within_axes(params)
        ]
        self.tuner.search(dispatch.key, dispatch.default, candidates, measure)
        return events or self._timed(dispatch, dispatch.default)

    def _timed(self, dispatch: Dispatch, params: Params) -> list[cl.Event]:
        events = self._launch(dispatch, params)
        self.device.queue.finish()
        return events

    @staticmethod
    def _limited(dispatch: Dispatch, params: Params, elapsed_us: float) -> Params:
        """``params`` with a block so small that no command takes longer than the limit."""
        last, lws = dispatch.gws[-1], params[-2]
        blocks = min(int(elapsed_us / _MAX_KERNEL_US) + 1, last)
        return (*params[:-1], round_up(last // blocks, lws))


def _flatten(
    arguments: Iterable[KernelArgument | Bindable],
) -> tuple[list[KernelArgument], list[str]]:
    """Plain arguments, and the build options that tensors among them ask for."""
    flat: list[KernelArgument] = []
    options: list[str] = []
    for value in arguments:
        if isinstance(value, (cl.Image, cl.Buffer, int, float, bytes)):
            flat.append(value)
        else:
            flat += value.arguments
            options += value.build_options
    return flat, options


def _elapsed_us(events: Iterable[cl.Event]) -> float:
    return sum(event.profile.end - event.profile.start for event in events) / 1000.0
