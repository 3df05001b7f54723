"""A folder that shows an error again: a small model, its input, what should come and what came."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from droidmace.errors import InputError
from droidmace.formats.netdef import DeviceType, serialize_model
from droidmace.graphs.runtime import on_runtime
from droidmace.graphs.variants import packed
from droidmace.macerun.invocation import Invocation, formatted_name
from droidmace.results.bisect import BisectResult
from droidmace.validation.tensor_error import Array
from droidmace.wording import printable
from droidmace.workflows.bisect_finding import Reproduction
from droidmace.workflows.bisect_runs import Desk

_ON_PHONE = "/data/local/tmp/mace_run/reproducer"
RESULT_NAME = "bisect.json"


def write_reproducer(
    folder: Path,
    desk: Desk,
    reproduction: Reproduction | None,
    model_inputs: Mapping[str, bytes],
    weights: bytes | memoryview,
    result: BisectResult,
) -> None:
    """Write the folder, in place of one from an earlier run.

    Files: ``model.pb`` (for the GPU), ``model_cpu.pb``, ``model.data``, ``input_<tensor>``,
    ``expected_<tensor>`` (the CPU's), ``found_<tensor>`` (the GPU's; not for a part of several
    ops), all raw little-endian float32 with images as NHWC unless the command line says otherwise;
    ``README.md`` with the command line; ``bisect.json``. Without a reproduction only the last two.
    Raises ``InputError`` if the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not (folder / RESULT_NAME).is_file():
            raise InputError(
                "is there already, and no reproducer",
                where=str(folder),
                hint="choose another --out",
            )
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
            fresh = Path(made) / "new"
            fresh.mkdir()
            lines = [printable(result.sentence)]
            if reproduction is not None:
                invocation = _write_part(fresh, desk, reproduction, model_inputs, weights)
                lines = _instructions(result, invocation)
            (fresh / "README.md").write_text("\n".join(lines) + "\n", "utf-8")
            document = json.dumps(result.as_document(), indent=2)
            (fresh / RESULT_NAME).write_text(document + "\n", "utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            fresh.replace(folder)
    except OSError as exc:
        raise InputError(f"cannot be written: {exc.strerror}", where=str(folder)) from exc


def _write_part(
    folder: Path,
    desk: Desk,
    reproduction: Reproduction,
    model_inputs: Mapping[str, bytes],
    weights: bytes | memoryview,
) -> Invocation:
    part = reproduction.part
    model, data = packed(part.model, weights)
    for name, runtime in (("model.pb", DeviceType.GPU), ("model_cpu.pb", DeviceType.CPU)):
        (folder / name).write_bytes(serialize_model(on_runtime(model, runtime)))
    (folder / "model.data").write_bytes(data)
    for tensor, short in part.inputs.items():
        values = reproduction.inputs.get(tensor)
        content = model_inputs[tensor] if values is None else _raw(values)
        (folder / f"input_{formatted_name(short)}").write_bytes(content)
    for kind, tensors in (("expected", reproduction.expected), ("found", reproduction.found)):
        for tensor, values in tensors.items():
            short = formatted_name(part.outputs[tensor])
            (folder / f"{kind}_{short}").write_bytes(_raw(values))
    return Invocation(
        cwd=_ON_PHONE,
        binary="mace_run",
        model_name=desk.model.name,
        model_file="model.pb",
        model_data_file="model.data",
        inputs=tuple(desk.input_arg(*pair) for pair in part.inputs.items()),
        outputs=tuple(desk.output_arg(*pair) for pair in part.outputs.items()),
        input_file="input",
        output_file="output",
        storage_dir=".",  # mace_run aborts where its own default does not exist
        library_path=(".", "/system/vendor/lib64", "/system/vendor/lib"),
        limit_opencl_kernel_time=desk.base.limit_opencl_kernel_time,
        opencl_queue_window_size=desk.base.opencl_queue_window_size,
    )


def _raw(values: Array) -> bytes:
    return values.astype("<f4", copy=False).tobytes()


def _instructions(result: BisectResult, invocation: Invocation) -> list[str]:
    environment = [f"{name}={value}" for name, value in invocation.environment().items()]
    command = shlex.join(["env", *environment, *invocation.argv()])
    device = result.device
    return [
        f"# {printable(result.model)} on {printable(device.model or device.serial)}",
        "",
        printable(result.sentence),
        "",
        "With this folder, and `mace_run` in it:",
        "",
        "```sh",
        f"adb push . {_ON_PHONE}",
        f"adb shell {shlex.quote(f'cd {_ON_PHONE} && {command}')}",
        "```",
        "",
        "`output_…` should be near `expected_…` (made by the CPU; `model_cpu.pb` is the same model "
        "for it); what came is `found_…`, if there is one. All files are raw little-endian "
        "float32, images as the formats in the command line say.",
    ]
