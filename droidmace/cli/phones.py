"""Which phones and which model a command means."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from droidmace.config import Deployment
from droidmace.errors import DeviceNotFoundError, InputError
from droidmace.workflows.devices import list_phones
from droidmace.workflows.workplace import PhoneRequest

DEFAULT_PROFILE = "adreno"


def check_choice(serial: str | None, *, every: bool, emulate: int) -> None:
    """Refuse none, or more than one, of the ways to say which phones."""
    given = {"--serial": serial is not None, "--all": every, "--emulate": emulate > 0}
    chosen = [option for option, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise InputError(
            f"{' and '.join(chosen)} exclude each other", hint="say one of them: on which phone"
        )
    if not chosen:
        raise InputError(
            "say on which phone: one of --serial X, --all or --emulate",
            hint="'droidmace devices' lists the phones that are connected",
        )


def named_phone(serial: str, adb_port: int | None) -> tuple[str, int | None]:
    """Serial and adb port of the phone that ``--serial`` means.

    The name of an emulated phone stands for its serial. Raises ``DeviceNotFoundError`` for one that
    is switched off.
    """
    from droidmace.emulator import manager

    # What is no phone's name is a serial; whether there is such a phone, adb will tell.
    phone = next((one for one in manager.list_phones() if one.name == serial), None)
    if phone is None:
        return serial, adb_port
    if phone.state is not manager.PhoneState.RUNNING:
        raise DeviceNotFoundError(
            "the emulated phone is not running",
            serial=serial,
            hint=f"droidmace phone start {serial}",
        )
    return phone.serial, phone.adb_server_port


def usable_serials(adb_port: int | None, console: Console) -> list[str]:
    """Every phone that can be used; tells which are left out, and why."""
    phones = list_phones(adb_port)
    for phone in phones:
        if not phone.usable:
            console.print(f"{phone.serial}  left out: {phone.reason}", markup=False, soft_wrap=True)
    serials = [phone.serial for phone in phones if phone.usable]
    if not serials:
        raise DeviceNotFoundError(
            "no usable phone is connected" if phones else "no phone is connected",
            hint="connect one with USB debugging allowed, or try 'droidmace tune --emulate'",
        )
    return serials


def requests_of(
    deployment: Deployment, model: str | None, mace_run: Path | None, mace_root: Path | None
) -> Callable[[str, int | None], PhoneRequest]:
    """What the options ask of a phone, once its serial and its adb server's port are known.

    The model is chosen at once: no phone is started for one that is not there.
    """
    name = _model_name(deployment, model)

    def request(serial: str, adb_port: int | None) -> PhoneRequest:
        return PhoneRequest(
            serial=serial,
            deployment=deployment,
            model_name=name,
            adb_port=adb_port,
            mace_run=mace_run,
            mace_root=mace_root,
        )

    return request


def _model_name(deployment: Deployment, model: str | None) -> str:
    """The model that is meant, if it can be only one."""
    names = list(deployment.models)
    if model is None:
        if len(names) > 1:
            raise InputError(
                f"the file holds {len(names)} models",
                where=str(deployment.path),
                hint=f"choose one with --model: {', '.join(names)}",
            )
        return names[0]
    if model not in deployment.models:
        raise InputError(
            f"no model of the name {model!r}",
            where=str(deployment.path),
            hint=f"names there: {', '.join(names)}",
        )
    return model


@contextlib.contextmanager
def emulated(
    count: int, profile: str, driver: str | None, adb_port: int | None
) -> Iterator[tuple[list[str], int]]:
    """Start phones for this call; their storage stays, so that a next call pushes less."""
    from droidmace.emulator import manager

    running = {
        phone.name for phone in manager.list_phones() if phone.state is manager.PhoneState.RUNNING
    }
    # A phone keeps what was pushed to it, so each kind of phone has names of its own.
    names = map(f"tune-{Path(profile).stem}-{{}}".format, itertools.count(1))
    free = (name for name in names if name not in running)
    phones = []
    with contextlib.ExitStack() as stack:
        for name in itertools.islice(free, count):
            phones.append(manager.start_phone(name, profile, driver=driver, adb_port=adb_port))
            # One by one: a phone that does not stop keeps no other from stopping.
            stack.callback(manager.stop_phone, name)
        yield [phone.serial for phone in phones], phones[0].adb_server_port


@contextlib.contextmanager
def one_phone(
    serial: str | None,
    *,
    emulate: int,
    profile: str | None,
    driver: str | None,
    adb_port: int | None,
) -> Iterator[tuple[str, int | None]]:
    """The serial of the phone that a command for one phone means, and its adb server's port.

    ``emulate`` 1 starts one for as long as the context lasts.
    """
    if (serial is not None) == bool(emulate):
        raise InputError(
            "say on which phone: either --serial X or --emulate",
            hint="'droidmace devices' lists the phones that are connected",
        )
    if serial is not None:
        if profile or driver:
            raise InputError(
                "--profile and --driver are for the phone that --emulate starts",
                hint="leave them out, or give --emulate instead of --serial",
            )
        yield named_phone(serial, adb_port)
        return
    with emulated(1, profile or DEFAULT_PROFILE, driver, adb_port) as (serials, port):
        yield serials[0], port
