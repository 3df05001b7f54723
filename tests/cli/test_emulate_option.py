"""``--emulate [N]``, and emulated phones called by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from droidmace.cli import build_app
from droidmace.cli.emulate import EmulateCommand, EmulateSeveralOption
from droidmace.cli.phones import named_phone, one_phone
from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from droidmace.errors import DeviceNotFoundError, InputError

FASHION = Path(__file__).parents[2] / "configs" / "fashion_mnist.yml"


def parsed(*words: str) -> str:
    """What a command with both forms has read."""
    app = typer.Typer()

    @app.command(cls=EmulateCommand)
    def command(
        emulate: EmulateSeveralOption = 0,
        config: Annotated[str, typer.Option("-c")] = "",
        as_json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        typer.echo(f"{emulate} {config} {as_json}")

    result = CliRunner().invoke(app, words)
    return result.output.strip() if result.exit_code == 0 else f"exit {result.exit_code}"


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ((), "0  False"),
        (("--emulate",), "1  False"),
        (("--emulate", "--json"), "1  True"),
        (("-c", "x", "--emulate"), "1 x False"),
        (("--emulate", "-c", "x"), "1 x False"),
        (("--emulate", "3", "-c", "x"), "3 x False"),
        (("--emulate=2",), "2  False"),
        (("--emulate", "65"), "exit 2"),
        (("--emulate", "mali"), "exit 2"),
    ],
)
def test_the_number_may_be_left_out(words: tuple[str, ...], read: str) -> None:
    assert parsed(*words) == read


@pytest.mark.parametrize("command", ["bench", "bisect", "validate"])
def test_commands_for_one_phone(command: str) -> None:
    result = CliRunner().invoke(build_app(), [command, "-c", str(FASHION), "--emulate", "2"])
    assert isinstance(result.exception, InputError)
    assert "runs on one phone" in str(result.exception)


@pytest.mark.parametrize("command", ["bench", "bisect", "tune", "validate"])
def test_all_of_them_take_it_alone(command: str) -> None:
    words = [command, "-c", str(FASHION), "--emulate", "--serial", "x"]
    result = CliRunner().invoke(build_app(), words)
    assert isinstance(result.exception, InputError), result.output
    assert "--serial" in str(result.exception)


def test_a_name_stands_for_the_serial(
    start_phone: Callable[..., Phone], adreno_phone: Phone
) -> None:
    assert named_phone(adreno_phone.name, None) == (
        adreno_phone.serial,
        adreno_phone.adb_server_port,
    )
    assert named_phone(adreno_phone.serial, 7) == (adreno_phone.serial, 7)
    with one_phone(adreno_phone.name, emulate=0, profile=None, driver=None, adb_port=None) as one:
        assert one[0] == adreno_phone.serial
    stopped = start_phone("stopped", "adreno", driver="none")
    manager.stop_phone(stopped.name)
    with pytest.raises(DeviceNotFoundError, match="not running") as caught:
        named_phone(stopped.name, None)
    assert caught.value.hint == "droidmace phone start stopped"
