"""``droidmace convert``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def convert(
        config: Annotated[
            Path, typer.Option("-c", "--config", help="MACE deployment file (YAML).")
        ],
        model_name: Annotated[
            str | None, typer.Option("--model-name", help="Convert this model only.")
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                help="Folder for NAME.pb and NAME.data. Default: where the deployment file's "
                "'droidmace: models:' points, else build/LIBRARY/model beside that file.",
            ),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Make the MACE model (graph and weights) from the ONNX file of a deployment."""
        from droidmace.workflows.convert import convert_deployment

        conversions = convert_deployment(config, model_name=model_name, output=output)
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
            console.print(f"  {ops}")
            for path, size in (
                (conversion.graph_file, conversion.graph_bytes),
                (conversion.data_file, conversion.data_bytes),
            ):
                console.print(f"  {escape(str(path))}  {size:,} bytes")
