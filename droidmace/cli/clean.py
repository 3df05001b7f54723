"""``droidmace clean``: take away from a phone what tuning has put there."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from droidmace.cli.options import AdbPortOption
from droidmace.cli.phones import named_phone
from droidmace.workflows.clean import clean


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("clean", no_args_is_help=True)(clean_command)


def clean_command(
    serial: Annotated[str, typer.Option("--serial", "-s", help="The phone.", show_default=False)],
    force: Annotated[
        bool, typer.Option("--force", help="Also if its lock says that a run is under way.")
    ] = False,
    adb_port: AdbPortOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the removed paths as JSON.")
    ] = False,
) -> None:
    """Remove everything that droidmace has put on a phone: binary, models, samples, results.

    The next 'droidmace tune' pushes them again.
    """
    serial, adb_port = named_phone(serial, adb_port)
    removed = clean(serial, adb_port, force=force)
    if as_json:
        typer.echo(json.dumps({"serial": serial, "removed": removed}, indent=2))
        return
    for path in removed:
        typer.echo(f"removed {path}")
    if not removed:
        typer.echo("nothing of droidmace's was there")
