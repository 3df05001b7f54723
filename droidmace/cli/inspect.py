"""``droidmace inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="inspect")(inspect)


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="A compiled program, tuned parameters, a MACE or ONNX model, a bundle folder"
            " or its manifest.json.",
            show_default=False,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a file is and what it holds."""
    from droidmace.report.inspect_view import inspection_view
    from droidmace.workflows.inspect import inspect_path

    inspection = inspect_path(file)
    if as_json:
        typer.echo(json.dumps(inspection.record(), indent=2))
    else:
        Console(highlight=False).print(inspection_view(inspection))
