"""A command loads its own module, and no other command's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.main import get_group

from droidmace.cli import COMMANDS, build_app


def names(app: typer.Typer) -> list[str]:
    return list(get_group(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_word_is_the_name_of_the_command(command: str) -> None:
    assert names(build_app(command)) == [command]


@pytest.mark.parametrize("word", ["", "--help", "--version", "validat", "../tune"])
def test_any_other_word_finds_all_of_them(word: str) -> None:
    assert names(build_app(word)) == list(COMMANDS)


def test_no_other_module_is_loaded() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['droidmace', 'validate', '--help']\n"
        "from droidmace.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('droidmace.cli.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.splitlines()[-1]
    assert "'droidmace.cli.validate'" in loaded
    assert "'droidmace.cli.tune'" not in loaded
