"""Reference outputs that were computed before, kept on disk per model and sample.

One SQLite file. Entries do not depend on how samples were grouped, so that a run with other chunks
finds them too. A cache must never be in the way: whatever is wrong with it (damage, a full disk, a
lock that is never given back) turns into a miss, and is told in :attr:`ReferenceCache.trouble`.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TypeVar

LIMIT_BYTES = 1 << 30
"""Of stored outputs, with some bytes of overhead each."""

_FILE = "reference.sqlite3"
_LAYOUT_VERSION = 1
_OVERHEAD_BYTES = 64
"""Of an entry's key and row, about."""
_WAIT_S = 5.0
_PAGES_KIB = 512
"""Of the file in memory."""
_MAX_VARIABLES = 500
"""In one query; SQLite allows 999 everywhere."""

T = TypeVar("T")

_TABLES = f"""
PRAGMA user_version = {_LAYOUT_VERSION};
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, used REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS outputs (
    run INTEGER NOT NULL, sample BLOB NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (run, sample)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (run INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
"""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/droidmace``, by default in ``~/.cache``.

    A relative path is not followed (https://specifications.freedesktop.org/basedir-spec/).
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return base / "droidmace"


class ReferenceCache:
    """Outputs by identity (model, versions, output names) and sample digest.

    Several processes may use one folder. Not for several threads at the same time.
    """

    def __init__(self, folder: Path | None = None, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = (folder or cache_folder()) / _FILE
        self._limit_bytes = limit_bytes
        self._database: sqlite3.Connection | None = None
        self._off = False
        self.trouble = ""
        """Why the cache was set aside, empty if it works."""

    def __enter__(self) -> ReferenceCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the cache can be used again afterwards."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def get(self, identity: str, samples: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is stored of ``samples`` (digests); an entry whose checksum is wrong is not."""

        def read(database: sqlite3.Connection) -> dict[bytes, bytes]:
            row = database.execute("SELECT id FROM runs WHERE identity = ?", (identity,)).fetchone()
            found: dict[bytes, bytes] = {}
            if row is None:
                return found
            for begin in range(0, len(samples), _MAX_VARIABLES):
                keys = samples[begin : begin + _MAX_VARIABLES]
                marks = ",".join("?" * len(keys))
                # Only question marks are put into the text.
                query = (
                    f"SELECT sample, crc, data FROM outputs WHERE run = ? AND sample IN ({marks})"  # noqa: S608
                )
                for sample, crc, data in database.execute(query, (row[0], *keys)):
                    if zlib.crc32(data, zlib.crc32(sample)) == crc:
                        found[sample] = data
            return found

        return self._guarded(read, {})

    def put(self, identity: str, entries: Mapping[bytes, bytes]) -> None:
        """Store outputs by sample digest.

        Over the limit, the models that were used least recently go; what still does not fit is not
        stored.
        """
        size = sum(len(data) + _OVERHEAD_BYTES for data in entries.values())
        if not entries or size > self._limit_bytes:
            return

        def write(database: sqlite3.Connection) -> None:
            # Taken at once: a lock that is upgraded in the middle could meet another one's.
            database.execute("BEGIN IMMEDIATE")
            with database:
                run = self._run(database, identity)
                if not self._make_room(database, run, size):
                    return
                # Damaged ones, and those that another process stored meanwhile. All entries of a
                # run are of one size.
                replaced = database.executemany(
                    "DELETE FROM outputs WHERE run = ? AND sample = ?",
                    ((run, sample) for sample in entries),
                ).rowcount
                database.executemany(
                    "INSERT INTO outputs VALUES (?, ?, ?, ?)",
                    (
                        (run, sample, zlib.crc32(data, zlib.crc32(sample)), data)
                        for sample, data in entries.items()
                    ),
                )
                database.execute(
                    "INSERT INTO totals VALUES (?, ?) "
                    "ON CONFLICT (run) DO UPDATE SET bytes = bytes + excluded.bytes",
                    (run, size // len(entries) * (len(entries) - replaced)),
                )

        self._guarded(write, None)

    def used(self, identity: str) -> None:
        """Note that a model's entries were of use now: others go first when room is needed."""

        def note(database: sqlite3.Connection) -> None:
            with database:
                database.execute(
                    "UPDATE runs SET used = ? WHERE identity = ?", (time.time(), identity)
                )

        self._guarded(note, None)

    def _run(self, database: sqlite3.Connection, identity: str) -> int:
        database.execute(
            "INSERT INTO runs (identity, used) VALUES (?, ?) "
            "ON CONFLICT (identity) DO UPDATE SET used = excluded.used",
            (identity, time.time()),
        )
        row = database.execute("SELECT id FROM runs WHERE identity = ?", (identity,)).fetchone()
        return int(row[0])

    def _make_room(self, database: sqlite3.Connection, run: int, size: int) -> bool:
        (total,) = database.execute("SELECT COALESCE(SUM(bytes), 0) FROM totals").fetchone()
        others = database.execute(
            "SELECT id, COALESCE(bytes, 0) FROM runs LEFT JOIN totals ON run = id "
            "WHERE id != ? ORDER BY used",
            (run,),
        ).fetchall()
        for other, other_bytes in others:
            if total + size <= self._limit_bytes:
                break
            for table, column in (("outputs", "run"), ("totals", "run"), ("runs", "id")):
                # Both names are from the line above.
                database.execute(f"DELETE FROM {table} WHERE {column} = ?", (other,))  # noqa: S608
            total -= other_bytes
        return bool(total + size <= self._limit_bytes)

    def _guarded(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Do the work; a damaged file is begun anew once, all other trouble sets it aside."""
        for fresh in (False, True):
            if self._off:
                return otherwise
            try:
                if self._database is None:
                    self._database = self._open()
                return work(self._database)
            except (sqlite3.Error, OSError) as error:
                self.close()
                # SQLite says so with this very class; a lock or a full disk is a subclass of it.
                damaged = type(error) is sqlite3.DatabaseError
                if damaged and not fresh and self._remove():
                    continue
                self._off = True
                self.trouble = f"{self._path}: {error}"
        return otherwise

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Used from one thread at a time, but not always from the one that made it.
        database = sqlite3.connect(self._path, timeout=_WAIT_S, check_same_thread=False)
        try:
            # What a crash of the computer spoils is begun anew; waiting for the disk gains nothing.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
            with closing(database.execute("PRAGMA user_version")) as row:
                (version,) = row.fetchone()
            if version not in {0, _LAYOUT_VERSION}:
                raise sqlite3.DatabaseError(f"written by another version of droidmace ({version})")
            if version == 0:
                # Freed pages go back to the file system; has to be said before the first table.
                database.execute("PRAGMA auto_vacuum = FULL")
                database.executescript(_TABLES)
        except BaseException:
            database.close()
            raise
        return database

    def _remove(self) -> bool:
        """Remove a damaged file; its content can be computed again."""
        try:
            for suffix in ("", "-journal"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except OSError:
            return False
        return True
