"""The compiled program for parameters that did not come from the phone's own tuner."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace

from droidmace.devices.base import Device
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.macerun.invocation import Invocation
from droidmace.macerun.session import MaceRunSession
from droidmace.results import MaceRunResult
from droidmace.workflows.measure import Layout, make_folders


def build_program(
    device: Device,
    session: MaceRunSession,
    layout: Layout,
    base: Invocation,
    parameters: Mapping[str, tuple[int, ...]],
    *,
    timeout_s: float,
) -> MaceRunResult:
    """Let a process start from nothing with these parameters (raw keys) and store its programs.

    Leaves on the phone what a tuning process leaves: the parameters' file and, in the storage
    folder ``tuned``, the compiled program. Such a program holds nothing but what these parameters
    need; that of a tuning process may hold one binary for every size that was tried.
    """
    device.push(TunedParameters.build(parameters).serialize(), layout.tuned_parameters)
    storage = layout.storage("tuned")
    device.remove(posixpath.join(storage, posixpath.basename(layout.compiled_program("tuned"))))
    make_folders(device, storage)
    return session.run(
        replace(
            base,
            storage_dir=storage,
            opencl_parameter_file=layout.tuned_parameters,
            rounds=1,
        ),
        timeout_s=timeout_s,
    )
