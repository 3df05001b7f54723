"""What the daemon has moved and run, for whoever watches over the control channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_MAX_PATHS = 10_000
"""Paths remembered one by one; a phone that is used for long must not grow for ever."""


class Stats:
    """Counters since the daemon started."""

    def __init__(self) -> None:
        self.connections = 0
        self.commands = 0
        self.stdin_bytes = 0
        self.stdout_bytes = 0
        self.pushed_files = 0
        self.pulled_files = 0
        self._pushed_bytes: Counter[str] = Counter()
        self._pulled_bytes: Counter[str] = Counter()

    def add_pushed(self, path: str, byte_count: int) -> None:
        """Content bytes received for ``path``, whether or not the push then succeeded."""
        _add(self._pushed_bytes, path, byte_count)

    def add_pulled(self, path: str, byte_count: int) -> None:
        """Content bytes sent from ``path``."""
        _add(self._pulled_bytes, path, byte_count)

    def report(self, prefixes: Iterable[str] = ()) -> dict[str, object]:
        """The counters as JSON values; per prefix, the bytes of all paths that start with it.

        Content that moves through a command's input or output counts as ``stdin_bytes`` and
        ``stdout_bytes``, not as pushed or pulled.
        """
        return {
            "connections": self.connections,
            "commands": self.commands,
            "stdin_bytes": self.stdin_bytes,
            "stdout_bytes": self.stdout_bytes,
            "pushed_files": self.pushed_files,
            "pulled_files": self.pulled_files,
            "pushed_bytes": self._pushed_bytes.total(),
            "pulled_bytes": self._pulled_bytes.total(),
            "prefixes": {
                prefix: {
                    "pushed_bytes": _sum_below(self._pushed_bytes, prefix),
                    "pulled_bytes": _sum_below(self._pulled_bytes, prefix),
                }
                for prefix in prefixes
            },
        }


def _add(counter: Counter[str], path: str, byte_count: int) -> None:
    known = path in counter or len(counter) < _MAX_PATHS
    counter[path if known else "(others)"] += byte_count


def _sum_below(counter: Counter[str], prefix: str) -> int:
    return sum(count for path, count in counter.items() if path.startswith(prefix))
