"""The ``droidmace`` command: one module per command, each with ``register(app)``."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from droidmace import __version__
from droidmace.errors import EXIT_ERROR, DroidmaceError
from droidmace.wording import printable

COMMANDS = (
    "devices",
    "tune",
    "validate",
    "bench",
    "bisect",
    "convert",
    "inspect",
    "clean",
    "phone",
)
"""Modules of this package, each with the command of its name, in the order of ``--help``."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"droidmace {__version__}")
        raise typer.Exit


def build_app(word: str = "") -> typer.Typer:
    """Assemble the typer application from the command modules.

    ``word``: the command line's first. If that is a command, no other one's module is loaded, which
    would take longer than many a command takes.
    """
    app = typer.Typer(
        name="droidmace",
        help="Tune, prove and ship MACE's compiled OpenCL programs for Android phones.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )

    @app.callback()
    def _root(
        _version: Annotated[
            bool,
            typer.Option(
                "--version",
                help="Print the version and exit.",
                is_eager=True,
                callback=_print_version,
            ),
        ] = False,
    ) -> None:
        pass

    for name in (word,) if word in COMMANDS else COMMANDS:
        importlib.import_module(f"droidmace.cli.{name}").register(app)
    return app


def render_error(error: DroidmaceError, *, as_json: bool) -> None:
    """Print an error: what, where, how to fix; the device's own output below."""
    if as_json:
        record = {
            "error": type(error).__name__,
            "message": error.message,
            "phase": error.phase,
            "where": error.where,
            "hint": error.hint,
            "details": error.details,
        }
        typer.echo(json.dumps({"error": record}, indent=2), err=True)
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    phase = f" during {error.phase}:" if error.phase else ""
    console.print(f"[bold red]error:[/]{phase} {escape(printable(str(error)))}")
    if error.details:
        for line in error.details.splitlines()[-20:]:
            console.print(f"  [dim]│[/] {escape(printable(line))}")
    if error.hint:
        console.print(f"  [bold]fix:[/] {escape(printable(error.hint))}")


def _tidy_up_when_ended() -> None:
    """Let SIGTERM (a job's limit) and SIGHUP (a closed terminal) tidy up as Ctrl-C does.

    Else what runs on a phone, its lock, and emulated phones would be left behind.
    """

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        # Windows has no SIGHUP; one that is ignored (nohup) stays so.
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, leave)


def main() -> None:
    """Entry point: run the command, turn every ``DroidmaceError`` into its exit code."""
    _tidy_up_when_ended()
    try:
        build_app(*sys.argv[1:2])()
    except DroidmaceError as error:
        render_error(error, as_json="--json" in sys.argv[1:])
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output left (``| head``): nothing to say and nobody to say it to.
        sys.stderr.close()
        sys.exit(EXIT_ERROR)
