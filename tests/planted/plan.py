"""What a planted ``mace_run`` does, as a value, and the program that does it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from droidmace.formats.compiled_program import CompiledProgram, StoredProgram
from droidmace.formats.tuned_parameters import TunedParameters

Outputs = npt.NDArray[np.float32]
"""Shape (samples, elements)."""

PLACEHOLDER = 'PLAN = json.loads("{}")'
NEVER = 10**9
WINNERS: dict[str, tuple[int, ...]] = {
    "conv2d_3x3_opencl_kernel_1_28_28_16": (4, 7, 16, 0),
    "conv2d_1x1_opencl_kernel_1_14_14_32": (8, 14, 4, 0),
    "arg_buffer_to_image_[16]": (64, 4, 0),
}
PROGRAMS = ("conv_2d_3x3 -DBIAS -DDATA_TYPE=float", "conv_2d_1x1 -DDATA_TYPE=float")


@dataclass(frozen=True)
class Plan:
    """Times in ms. The noise's defaults are those of a phone that is otherwise idle.

    ``tuned_factor``: tuned / untuned latency. ``process_sigma``: spread of the logarithm of a
    process's average latency (clocks and memory differ from process to process);
    ``outlier_share`` of the processes are slower by a share in ``outlier_range``; ``drift`` is how
    far slow waves go. From the ``throttle_after``-th process that measures latency on all take
    ``throttle_factor`` as long. ``after_tuned_factor``: how much longer it takes after a tuned
    process, which leaves the phone hotter than an untuned one. ``cold_ms`` and ``warm_ms``: init
    and first warm-up without and with a stored program. ``crashes_on_stored_program``: the driver
    ends the process instead.
    """

    seed: int
    tuned_factor: float = 1.0
    untuned_ms: float = 20.0
    process_sigma: float = 0.012
    outlier_share: float = 0.04
    outlier_range: tuple[float, float] = (0.10, 0.50)
    drift: float = 0.03
    throttle_after: int = NEVER
    throttle_factor: float = 1.4
    after_tuned_factor: float = 1.0
    cold_ms: tuple[float, float] = (300.0, 1500.0)
    warm_ms: tuple[float, float] = (60.0, 40.0)
    start_sigma: float = 0.05
    crashes_on_stored_program: bool = False


def planted_program(plan: Plan, untuned: Outputs, tuned: Outputs) -> bytes:
    """The program as a file for the phone; it answers sample i with row i of the outputs."""
    program = CompiledProgram.build(
        platform_info="Planted, FULL_PROFILE, OpenCL 2.0 planted, v1.1.1",
        device_name="Planted GPU",
        programs=[StoredProgram(key, key.encode() * 40, "0123456789") for key in PROGRAMS],
    )
    parameters = TunedParameters.build({**WINNERS, "MACE_OPENCL_QUEUE_WINDOW_SIZE": (0,)})
    document = asdict(plan) | {
        "programs": PROGRAMS,
        "winners": WINNERS,
        "program_file": _text(program.serialize()),
        "parameter_file": _text(parameters.serialize()),
        "untuned_outputs": _rows(untuned),
        "tuned_outputs": _rows(tuned),
    }
    source = Path(__file__).with_name("planted_mace_run.py").read_text("utf-8")
    assert source.count(PLACEHOLDER) == 1
    return source.replace(PLACEHOLDER, f"PLAN = json.loads({json.dumps(document)!r})").encode()


def _rows(outputs: Outputs) -> Sequence[str]:
    return [_text(row.astype("<f4").tobytes()) for row in outputs]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
