"""``droidmace devices``."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def devices(
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        adb_port: Annotated[
            int | None,
            typer.Option(
                "--adb-port",
                metavar="PORT",
                help="Ask only the adb server on this port "
                "(default: $ANDROID_ADB_SERVER_PORT, or 5037 and the emulated phones').",
            ),
        ] = None,
    ) -> None:
        """List the phones: serial, state, model, soc, abi, GPU, Android release."""
        from rich.console import Console

        from droidmace.report.devices_view import devices_json, devices_table
        from droidmace.workflows.devices import list_phones

        phones = list_phones(adb_port)
        if as_json:
            typer.echo(devices_json(phones))
        else:
            Console(highlight=False).print(devices_table(phones))
