"""What a tuning key says: the kernel's name and the sizes that MACE appends to it.

MACE joins a name and its sizes with ``_``; its weight transforms append the tensor's shape as
``[a, b, c]`` instead (``Concat`` and ``MakeString`` in XiaoMi/mace).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from droidmace.formats.obfuscation import is_obfuscated, readable_symbol

# A size is an int64. Two patterns that start anywhere cost the square of a key's length.
_MAX_KEY_CHARACTERS = 1024
_LISTED = re.compile(r"(?P<name>.*?)_*\[(?P<sizes>-?[0-9]{1,19}(?:, -?[0-9]{1,19})*)\]", re.ASCII)
_JOINED = re.compile(r"(?P<name>.*?)_*(?P<sizes>(?:_-?[0-9]{1,19})+)", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class TuningKey:
    """A tuning key taken apart. ``sizes`` is empty where the key does not end in numbers."""

    key: str
    """As it stands in the file."""
    readable: str
    """Decoded, if it is obfuscated."""
    kernel: str
    sizes: tuple[int, ...]

    @property
    def obfuscated(self) -> bool:
        """Whether an obfuscating build of MACE wrote it."""
        return is_obfuscated(self.key)

    @classmethod
    def parse(cls, key: str) -> TuningKey:
        """Take any key apart; one of another shape has itself as kernel and no sizes."""
        readable = readable_symbol(key)
        if len(readable) > _MAX_KEY_CHARACTERS:
            return cls(key, readable, readable, ())
        found = _LISTED.fullmatch(readable) or _JOINED.fullmatch(readable)
        if found is None or not found["name"]:
            return cls(key, readable, readable, ())
        sizes = tuple(int(number) for number in _NUMBER.findall(found["sizes"]))
        return cls(key, readable, found["name"], sizes)


@dataclass(frozen=True, slots=True)
class LaunchShape:
    """How a kernel is enqueued: local work-group size in work items, and the slice at a time."""

    lws: tuple[int, ...]
    block: int

    @classmethod
    def of(cls, values: tuple[int, ...]) -> LaunchShape | None:
        """From a tuned value: ``lws0, lws1, [lws2,] block``; None for one of another length."""
        return cls(values[:-1], values[-1]) if len(values) in (3, 4) else None
