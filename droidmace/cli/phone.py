"""``droidmace phone``: emulated phones."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from droidmace.errors import ConfigError, EmulatorError

if TYPE_CHECKING:
    from droidmace.emulator.manager import Phone

_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_FAULTS = (
    "unplug",
    "offline",
    "unauthorized",
    "freeze",
    "link",
    "hot",
    "low-battery",
    "crash",
    "clear",
)
_HOT_C = 95.0
_LOW_PERCENT = 4
_PIPE_COLUMNS = 250
_EXPONENT = re.compile(r"[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]{1,3}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    phone = typer.Typer(
        name="phone",
        help="Emulated phones: real adb, real shell, a real OpenCL driver, in a sandbox.",
        no_args_is_help=True,
    )
    phone.command("start")(start)
    phone.command("stop")(stop)
    phone.command("list")(list_)
    phone.command("reboot")(reboot)
    phone.command("fault")(fault)
    # What follows the name is the phone's command line, its options too.
    phone.command(
        "shell", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
    )(shell)
    phone.command("delete")(delete)
    app.add_typer(phone)


def start(
    name: Annotated[str | None, typer.Argument(help="A new or a stopped phone's name.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile (adreno, mali) or a YAML file. [default: adreno]")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="How many new phones.")] = 1,
    driver: Annotated[
        str | None,
        typer.Option(help="OpenCL driver behind the GPU: intel, pocl, a path, none."),
    ] = None,
    abi: Annotated[str | None, typer.Option(help="The only ABI that the phone runs.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="Limit /data, e.g. 64M; it then lies in RAM.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a profile's key, e.g. gpu.platform_version='OpenCL 2.0 …' (an OTA).",
        ),
    ] = None,
    adb_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the adb server to connect it to.")
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """Start an emulated phone, a new one or one that was stopped."""
    from droidmace.emulator.manager import start_phone

    if count > 1 and name is not None:
        raise ConfigError("a name is for one phone", where="--count", hint="leave the name out")
    overrides = _key_values(settings or [], "--set")
    phones = [
        start_phone(
            name,
            profile,
            driver=driver,
            abi=abi,
            storage=storage,
            overrides=overrides,
            adb_port=adb_port,
        )
        for _ in range(count)
    ]
    _show(phones, as_json=as_json)
    if not as_json:
        port, serial = phones[0].adb_server_port, phones[0].serial
        typer.echo(f"use it with: ANDROID_ADB_SERVER_PORT={port} adb -s {serial} shell")


def stop(
    name: Annotated[str | None, typer.Argument(help="The phone's name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every running phone.")] = False,
) -> None:
    """Switch an emulated phone off. What is on it stays for the next start."""
    from droidmace.emulator.manager import PhoneState, list_phones, stop_phone

    if every == (name is not None):
        raise ConfigError("which phone?", hint="give a name, or --all")
    on = (PhoneState.RUNNING, PhoneState.CRASHED)
    names = [phone.name for phone in list_phones() if phone.state in on]
    failures: list[EmulatorError] = []
    for each in names if every else [str(name)]:
        try:
            stop_phone(each)
        except EmulatorError as exc:  # the others are still to be stopped
            failures.append(exc)
        else:
            typer.echo(f"{each} is off")
    if failures:
        raise failures[0]


def list_(as_json: _JsonOption = False) -> None:
    """List the emulated phones."""
    from droidmace.emulator.manager import list_phones

    _show(list_phones(), as_json=as_json)


def reboot(name: Annotated[str, typer.Argument(help="The phone's name.")]) -> None:
    """Reboot an emulated phone and wait until adb can use it again."""
    from droidmace.emulator.manager import get_phone

    get_phone(name).reboot()


def fault(
    name: Annotated[str, typer.Argument(help="The phone's name.")],
    kind: Annotated[
        str,
        typer.Argument(help=", ".join(_FAULTS[:-1]) + f", or {_FAULTS[-1]}."),
    ],
    details: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="e.g. after_bytes=100000 refuse_s=5, bytes_per_s=1e6"
        ),
    ] = None,
) -> None:
    """Let something go wrong with a running phone; 'clear' makes all of it well again.

    - `unplug`: at once, or with `after_bytes=N` or `on_command=TEXT`; the cable is back at once,
      or after `refuse_s=SECONDS`, or with `refuse=true` at 'clear'
    - `offline`, `unauthorized`, `freeze`: what adb then sees of it
    - `link`: a slow cable, `bytes_per_s=N`
    - `hot`: `temperature_c=95`; `low-battery`: `level=4`, unplugged from power
    - `crash`: the power fails; nothing is saved
    """
    from droidmace.emulator.manager import get_phone

    if kind not in _FAULTS:
        raise ConfigError(f"unknown fault {kind!r}", hint=f"one of {', '.join(_FAULTS)}")
    phone = get_phone(name)
    values = _key_values(details or [], kind)
    match kind:
        case "clear":
            phone.clear_faults()
        case "crash":
            phone.crash()
        case "hot":
            phone.ping()  # a phone that is off takes its profile's temperature at the next start
            phone.set_temperature(_only_number(values, kind, "temperature_c", -40, 200, _HOT_C))
        case "low-battery":
            phone.ping()
            level = int(_only_number(values, kind, "level", 0, 100, _LOW_PERCENT))
            phone.set_battery(level=level, usb_powered=False)
        case _:
            if kind == "unplug" and not {"after_bytes", "on_command"} & values.keys():
                values.setdefault("now", True)
            phone.fault({"kind": kind} | values)


def shell(
    name: Annotated[str, typer.Argument(help="The phone's name.")],
    command: Annotated[list[str] | None, typer.Argument(help="A command line; none: ask.")] = None,
) -> None:
    """Open a shell on an emulated phone (``adb shell``)."""
    from droidmace.emulator.adb_server import find_adb
    from droidmace.emulator.manager import get_phone

    phone = get_phone(name)
    phone.ping()
    adb = find_adb()
    arguments = [adb, "-s", phone.serial, "shell", *(command or [])]
    os.execve(adb, arguments, phone.adb_server.environment())  # noqa: S606 - an argv, no shell


def delete(
    name: Annotated[str, typer.Argument(help="The phone's name.")],
) -> None:
    """Stop an emulated phone and remove everything that is on it."""
    from droidmace.emulator.manager import delete_phone

    delete_phone(name)
    typer.echo(f"{name} is gone")


def _show(phones: list[Phone], *, as_json: bool) -> None:
    from droidmace.emulator.manager import adb_states

    states = adb_states(phones)
    if as_json:
        records = [
            asdict(phone) | {"folder": str(phone.folder), "adb_state": states.get(phone.name, "")}
            for phone in phones
        ]
        typer.echo(json.dumps(records, indent=2))
        return
    table = Table(box=None, header_style="bold")
    for heading in ("name", "serial", "profile", "state", "adb", "gpu driver", "adb port"):
        table.add_column(heading, no_wrap=True)
    table.add_column("folder", overflow="fold")
    for phone in phones:
        cells = (
            phone.name,
            phone.serial,
            phone.profile,
            phone.state,
            states.get(phone.name, ""),
            phone.driver,
            str(phone.adb_server_port),
            str(phone.folder),
        )
        table.add_row(*map(escape, cells))
    # A pipe has no width; what reads it wants whole lines.
    Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)


def _only_number(
    values: dict[str, Any], kind: str, key: str, low: float, high: float, default: float
) -> float:
    """The one detail that a fault has. Raises ``ConfigError``."""
    unknown = sorted(set(values) - {key})
    if unknown:
        raise ConfigError(f"{kind} has no key {unknown[0]!r}", hint=f"{key}=NUMBER")
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{key} is a number from {low:g} to {high:g}, not {value!r}", where=kind)
    return value


def _key_values(words: list[str], where: str) -> dict[str, Any]:
    """``KEY=VALUE`` words; values are read as YAML scalars. Raises ``ConfigError``."""
    result: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise ConfigError(f"expected KEY=VALUE, found {word!r}", where=where)
        if _EXPONENT.fullmatch(text):
            result[key] = float(text)  # YAML 1.1 would want "1.0e+6" and takes "1e6" for a text
            continue
        try:
            result[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            result[key] = text  # a text that YAML stumbles over, such as "Date: 10/01/21: x"
        if not isinstance(result[key], str | int | float | bool | list):
            result[key] = text
    return result
