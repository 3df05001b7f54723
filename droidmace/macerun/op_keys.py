"""Which tuning keys each op runs with, as a run at VLOG 3 tells.

``mace/utils/tuner.h`` logs ``KEY: [..]`` before a kernel is put into the queue with parameters from
the file, ``mace/core/net/serial_net.cc`` logs ``Operator NAME has shape: ..`` once an op's kernels
are there, and ``--benchmark``'s table names the same ops. So the keys between two such lines are
those of the op that the second one names. Transforms of weights run before the first inference and
belong to no op.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from droidmace.formats.obfuscation import obfuscate_symbol
from droidmace.formats.store_keys import QUEUE_WINDOW_SIZE_KEY
from droidmace.macerun.events import (
    OperatorRan,
    OutputLine,
    ParametersApplied,
    RetryNoticed,
    StageReached,
)

MAX_PAIRS = 200_000
"""Pairs of op and key that are kept of one run: its log is untrusted."""


class OpKeyReader:
    """Takes a run's lines; knows in the end which op ran which keys (readable ones)."""

    def __init__(self) -> None:
        self._pending: dict[str, None] = {}
        self._running = False
        self._keys: dict[str, dict[str, None]] = {}
        self._pairs_left = MAX_PAIRS

    @property
    def keys_by_op(self) -> dict[str, tuple[str, ...]]:
        """Op name to its keys, in the order in which they were first seen."""
        return {name: tuple(keys) for name, keys in self._keys.items() if keys}

    def line(self, line: OutputLine) -> None:
        """Take the next line."""
        match line.event:
            case StageReached() | RetryNoticed():
                # What came before was no op's, or that of an op that failed.
                self._pending.clear()
                self._running = isinstance(line.event, StageReached)
            case ParametersApplied(key, _) if self._running and len(self._pending) < MAX_PAIRS:
                self._pending[key] = None
            case OperatorRan(name):
                if self._running:
                    self._keep(name)
                self._pending.clear()
            case _:
                pass

    def _keep(self, name: str) -> None:
        keys = self._keys.setdefault(name, {}) if self._pairs_left > 0 else {}
        for key in self._pending:
            if key not in keys and self._pairs_left > 0:
                keys[key] = None
                self._pairs_left -= 1


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """Keys that only show in the time of the same ops, as far as they can be told apart."""

    keys: tuple[str, ...]
    ops: tuple[str, ...]


def group_keys(keys_by_op: Mapping[str, Iterable[str]], ops: Collection[str]) -> list[KeyGroup]:
    """Groups in the order of their first op; only ``ops``, those that the table times, count.

    Ops that share a key are one group, and so are keys that one op runs. A key that an op runs
    which the table does not show cannot be judged, nor can any key of its group: it is left out.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for op, keys in keys_by_op.items():
        for key in keys:
            parent[root(("key", key))] = root(("op", op))
    members: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for node in parent:
        members.setdefault(root(node), []).append(node)
    groups = []
    for nodes in members.values():
        found = KeyGroup(
            keys=tuple(name for kind, name in nodes if kind == "key"),
            ops=tuple(name for kind, name in nodes if kind == "op"),
        )
        if all(op in ops for op in found.ops):
            groups.append(found)
    order = {op: place for place, op in enumerate(ops)}
    return sorted(groups, key=lambda group: min(order[op] for op in group.ops))


def raw_keys(
    readable: Iterable[str], in_file: Collection[str], *, obfuscated: bool = False
) -> dict[str, str]:
    """Readable key (as in the log) to the key as it stands in a parameter file.

    Builds that obfuscate (``obfuscated``, where that is known) write obfuscated keys and log
    readable ones. Keys that the file does not have, and those that are no kernel's, are left out.
    """
    found = {}
    for key in readable:
        forms = (key, obfuscate_symbol(key))
        for raw in reversed(forms) if obfuscated else forms:
            if raw in in_file and raw != QUEUE_WINDOW_SIZE_KEY:
                found[key] = raw
                break
    return found
