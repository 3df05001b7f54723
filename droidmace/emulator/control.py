"""Asking a phone's daemon something over its control socket: one JSON line each way."""

from __future__ import annotations

import json
from collections.abc import Mapping

from droidmace.emulator.folder import PhoneFolder
from droidmace.errors import EmulatorError

_MAX_ANSWER_BYTES = 1 << 20


def request(
    folder: PhoneFolder, message: Mapping[str, object], *, timeout_s: float = 5.0
) -> dict[str, object]:
    """Send one request, return the daemon's answer.

    Raises ``EmulatorError`` when the phone is off, does not answer in time, or refuses.
    """
    name = folder.name
    try:
        with folder.open_control(listen=False) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(json.dumps(dict(message)).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(_MAX_ANSWER_BYTES)
    except TimeoutError as exc:
        raise EmulatorError(
            f"the phone's daemon did not answer in {timeout_s:g} s", where=name
        ) from exc
    except OSError as exc:
        raise EmulatorError(
            f"the phone's daemon cannot be reached: {exc.strerror or exc}",
            where=name,
            hint=f"droidmace phone start {name}",
        ) from exc
    try:
        answer = json.loads(line)
    except ValueError as exc:
        raise EmulatorError("the phone's daemon gave no answer", where=name) from exc
    if not isinstance(answer, dict):
        raise EmulatorError("the phone's daemon answered with something else", where=name)
    if answer.get("ok") is False:
        raise EmulatorError(
            f"the phone refused: {answer.get('error', 'no reason given')}", where=name
        )
    return answer
