"""``droidmace tune --replay``: strategies on recorded measurements."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console

from droidmace.report.replay_view import replay_view
from droidmace.workflows.replay import STRATEGIES, WITHIN, replay_journal

__all__ = ["STRATEGIES", "show_replay"]


def show_replay(
    journal: Path, strategy: str | None, *, evaluations: int | None, repeats: int, as_json: bool
) -> None:
    """Replay and print. Raises ``InputError``, ``FormatError`` and ``MissingExtraError``."""
    report = replay_journal(
        journal, strategy or STRATEGIES[0], evaluations=evaluations, repeats=repeats
    )
    if as_json:
        typer.echo(json.dumps(report.as_document(), indent=2))
        return
    Console(highlight=False).print(replay_view(report, WITHIN))
