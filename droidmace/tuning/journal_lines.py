"""The lines of a search's journal: values to JSON, and untrusted JSON back to values.

One object per line. The first line says who the journal belongs to, a ``groups`` line what is
searched, and each ``run`` line what one process tried and measured, in the order of the groups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from droidmace.errors import FormatError
from droidmace.tuning.search import Choice, Params, RunRecord, RunStatus

VERSION = 1
MAX_LINE_BYTES = 4 << 20
MAX_GROUPS = 20_000
MAX_KEYS = 100_000
MAX_TEXT = 4_096
_MAX_UINT32 = (1 << 32) - 1
_MAX_SECONDS = 1e18
"""And milliseconds: sums of such are finite."""
_NOT_IN_PLAN = 0

Json = object


def is_size(params: Params) -> bool:
    """Whether this can be a local size of two or three axes, and its block."""
    return len(params) in (3, 4) and min(params[:-1]) >= 1


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What is known of one tuning key; its candidates follow from it.

    ``gws`` in work-items, empty where unknown; ``kwg_size``: the most work-items of a work-group
    of this kernel, ``max_lws`` the device's limit per dimension, both None where unknown;
    ``block``: whether splitting the kernel may be tried.
    """

    key: str
    kernel: str = ""
    gws: tuple[int, ...] = ()
    kwg_size: int | None = None
    max_lws: tuple[int, ...] | None = None
    block: bool = False


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """Keys (as they stand in a parameter file) whose time only shows as a sum, and their ops."""

    name: str
    keys: tuple[KeyFacts, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JournalRun:
    """One process: which it was, to which repeat it belonged, and its record.

    ``spent_s``: seconds that the search had spent when it ended, those before an interruption
    included; 0 where the writer did not say.
    """

    index: int
    repeat: int
    record: RunRecord
    spent_s: float = 0.0


def dump(document: Mapping[str, Json]) -> bytes:
    """One line of the file."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate (a key that is not UTF-8) goes as an escape, which JSON allows.
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def load(line: bytes) -> dict[str, Json]:
    """One line's object. Raises ``FormatError``."""
    if len(line) > MAX_LINE_BYTES:
        raise FormatError(f"a line of more than {MAX_LINE_BYTES} bytes")
    try:
        document = json.loads(line.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"not a JSON object: {exc}") from exc
    if not isinstance(document, dict):
        raise FormatError("not a JSON object")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def header_document(identity: Mapping[str, str], created_utc: str) -> dict[str, Json]:
    """The first line."""
    return {"journal": VERSION, "created_utc": created_utc, "identity": dict(identity)}


def read_header(document: Mapping[str, Json]) -> dict[str, str]:
    """The identity in the first line. Raises ``FormatError``."""
    version = document.get("journal")
    if version is None:
        raise FormatError("this is not the journal of a search")
    if version != VERSION or isinstance(version, bool):
        raise FormatError(
            f"a journal of version {version!r}", hint=f"this droidmace reads version {VERSION}"
        )
    identity = document.get("identity")
    if not isinstance(identity, dict):
        raise FormatError("identity is not an object")
    return {_text(name, "identity"): _text(value, name) for name, value in identity.items()}


def groups_document(groups: Sequence[GroupFacts]) -> dict[str, Json]:
    """The line that says what is searched."""
    return {
        "groups": [
            {
                "name": group.name,
                "ops": list(group.ops),
                "keys": [
                    {
                        "key": key.key,
                        "kernel": key.kernel,
                        "gws": list(key.gws),
                        "kwg_size": key.kwg_size,
                        "max_lws": None if key.max_lws is None else list(key.max_lws),
                        "block": key.block,
                    }
                    for key in group.keys
                ],
            }
            for group in groups
        ]
    }


def read_groups(document: Mapping[str, Json]) -> tuple[GroupFacts, ...]:
    """Raises ``FormatError``."""
    groups = tuple(_group(entry) for entry in _list(document.get("groups"), "groups", MAX_GROUPS))
    if len({group.name for group in groups}) != len(groups):
        raise FormatError("two groups of one name")
    if sum(len(group.keys) for group in groups) > MAX_KEYS:
        raise FormatError(f"more than {MAX_KEYS} keys")
    return groups


def _group(entry: Json) -> GroupFacts:
    fields = _object(entry, "a group")
    return GroupFacts(
        name=_text(fields.get("name"), "name"),
        keys=tuple(_key(key) for key in _list(fields.get("keys"), "keys", MAX_KEYS)),
        ops=tuple(_text(op, "ops") for op in _list(fields.get("ops"), "ops", MAX_KEYS)),
    )


def _key(entry: Json) -> KeyFacts:
    fields = _object(entry, "a key")
    kwg_size, max_lws = fields.get("kwg_size"), fields.get("max_lws")
    block = fields.get("block", False)
    if not isinstance(block, bool):
        raise FormatError(f"block is {block!r}, not true or false")
    return KeyFacts(
        key=_text(fields.get("key"), "key"),
        kernel=_text(fields.get("kernel", ""), "kernel"),
        gws=_numbers(fields.get("gws", []), "gws"),
        kwg_size=None if kwg_size is None else _integer(kwg_size, "kwg_size"),
        max_lws=None if max_lws is None else _numbers(max_lws, "max_lws"),
        block=block,
    )


def run_document(run: JournalRun, groups: Sequence[GroupFacts]) -> dict[str, Json]:
    """The line of one process."""
    record = run.record
    choices: list[Json] = []
    for group in groups:
        choice = record.plan.get(group.name)
        if choice is None:
            choices.append(_NOT_IN_PLAN)
            continue
        choices.append([None if params is None else list(params) for params in choice])
    document: dict[str, Json] = {
        "run": run.index,
        "repeat": run.repeat,
        "status": record.status.value,
        "rounds": record.rounds,
        "wall_s": round(record.wall_s, 6),
        "spent_s": round(run.spent_s, 3),
        "other_ms": record.other_ms,
        "choices": choices,
        "ms": [record.group_ms.get(group.name) for group in groups],
    }
    if record.guilty is not None:
        document["guilty"] = record.guilty
    if record.reason:
        document["reason"] = record.reason[:MAX_TEXT]
    return document


def read_run(document: Mapping[str, Json], groups: Sequence[GroupFacts]) -> JournalRun:
    """Raises ``FormatError``."""
    status = document.get("status")
    if status not in list(RunStatus):
        raise FormatError(f"status is {status!r}, expected one of {', '.join(RunStatus)}")
    choices = _list(document.get("choices"), "choices", len(groups))
    times = _list(document.get("ms"), "ms", len(groups))
    if len(choices) != len(groups) or len(times) != len(groups):
        raise FormatError(f"{len(choices)} choices and {len(times)} times for {len(groups)} groups")
    guilty = document.get("guilty")
    record = RunRecord(
        plan={
            group.name: choice
            for group, entry in zip(groups, choices, strict=True)
            if (choice := _choice(entry, len(group.keys))) is not None
        },
        status=RunStatus(str(status)),
        rounds=_integer(document.get("rounds"), "rounds"),
        group_ms={
            group.name: _seconds(time_ms, "ms")
            for group, time_ms in zip(groups, times, strict=True)
            if time_ms is not None
        },
        other_ms=_seconds(document.get("other_ms", 0), "other_ms"),
        wall_s=_seconds(document.get("wall_s", 0), "wall_s"),
        guilty=None if guilty is None else _text(guilty, "guilty"),
        reason=_text(document.get("reason", ""), "reason"),
    )
    return JournalRun(
        index=_integer(document.get("run"), "run"),
        repeat=_integer(document.get("repeat", 0), "repeat"),
        record=record,
        spent_s=_seconds(document.get("spent_s", 0), "spent_s"),
    )


def _choice(entry: Json, keys: int) -> Choice | None:
    if entry == _NOT_IN_PLAN and isinstance(entry, int) and not isinstance(entry, bool):
        return None
    values = _list(entry, "a choice", keys)
    if len(values) != keys:
        raise FormatError(f"a choice of {len(values)} values for {keys} keys")
    return tuple(None if one is None else _numbers(one, "a choice") for one in values)


def winner_document(key: str, values: Params) -> dict[str, Json]:
    """The line of a kernel that the phone's own tuner has finished."""
    return {"winner": key, "values": list(values)}


def read_winner(document: Mapping[str, Json]) -> tuple[str, Params]:
    """Key (as it stands in a parameter file) and values. Raises ``FormatError``."""
    key = _text(document.get("winner"), "winner")
    return key, _numbers(document.get("values"), "values")


def step_document(name: str, seconds: float) -> dict[str, Json]:
    """The line that says that a step of the search is over, and what it took."""
    return {"step": name, "seconds": round(seconds, 3)}


def read_step(document: Mapping[str, Json]) -> tuple[str, float]:
    """Name and seconds. Raises ``FormatError``."""
    return _text(document.get("step"), "step"), _seconds(document.get("seconds", 0), "seconds")


def _object(value: Json, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not an object")
    return value


def _list(value: Json, what: str, limit: int) -> list[Json]:
    if not isinstance(value, list):
        raise FormatError(f"{what} is not a list")
    if len(value) > limit:
        raise FormatError(f"{what} has {len(value)} entries, expected at most {limit}")
    return value


def _text(value: Json, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise FormatError(f"{what} is not a text of at most {MAX_TEXT} characters")
    return value


def _integer(value: Json, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_UINT32:
        raise FormatError(f"{what} is not a number from 0 to {_MAX_UINT32}")
    return value


def _numbers(value: Json, what: str) -> Params:
    return tuple(_integer(one, what) for one in _list(value, what, 64))


def _seconds(value: Json, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{what} is not a time")
    try:
        number = float(value)
    except OverflowError as exc:
        raise FormatError(f"{what} is not a time") from exc
    if not 0 <= number <= _MAX_SECONDS:
        raise FormatError(f"{what} is not a time")
    return number
