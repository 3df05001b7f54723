"""The outputs of a chunk of samples, each put where it belongs exactly once.

``split -a 4`` ends the samples' names with ``_aaaa``, ``_aaab``, …; ``mace_run`` ends those of a
sample's outputs as it finds that of its first input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from droidmace.errors import FormatError
from droidmace.formats.tensor_values import Values, value_type
from droidmace.macerun.archive import Unpacker
from droidmace.macerun.invocation import TensorArg, formatted_name, sample_file_name

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SUFFIX_LETTERS = 4
_SUFFIX_LENGTH = 1 + _SUFFIX_LETTERS
_MOST_STRANGE = 5


def split_suffix(index: int) -> str:
    """How ``split -a 4`` ends file ``index``'s name. Raises ``ValueError`` beyond ``_zzzz``."""
    letters = ""
    for _ in range(_SUFFIX_LETTERS):
        index, letter = divmod(index, len(_LETTERS))
        letters = _LETTERS[letter] + letters
    if index:
        raise ValueError("too many samples for one chunk")
    return f"_{letters}"


def split_index(suffix: str) -> int | None:
    """The number of the file whose name ``split -a 4`` ends so; None if it ends none."""
    letters = suffix[1:]
    if not suffix.startswith("_") or len(letters) != _SUFFIX_LETTERS:
        return None
    index = 0
    for letter in letters:
        place = _LETTERS.find(letter)
        if place < 0:
            return None
        index = index * len(_LETTERS) + place
    return index


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """One output of all samples: where its files go, and which of them have come."""

    tensor: TensorArg
    content: memoryview
    came: bytearray


class BatchOutputs:
    """Takes the archive of a chunk's outputs apart, into one array for each output."""

    def __init__(self, tensors: Sequence[TensorArg], count: int) -> None:
        self.values: dict[str, Values] = {}
        """By the output's name, shape (count, elements); zero where nothing came."""
        self._wanted: dict[str, _Wanted] = {}
        for tensor in tensors:
            shape = (count, tensor.size_bytes // 4)
            values = np.zeros(shape, value_type(tensor.data_type))
            self.values[tensor.name] = values
            content = values.reshape(-1).view(np.uint8).data
            self._wanted[formatted_name(tensor)] = _Wanted(tensor, content, bytearray(count))
        self._unpacker = Unpacker(self._place)
        self._strange: list[str] = []
        self._wrong_size = 0
        self._broken = ""

    def feed(self, data: bytes) -> None:
        """Take more of the archive; what is wrong with it shows in :meth:`problems`."""
        if self._broken or not data:
            return
        try:
            self._unpacker.feed(data)
        except FormatError as error:
            self._broken = error.message

    @property
    def wrong(self) -> int:
        """How many outputs did not come, or not in their size."""
        return sum(wanted.came.count(0) for wanted in self._wanted.values()) + self._wrong_size

    def problems(self) -> list[str]:
        """What is wrong, a sentence each."""
        found = [self._broken] if self._broken else []
        found += self._strange
        found += [f"{name} was not written" for name in self._missing()]
        if not self._unpacker.ended and not found:
            found.append("came in an archive without its end")
        return found

    def _missing(self) -> Iterator[str]:
        for wanted in self._wanted.values():
            for index, came in enumerate(wanted.came):
                if not came:
                    yield sample_file_name(wanted.tensor, split_suffix(index))

    def _place(self, path: str, size: int) -> memoryview | None:
        name = path.removeprefix("./")
        wanted = self._wanted.get(name[:-_SUFFIX_LENGTH])
        index = split_index(name[-_SUFFIX_LENGTH:])
        if wanted is None or index is None or index >= len(wanted.came):
            self._strange.append(f"{name[:120]!r} is not what was asked for")
        elif wanted.came[index]:
            self._strange.append(f"{name[:120]!r} came twice")
        else:
            wanted.came[index] = 1
            own = wanted.tensor.size_bytes
            if size == own:
                return wanted.content[index * own : (index + 1) * own]
            self._wrong_size += 1
            self._strange.append(f"{name} has {size} bytes instead of {own}")
        if len(self._strange) > _MOST_STRANGE:
            raise FormatError("too much is wrong with the outputs")
        return None
