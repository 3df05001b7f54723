"""Which phones there are, which of them can be used, and the one that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from droidmace.devices.adb import AdbDevice
from droidmace.devices.adb_server import AdbServer, ListedDevice, find_servers
from droidmace.devices.probe import ProbeReport, probe
from droidmace.errors import (
    AdbUnavailableError,
    DeviceError,
    DeviceNotFoundError,
    DeviceUnusableError,
    InputError,
)
from droidmace.results import DeviceInfo

USABLE_STATE = "device"
PROBE_TIMEOUT_S = 10.0
_MAX_PARALLEL = 16

_STATES: dict[str, tuple[str, str]] = {
    "offline": (
        "it does not answer adb",
        "replug it, or run `adb reconnect offline`; restart the phone if that does not help",
    ),
    "unauthorized": (
        "it has not authorised this computer",
        "unlock the phone and accept its question about USB debugging",
    ),
    "authorizing": (
        "it is still being authorised",
        "accept the question on its screen, then try again",
    ),
    "connecting": ("it is still connecting", "try again in a few seconds"),
    "recovery": ("it runs its recovery system", "restart it into Android: `adb reboot`"),
    "rescue": ("it runs its rescue system", "restart it into Android: `adb reboot`"),
    "sideload": ("it waits for an update (sideload)", "restart it into Android: `adb reboot`"),
    "bootloader": ("it is in its bootloader", "restart it into Android: `fastboot reboot`"),
    "fastboot": ("it is in its bootloader", "restart it into Android: `fastboot reboot`"),
    "host": ("it is an adb host, not a phone", "connect a phone"),
    "detached": ("another program has taken it from adb", "run `adb attach` or end that program"),
}
"""adb's word for a state to what it means and how to get out of it."""


def explain_state(state: str) -> tuple[str, str]:
    """What is wrong with a device in ``state``, and the fix."""
    if state.startswith("no permissions"):
        return (
            "this user may not open its USB port",
            "install udev rules for it (Debian: apt install android-sdk-platform-tools-common) "
            "and replug it",
        )
    known = _STATES.get(state)
    return known or (f"adb calls its state {state!r}", "restart the phone")


def list_devices(
    adb_port: int | None = None, *, probe_timeout_s: float = PROBE_TIMEOUT_S
) -> list[DeviceInfo]:
    """All devices of all servers, probed in parallel; unusable ones carry the reason.

    A device that does not answer within ``probe_timeout_s`` is listed as unusable.
    Raises ``AdbUnavailableError`` only if no server at all can be spoken to.
    """
    listed = _listed(find_servers(adb_port))
    if not listed:
        return []
    with ThreadPoolExecutor(min(_MAX_PARALLEL, len(listed))) as pool:
        return list(pool.map(lambda entry: _describe(entry[0], entry[1], probe_timeout_s), listed))


def find_device(serial: str | None = None, adb_port: int | None = None) -> AdbDevice:
    """The phone of that serial; without one, the only usable phone there is.

    Raises ``DeviceNotFoundError`` (lists those there are), ``DeviceUnusableError``,
    ``AdbUnavailableError``, and ``InputError`` if no serial was given and there are several.
    """
    listed = _listed(find_servers(adb_port))
    if serial is None:
        usable = [entry for entry in listed if entry[1].state == USABLE_STATE]
        if len(usable) > 1:
            raise InputError(
                f"{len(usable)} phones are connected",
                hint=f"choose one with --serial: {_names(listed)}",
            )
        listed = usable or listed
        if len(listed) != 1:
            raise _not_found(None, listed)
    else:
        matching = [entry for entry in listed if entry[1].serial == serial]
        if not matching:
            raise _not_found(serial, listed)
        listed = matching
    server, entry = listed[0]
    if entry.state != USABLE_STATE:
        reason, fix = explain_state(entry.state)
        raise DeviceUnusableError(
            f"the phone is {_state_word(entry.state)}: {reason}", serial=entry.serial, hint=fix
        )
    return AdbDevice(server, entry.serial)


def _listed(servers: Sequence[AdbServer]) -> list[tuple[AdbServer, ListedDevice]]:
    """Every device once; a usable listing wins over an unusable one of the same serial."""
    found: dict[str, tuple[AdbServer, ListedDevice]] = {}
    failure: AdbUnavailableError | None = None
    answered = False
    for server in servers:
        try:
            server.ensure_running()
            entries = server.devices()
        except AdbUnavailableError as error:
            failure = error
            continue
        answered = True
        for entry in entries:
            known = found.get(entry.serial)
            if known is None or (known[1].state != USABLE_STATE and entry.state == USABLE_STATE):
                found[entry.serial] = (server, entry)
    if not answered and failure is not None:
        raise failure
    return list(found.values())


def _describe(server: AdbServer, entry: ListedDevice, timeout_s: float) -> DeviceInfo:
    """Probe one device; what goes wrong becomes its reason."""
    if entry.state != USABLE_STATE:
        reason, fix = explain_state(entry.state)
        return DeviceInfo(
            serial=entry.serial,
            state=_state_word(entry.state),
            model=entry.fields.get("model", ""),
            reason=f"{reason}; {fix}",
        )
    try:
        report: ProbeReport = probe(AdbDevice(server, entry.serial), timeout_s=timeout_s)
    except DeviceError as error:
        reason = error.message if error.hint is None else f"{error.message}; {error.hint}"
        return DeviceInfo(serial=entry.serial, state=entry.state, reason=reason)
    return report.info(entry.state)


def _state_word(state: str) -> str:
    """adb's state without the advice that it adds to ``no permissions``."""
    return "no permissions" if state.startswith("no permissions") else state


def _not_found(
    serial: str | None, listed: Sequence[tuple[AdbServer, ListedDevice]]
) -> DeviceNotFoundError:
    if listed:
        hint = f"connected: {_names(listed)}"
    else:
        hint = (
            "connect a phone with USB debugging on, or start an emulated one: droidmace phone start"
        )
    if serial is None:
        return DeviceNotFoundError("no usable phone is connected", hint=hint)
    return DeviceNotFoundError("no phone of this serial is connected", serial=serial, hint=hint)


def _names(listed: Sequence[tuple[AdbServer, ListedDevice]]) -> str:
    return ", ".join(
        entry.serial
        if entry.state == USABLE_STATE
        else f"{entry.serial} ({_state_word(entry.state)})"
        for _, entry in listed
    )
