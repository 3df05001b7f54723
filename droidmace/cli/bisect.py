"""``droidmace bisect``: which op of a model goes wrong first on a phone's GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from droidmace.cli.emulate import EmulateCommand, EmulateOption
from droidmace.cli.options import (
    AdbPortOption,
    AllowPluginOption,
    ConfigOption,
    DriverOption,
    JsonOption,
    MaceRootOption,
    MaceRunOption,
    ModelOption,
    ProfileOption,
    SerialOption,
)
from droidmace.cli.phones import one_phone, requests_of
from droidmace.cli.standard_output import kept_for_document
from droidmace.config import load_deployment
from droidmace.errors import EXIT_ERROR, EXIT_FAILED
from droidmace.report.bisect_view import bisect_view
from droidmace.report.phases import PhaseReporter
from droidmace.results.bisect import Cause
from droidmace.workflows.bisect import bisect
from droidmace.workflows.bisect_request import BisectRequest

DEFAULT_OUT = Path("out")
DEFAULT_MEMORY_MIB = 512


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("bisect", cls=EmulateCommand, no_args_is_help=True)(bisect_command)


def bisect_command(
    config: ConfigOption,
    serial: SerialOption = None,
    emulate: EmulateOption = 0,
    profile: ProfileOption = None,
    driver: DriverOption = None,
    model: ModelOption = None,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", min=0, help="Which sample of the data set to run, counted from 0."
        ),
    ] = 0,
    memory_mib: Annotated[
        int,
        typer.Option(
            "--memory",
            min=1,
            help="MiB of tensors that one process may read and write; a net with more is "
            "narrowed down in several runs first.",
        ),
    ] = DEFAULT_MEMORY_MIB,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the reproducer.")
    ] = DEFAULT_OUT,
    mace_run: MaceRunOption = None,
    mace_root: MaceRootOption = None,
    allow_plugin: AllowPluginOption = False,
    adb_port: AdbPortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name the op that goes wrong first on a phone's GPU, and why.

    The phone's CPU is the measure: every op runs on the GPU by itself, fed with the CPU's tensors.
    Half precision, Winograd and the memory type are suspects. What is wrong is written as a small
    model with its input. Takes at most log2(ops) + 3 processes.

    Exit code 0: nothing is wrong. 1: something is. 2: an error, or no op could be judged.
    """
    deployment = load_deployment(config)
    phone_request = requests_of(deployment, model, mace_run, mace_root)
    console = Console(stderr=as_json)
    with one_phone(serial, emulate=emulate, profile=profile, driver=driver, adb_port=adb_port) as (
        chosen,
        port,
    ):
        request = BisectRequest(
            phone=phone_request(chosen, port),
            out_dir=out,
            sample=sample,
            memory_bytes=memory_mib << 20,
            allow_plugin=allow_plugin,
        )
        with kept_for_document(as_json), PhaseReporter(console) as reporter:
            result = bisect(request, reporter)
    if as_json:
        typer.echo(json.dumps(result.as_document(), indent=2))
    else:
        Console().print(bisect_view(result))
    if result.found:
        raise typer.Exit(EXIT_FAILED)
    if result.cause is Cause.UNJUDGED:
        raise typer.Exit(EXIT_ERROR)
