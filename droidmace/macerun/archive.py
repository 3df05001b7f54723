"""Many small files as one byte stream: the few parts of tar that a phone's toybox writes.

The format is POSIX.1-1988 ``ustar`` (pax(1), "ustar Interchange Format") with GNU's ``L`` members
for names beyond 100 bytes. Python's tarfile does all of that and much more; on thousands of files
of a few bytes it takes longer than the phone takes to compute them.
"""

from __future__ import annotations

from collections.abc import Callable

from droidmace.errors import FormatError

_BLOCK = 512
_NAME_BYTES = 100
_MAX_LONG_NAME_BYTES = 4096
_FILE_TYPES = (b"0", b"\0")
_SKIPPED_TYPES = (b"5", b"x", b"g")
Sink = Callable[[str, int], memoryview | None]
"""Gives the place for a file's content, from its name and size: exactly that large, or None to pass
it over. May raise."""


class Unpacker:
    """Takes an archive apart as it comes. No name in it is ever a path here.

    ``sink`` is asked once for each file. Folders are passed over; a member that is neither raises
    ``FormatError``, as does anything that is no archive.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._held = bytearray()
        self._place: memoryview | None = None
        self._filled = 0
        self._skip = 0
        self._long_name: str | None = None
        self.ended = False
        """Whether the archive's end was seen: what comes behind it does not count."""

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        if self.ended:
            return
        if self._held:
            self._held += data
            view = memoryview(bytes(self._held))
            self._held.clear()
        else:
            view = memoryview(data)
        position, size = 0, len(view)
        while position < size and not self.ended:
            if self._place is not None:
                count = min(len(self._place) - self._filled, size - position)
                end = self._filled + count
                self._place[self._filled : end] = view[position : position + count]
                self._filled = end
                position += count
                if self._filled == len(self._place):
                    self._place = None
            elif self._skip:
                count = min(self._skip, size - position)
                self._skip -= count
                position += count
            else:
                taken = self._member(view[position:])
                if not taken:
                    self._held += view[position:]
                    break
                position += taken

    def _member(self, view: memoryview) -> int:
        """Read a header (a long name with its content); return the bytes used, 0 if too few."""
        if len(view) < _BLOCK:
            return 0
        header = bytes(view[:_BLOCK])
        if not header[0]:
            if any(header):
                raise self._wrong("a member without a name")
            self.ended = True
            return _BLOCK
        size = self._checked_size(header)
        kind = header[156:157]
        if kind == b"L":
            return self._read_long_name(view, size)
        padded = size + -size % _BLOCK
        if kind in _FILE_TYPES:
            name = self._name(header)
            place = self._sink(name, size)
            if place is None:
                self._skip = padded
            elif len(place) != size:
                raise ValueError(f"{len(place)} bytes of room for {size}")
            else:
                self._skip = padded - size
                self._place, self._filled = (place if size else None), 0
        elif kind in _SKIPPED_TYPES:
            self._skip = padded
        else:
            raise self._wrong(f"a member of type {kind!r}, neither file nor folder")
        self._long_name = None
        return _BLOCK

    def _read_long_name(self, view: memoryview, size: int) -> int:
        if not 0 < size <= _MAX_LONG_NAME_BYTES:
            raise self._wrong(f"a name of {size} bytes")
        used = _BLOCK + size + -size % _BLOCK
        if len(view) < used:
            return 0
        name = bytes(view[_BLOCK : _BLOCK + size])
        self._long_name = name.partition(b"\0")[0].decode("utf-8", "replace")
        return used

    def _name(self, header: bytes) -> str:
        if self._long_name is not None:
            return self._long_name
        name = header[:_NAME_BYTES].partition(b"\0")[0]
        # Behind GNU's magic, "ustar" and two blanks, other things stand in the prefix's place.
        if header[345] and header[257:263] == b"ustar\0":
            name = header[345:500].partition(b"\0")[0] + b"/" + name
        return name.decode("utf-8", "replace")

    def _checked_size(self, header: bytes) -> int:
        checksum = sum(header) - sum(header[148:156]) + 8 * 0x20
        if self._octal(header[148:156]) != checksum:
            raise self._wrong("a wrong checksum")
        return self._octal(header[124:136])

    def _octal(self, field: bytes) -> int:
        digits = field.strip(b" \0")
        if not digits or digits.strip(b"01234567"):
            raise self._wrong(f"{field!r} is no octal number")
        return int(digits, 8)

    def _wrong(self, what: str) -> FormatError:
        return FormatError(f"not an archive as a phone's tar writes them: {what}")
