"""``--emulate [N]``: an option whose number may be left out.

Typer has no optional value, so the missing 1 is put in before Typer reads the words.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from droidmace.errors import InputError

OPTION = "--emulate"
MAX_PHONES = 64


def _at_most_one(count: int) -> int:
    if count not in (0, 1):
        raise InputError(
            f"{OPTION} {count}: this command runs on one phone", hint="leave the number out"
        )
    return count


EmulateOption = Annotated[
    int,
    typer.Option(
        OPTION,
        metavar="[1]",
        callback=_at_most_one,
        show_default=False,
        help="Start an emulated phone for this call.",
    ),
]
EmulateSeveralOption = Annotated[
    int,
    typer.Option(
        OPTION,
        metavar="[N]",
        min=0,
        max=MAX_PHONES,
        show_default=False,
        help="Start an emulated phone for this call, or N of them.",
    ),
]


class EmulateCommand(TyperCommand):
    """A command that has ``--emulate``."""

    # The context's class is click's, of which newer versions of Typer have a private copy.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Read the command line."""
        return super().parse_args(ctx, with_number(args))


def with_number(words: list[str]) -> list[str]:
    """The words, with a 1 after each ``--emulate`` that no value follows."""
    found: list[str] = []
    for index, word in enumerate(words):
        found.append(word)
        following = words[index + 1 : index + 2]
        if word == OPTION and (not following or following[0].startswith("-")):
            found.append("1")
    return found
