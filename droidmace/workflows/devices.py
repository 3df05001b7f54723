"""The story of ``droidmace devices``: ask every adb server, look at every phone."""

from __future__ import annotations

from droidmace.devices.select import list_devices
from droidmace.results import DeviceInfo


def list_phones(adb_port: int | None = None) -> tuple[DeviceInfo, ...]:
    """All phones, usable ones first, each group by serial.

    Raises ``AdbUnavailableError`` and ``InputError``; a phone that fails is listed with its reason.
    """
    found = list_devices(adb_port)
    return tuple(sorted(found, key=lambda phone: (not phone.usable, phone.serial)))
