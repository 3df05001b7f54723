"""The cache of compiled programs as a file that is loaded, changed and written back.

Source: ``FileStorage`` in ``mace/core/kv_storage.cc``: pairs sorted by key, foreign keys kept,
written only when something changed, and in place: a process that is killed while it writes leaves
half a file, which the next one refuses by its CRC.
"""

from __future__ import annotations

import io

from droidmace.engine.file_region import read_region
from droidmace.engine.macelog import MaceLog
from droidmace.errors import FormatError
from droidmace.formats.kvstore import Generation, KeyValueStore, KVPair

_KV_STORAGE = "core/kv_storage.cc"
_FILE_SYSTEM = "port/file_system.cc"


class FileStorage:
    """Key to bytes, backed by one file."""

    def __init__(self, path: str, log: MaceLog) -> None:
        self.path = path
        self._log = log
        self._pairs: dict[str, bytes] = {}
        self._loaded = False
        self._changed = False

    def load(self) -> bool:
        """Read the file once; says on the log why it could not."""
        if self._loaded:
            return True
        try:
            data = read_region(self.path)
        except OSError:
            self._log.warning(f"{_KV_STORAGE}:90", f"Failed to read kv store file: {self.path}")
            return False
        try:
            store = KeyValueStore.parse(data)
        except FormatError:
            store = None
        # The runtime knows the current layout only; a legacy file fails its CRC check.
        if store is None or store.generation is not Generation.CURRENT:
            self._log.warning(
                f"{_KV_STORAGE}:98",
                f"CRC32 value of {self.path} is invalid, aborting loading file",
            )
            return False
        for pair in store.pairs:
            self._pairs.setdefault(pair.key, pair.bytes_value or b"")
        self._loaded = True
        return True

    def find(self, key: str) -> bytes | None:
        """The value of ``key``, or None."""
        return self._pairs.get(key)

    def find_text(self, key: str) -> str | None:
        """The value of ``key`` as text, or None."""
        value = self._pairs.get(key)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def insert(self, key: str, value: bytes) -> None:
        """Set the value of ``key``."""
        self._pairs[key] = value
        self._changed = True

    def clear(self) -> None:
        """Forget every pair."""
        if self._pairs:
            self._pairs.clear()
            self._changed = True

    def flush(self) -> bool:
        """Write the file if anything changed; says on the log why it could not."""
        if not self._changed:
            return True
        ordered = sorted(
            self._pairs.items(), key=lambda pair: pair[0].encode("utf-8", "surrogateescape")
        )
        data = KeyValueStore.build(KVPair(key, value) for key, value in ordered).serialize()
        try:
            with io.FileIO(self.path, "w") as stream:
                self._changed = not self._append(stream, data)
        except OSError as exc:
            self._log.error(
                f"{_FILE_SYSTEM}:83",
                f"Failed to open file to write: {self.path}, error: {exc.errno}",
            )
            self._log.warning(
                f"{_KV_STORAGE}:143", f"open file {self.path} failed, error code: {exc.strerror}"
            )
        return not self._changed

    def _append(self, stream: io.FileIO, data: bytes) -> bool:
        written = 0
        try:
            while written < len(data):
                written += stream.write(data[written:])
        except OSError as exc:
            self._log.error(
                f"{_FILE_SYSTEM}:42",
                f"Failed to append file: {self.path}, requested: {len(data)}, written: {written},"
                f" error: {exc.errno}",
            )
            return False
        return True
