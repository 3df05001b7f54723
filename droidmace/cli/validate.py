"""``droidmace validate``: right answers on many samples, and how near they are to a reference."""

from __future__ import annotations

import json
import shlex
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
from droidmace.config import DatasetConfig, Deployment, load_deployment
from droidmace.errors import EXIT_FAILED, InputError
from droidmace.report.phases import PhaseReporter
from droidmace.report.validate_view import validation_view
from droidmace.results.validation import ValidationResult
from droidmace.workflows.datasets import dataset_from_option
from droidmace.workflows.validate import validate
from droidmace.workflows.validate_request import ValidateRequest

DEFAULT_OUT = Path("out")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("validate", cls=EmulateCommand, no_args_is_help=True)(validate_command)


def validate_command(
    config: ConfigOption,
    serial: SerialOption = None,
    emulate: EmulateOption = 0,
    profile: ProfileOption = None,
    driver: DriverOption = None,
    model: ModelOption = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset",
            help="A folder of images, an .npz file or an IDX file, instead of the deployment "
            "file's; how to prepare the samples is still read there.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="With --dataset: its labels.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The first N samples only.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="cpu|reference|none|FILE",
            help="What to hold the outputs against: the same model on the phone's processor, the "
            "original model in onnxruntime on this computer, nothing but labels, or stored "
            "outputs. [default: reference]",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Run with this bundle's compiled program and tuned parameters."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the result and what is kept meanwhile.")
    ] = DEFAULT_OUT,
    save_outputs: Annotated[
        Path | None,
        typer.Option(
            "--save-outputs", help="Keep the phone's outputs in this .npz file, for --against."
        ),
    ] = None,
    mace_run: MaceRunOption = None,
    mace_root: MaceRootOption = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin anew instead of going on with a broken-off run."),
    ] = False,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep reference outputs for the next call."),
    ] = True,
    allow_plugin: AllowPluginOption = False,
    adb_port: AdbPortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run labelled samples through a model on a phone: Top-1, similarity, agreement.

    The samples travel in chunks, one process for each, while the next chunk is prepared. A run
    that is broken off goes on with the same command.

    Exit code 0: done, and every gate and MACE's validation_threshold are met. 1: one is not.
    2: an error.
    """
    deployment = load_deployment(config)
    phone_request = requests_of(deployment, model, mace_run, mace_root)
    console = Console(stderr=as_json)
    with one_phone(serial, emulate=emulate, profile=profile, driver=driver, adb_port=adb_port) as (
        chosen,
        port,
    ):
        request = ValidateRequest(
            phone=phone_request(chosen, port),
            dataset=_dataset(deployment, dataset, labels),
            settings=deployment.validate,
            out_dir=out,
            against=against,
            limit=limit,
            allow_plugin=allow_plugin,
            bundle=bundle,
            save_outputs=save_outputs,
            fresh=fresh,
            cache=cache,
        )
        try:
            with kept_for_document(as_json), PhaseReporter(console) as reporter:
                result = validate(request, reporter)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # What was kept of the work, if anything was; SystemExit is SIGTERM or SIGHUP.
            for kept in getattr(interrupt, "__notes__", ()):
                console.print(f"interrupted: {kept}", markup=False, soft_wrap=True)
            raise
    again = _bisect(
        config,
        dataset,
        serial=serial,
        emulate=bool(emulate),
        profile=profile,
        driver=driver,
        model=model,
        mace_run=mace_run,
        mace_root=mace_root,
        allow_plugin=allow_plugin,
        adb_port=adb_port,
    )
    _show(result, again, as_json=as_json)
    if result.passed is False:
        raise typer.Exit(EXIT_FAILED)


def _dataset(
    deployment: Deployment, dataset: Path | None, labels: Path | None
) -> DatasetConfig | None:
    if dataset is None:
        if labels is not None:
            raise InputError(
                "--labels is for --dataset",
                hint="add --dataset, or name the labels in the file: droidmace.dataset.labels",
            )
        return None
    return dataset_from_option(dataset, labels, deployment.dataset)


def _bisect(config: Path, dataset: Path | None, **options: str | Path | int | bool | None) -> str:
    """The command that bisects these samples on this phone; it reads no data set but the file's."""
    if dataset is not None:
        return ""
    words = ["droidmace", "bisect", "-c", str(config)]
    for name, value in options.items():
        if value is not None and value is not False:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    return shlex.join(words)


def _show(result: ValidationResult, bisect: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_document(), indent=2))
    else:
        Console().print(validation_view(result, bisect=bisect))
