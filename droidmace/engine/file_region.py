"""Reading a whole file as MACE maps one into memory (``mace/port/posix/file_system.cc``)."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def read_region(path: str) -> bytes:
    """As many bytes of the file as its size says: none of a device that never ends.

    Raises ``OSError``.
    """
    with Path(path).open("rb") as stream:
        return stream.read(os.fstat(stream.fileno()).st_size)


def map_region(path: str) -> memoryview:
    """The same of a large file, read as it is used. Raises ``OSError``."""
    with Path(path).open("rb") as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        if not size_bytes:
            return memoryview(b"")
        return memoryview(mmap.mmap(stream.fileno(), size_bytes, prot=mmap.PROT_READ))
