"""The control channel: JSON lines over a local socket, one request and one answer a line.

============================================  =====================================================
``{"op": "ping"}``                            answers as soon as the daemon serves
``{"op": "fault", "fault": {"kind": …}}``     see :mod:`droidmace.emulator.adbd.faults`
``{"op": "clear_faults"}``                    the phone is well again
``{"op": "stats", "prefixes": ["/data/…"]}``  counters; ``prefixes`` may be left out
``{"op": "shutdown"}``                        answers, then stops
============================================  =====================================================

An answer has ``"ok"``; if that is false, ``"error"`` says why.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Protocol

from droidmace.emulator.adbd.errors import FaultError
from droidmace.emulator.adbd.faults import Fault, parse_fault

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 << 10


class Controlled(Protocol):
    """What can be asked of the daemon."""

    def apply_fault(self, fault: Fault) -> None:
        """Let it happen."""
        ...

    def clear_faults(self) -> None:
        """Let it be over."""
        ...

    def report_stats(self, prefixes: list[str]) -> dict[str, object]:
        """The counters."""
        ...

    def stop(self) -> None:
        """Stop serving."""
        ...


async def serve_control(
    controlled: Controlled, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection to the control channel until it is closed."""
    try:
        while line := await reader.readline():
            answer, stop = _answer(controlled, line)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            if stop:
                controlled.stop()
    except (ConnectionError, ValueError) as exc:  # ValueError: a line beyond the limit.
        logger.warning("control channel: %s", exc)
    finally:
        writer.close()


def _answer(controlled: Controlled, line: bytes) -> tuple[dict[str, object], bool]:
    """The answer to one request, and whether the daemon stops after it."""
    try:
        request = json.loads(line)
    except ValueError:
        return {"ok": False, "error": "a request is one JSON object a line"}, False
    operation = request.get("op") if isinstance(request, dict) else None
    match operation:
        case "ping":
            return {"ok": True}, False
        case "fault":
            try:
                controlled.apply_fault(parse_fault(request.get("fault")))
            except FaultError as exc:
                return {"ok": False, "error": exc.message}, False
            return {"ok": True}, False
        case "clear_faults":
            controlled.clear_faults()
            return {"ok": True}, False
        case "stats":
            prefixes = request.get("prefixes", [])
            if not isinstance(prefixes, list):
                return {"ok": False, "error": "prefixes is a list of paths"}, False
            return {"ok": True, **controlled.report_stats([str(item) for item in prefixes])}, False
        case "shutdown":
            return {"ok": True}, True
    return {"ok": False, "error": f"unknown op {operation!r}"}, False
