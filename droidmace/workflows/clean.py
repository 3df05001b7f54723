"""The story of ``droidmace clean``: take away from a phone what tuning has put there."""

from __future__ import annotations

import shlex

from droidmace.devices.select import find_device
from droidmace.errors import DeviceBusyError, DeviceStorageError
from droidmace.resources import device_script

_BUSY_STATUS = 75


def clean(serial: str, adb_port: int | None, *, force: bool) -> tuple[str, ...]:
    """Remove droidmace's files from a phone; return the paths that were removed.

    With ``force`` also while its lock says that a run is under way. Raises ``DeviceBusyError``
    without it, and the device's own errors.
    """
    device = find_device(serial, adb_port)
    arguments = ["-f"] if force else []
    result = device.run(shlex.join(["sh", "-c", device_script("clean.sh"), "clean.sh", *arguments]))
    if result.exit_code == _BUSY_STATUS:
        raise DeviceBusyError(
            "a run is under way on the phone; nothing was removed",
            serial=serial,
            hint="wait until it has ended, or add --force if it has died",
        )
    if result.exit_code != 0:
        raise DeviceStorageError(
            "not everything could be removed",
            serial=serial,
            exit_code=result.exit_code,
            stderr=result.error_text,
            hint="restart the phone and try again",
        )
    return tuple(result.text.splitlines())
