"""``droidmace convert``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from droidmace.workflows.convert import Targets


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def convert(
        config: Annotated[
            Path, typer.Option("-c", "--config", help="MACE deployment file (YAML).")
        ],
        model_name: Annotated[
            str | None,
            typer.Option("--model-name", "--model_name", help="Convert this model only."),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                help="Files go to OUTPUT/NAME/model/NAME.pb and .data. Default: where the "
                "deployment file's 'droidmace: models:' points, else build/LIBRARY/model beside "
                "that file.",
            ),
        ] = None,
        target_abi: Annotated[
            str | None,
            typer.Option(
                "--target-abi",
                "--target_abi",
                "--target-abis",
                "--target_abis",
                help="In place of the file's target_abis; several by comma. A converted model is "
                "the same for all.",
            ),
        ] = None,
        target_socs: Annotated[
            str | None,
            typer.Option(
                "--target-socs",
                "--target_socs",
                help="In place of the file's target_socs: names by comma, 'all' or 'random'.",
            ),
        ] = None,
        device_conf: Annotated[
            Path | None,
            typer.Option(
                "--device-conf",
                "--device_conf",
                help="MACE's device file (YAML) of Arm-Linux boards; those that fit are named.",
            ),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Make the MACE model (graph and weights) from the ONNX file of a deployment."""
        from droidmace.workflows.convert import convert_deployment

        conversions = convert_deployment(
            config,
            model_name=model_name,
            output=output,
            target_abi=target_abi,
            target_socs=target_socs,
            device_conf=device_conf,
        )
        if as_json:
            document = {"models": [conversion.as_document() for conversion in conversions]}
            typer.echo(json.dumps(document, indent=2))
            return
        console = Console(soft_wrap=True, highlight=False)
        for conversion in conversions:
            summary = conversion.summary
            ops = ", ".join(f"{count} {op}" for op, count in summary.ops.items())
            console.print(
                f"[bold]{escape(conversion.model)}[/]  {summary.runtime} {summary.data_type}  "
                f"{summary.parameters:,} parameters, {summary.multiply_adds:,} multiply-adds"
            )
            console.print(f"  for {escape(_target_words(conversion.targets))}")
            console.print(f"  {ops}")
            for path, size in (
                (conversion.graph_file, conversion.graph_bytes),
                (conversion.data_file, conversion.data_bytes),
            ):
                console.print(f"  {escape(str(path))}  {size:,} bytes")
            for warning in summary.warnings:
                console.print(f"  [yellow]warning:[/] {escape(warning)}")


def _target_words(targets: Targets) -> str:
    words = ", ".join(targets.abis)
    if "all" not in targets.socs:
        words += " on " + ", ".join(targets.socs)
    if targets.boards:
        words += "; boards: " + ", ".join(board.name for board in targets.boards)
    return words
