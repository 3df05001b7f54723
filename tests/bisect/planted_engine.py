#!/vendor/bin/python3
"""A ``mace_run`` with the real engine and something wrong on purpose, for emulated phones.

:func:`tests.bisect.planting.planted` puts what is wrong into the line ``PLAN = ...`` below:

* ``kernels``: file name to (text, replacement): the engine builds its kernels from such copies.
* ``winograd``: convolutions with ``wino_block_size`` on the GPU have wrong filters.
* ``inside``: the name of an op that is wrong on the GPU only where another op reads what it makes.

Each process is counted in a file beside the program.
"""

import json
import shutil
import sys
from pathlib import Path

from droidmace import resources
from droidmace.engine import create
from droidmace.formats.netdef import DeviceType

PLAN = json.loads("{}")
HERE = Path(sys.argv[0]).resolve().parent


def changed_kernels():
    """A copy of the kernels with the changes."""
    folder = HERE / "planted_kernels"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(resources.kernels_dir(), folder)
    for name, (text, replacement) in PLAN["kernels"].items():
        path = folder / name
        source = path.read_text("utf-8")
        if text not in source:
            sys.exit(f"{name} does not hold {text!r}")
        path.chmod(0o644)
        path.write_text(source.replace(text, replacement), "utf-8")
    return folder


def spoilt(model):
    """The model with the filters of the chosen ops on the GPU made wrong."""
    if model.runtime != DeviceType.GPU:
        return model
    read = {name for op in model.net.ops for name in op.inputs}
    for op in model.net.ops:
        by_winograd = PLAN.get("winograd") and op.int_arg("wino_block_size")
        inside = op.name == PLAN.get("inside") and op.outputs[0] in read
        if by_winograd or inside:
            model.constants[op.inputs[1]] = model.constants[op.inputs[1]] * 1.5
    return model


if PLAN.get("kernels"):
    copy = changed_kernels()
    resources.kernels_dir = lambda: copy
load_model = create.load_model
create.load_model = lambda *arguments: spoilt(load_model(*arguments))
with (HERE / "planted_runs").open("ab") as counter:
    counter.write(b".")

from droidmace.engine.mace_run import main  # noqa: E402 - after what is planted

sys.exit(main(sys.argv))
