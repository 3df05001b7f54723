"""Options that several commands have, with one meaning and one text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Deployment file (YAML).", show_default=False)
]
MaybeConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Deployment file (YAML).", show_default=False),
]
"""For commands that have a form without one."""
SerialOption = Annotated[
    str | None,
    typer.Option(
        "--serial",
        "-s",
        help="The phone to run on; see 'droidmace devices'. An emulated phone's name will do.",
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile", help="With --emulate: a phone's profile, a name or a file. [default: adreno]"
    ),
]
DriverOption = Annotated[
    str | None,
    typer.Option("--driver", help="With --emulate: the OpenCL driver that backs it."),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="The model, if the deployment file holds several."),
]
MaceRunOption = Annotated[
    Path | None, typer.Option("--mace-run", help="The mace_run program to push.")
]
MaceRootOption = Annotated[
    Path | None,
    typer.Option("--mace-root", help="A MACE source or build folder to take mace_run from."),
]
AllowPluginOption = Annotated[
    bool,
    typer.Option(
        "--allow-plugin",
        help="Run the Python code that the deployment file names for its samples. It can do "
        "whatever you can: read it first.",
    ),
]
PinOption = Annotated[
    bool,
    typer.Option(
        "--pin/--no-pin", help="Hold clocks steady while measuring, where the phone permits it."
    ),
]
AdbPortOption = Annotated[
    int | None,
    typer.Option("--adb-port", min=1, max=65535, help="Port of the adb server."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON; progress goes to stderr.")
]
