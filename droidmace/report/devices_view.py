"""How a list of phones is shown: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from droidmace.results import DeviceInfo

NO_PHONES = (
    "No phones. Connect one with USB debugging on, or start an emulated one: droidmace phone start"
)
_COLUMNS = ("serial", "state", "model", "soc", "abi", "GPU", "Android")


def devices_table(phones: Sequence[DeviceInfo]) -> RenderableType:
    """A table of the usable phones' facts; the others fill their row with the reason."""
    if not phones:
        return Text(NO_PHONES)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        # A serial that is cut off cannot be given back to --serial.
        table.add_column(name, overflow="fold", no_wrap=name == "serial")
    for phone in phones:
        facts = (phone.model, phone.soc, phone.abi, phone.gpu, phone.android_release)
        cells = [Text(phone.serial), Text(phone.state), *(Text(fact or "-") for fact in facts)]
        table.add_row(*cells, style=None if phone.usable else "dim")
    reasons = [phone for phone in phones if not phone.usable]
    if not reasons:
        return table
    notes = Table.grid(padding=(0, 1))
    for phone in reasons:
        notes.add_row(Text(f"{phone.serial}:", style="bold"), Text(phone.reason or ""))
    page = Table.grid()
    page.add_row(table)
    page.add_row("")
    page.add_row(notes)
    return page


def devices_json(phones: Sequence[DeviceInfo]) -> str:
    """``{"devices": [{serial, state, usable, reason, model, …}]}``."""
    records = [
        {
            "serial": phone.serial,
            "state": phone.state,
            "usable": phone.usable,
            "reason": phone.reason,
            "model": phone.model,
            "device_name": phone.device_name,
            "soc": phone.soc,
            "abi": phone.abi,
            "abis": list(phone.abis),
            "gpu": phone.gpu,
            "android_release": phone.android_release,
        }
        for phone in phones
    ]
    return json.dumps({"devices": records}, indent=2)
