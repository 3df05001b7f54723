"""The journal of a search: every measurement, on the disk before the next one begins.

A search may be broken off at any moment, by a cable or by a power cut: each line is appended,
flushed and synced. What a crash can leave behind is a torn last line; it is cut off when the
journal is opened again, and passed over by readers. Lines of kinds that a newer writer adds are
skipped.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from droidmace.errors import FormatError, InputError
from droidmace.tuning import journal_lines as lines
from droidmace.tuning.journal_lines import GroupFacts, JournalRun, KeyFacts
from droidmace.tuning.search import Choice, Group, KeySpace, Params, Plan, RunRecord

__all__ = ["GroupFacts", "Journal", "JournalContent", "JournalRun", "KeyFacts", "read_journal"]

MAX_JOURNAL_BYTES = 1 << 30
MAX_UNPACKED_BYTES = 128 << 20
"""Of a packed journal, which may be a thousand times smaller than what it unpacks to."""
MAX_LINES = 5_000_000
_GZIP_MAGIC = b"\x1f\x8b"


class _Lines(Protocol):
    """A binary stream that is read by lines."""

    def readline(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class JournalContent:
    """All that a journal tells.

    ``winners``: what the phone's own tuner has logged so far, by the key as it stands in a
    parameter file. ``steps``: steps that are over, with the seconds they took.
    """

    identity: Mapping[str, str]
    created_utc: str = ""
    groups: tuple[GroupFacts, ...] = ()
    runs: list[JournalRun] = field(default_factory=list)
    winners: dict[str, Params] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)

    def records(self, repeat: int | None = None) -> list[RunRecord]:
        """What the processes measured, in order; those of one repeat, if that is given."""
        return [run.record for run in self.runs if repeat is None or run.repeat == repeat]

    def search_groups(self, key_space: Callable[[KeyFacts], KeySpace]) -> tuple[Group, ...]:
        """The groups as strategies know them; ``key_space`` lists a key's candidates."""
        return tuple(
            Group(one.name, tuple(key_space(key) for key in one.keys), one.ops)
            for one in self.groups
        )

    @property
    def anchors(self) -> list[Plan]:
        """What all repeats are compared with: MACE's own sizes, and the phone's winners.

        They are measured once, in the first repeat.
        """
        default: dict[str, Choice] = {one.name: (None,) * len(one.keys) for one in self.groups}
        phone: dict[str, Choice] = {
            one.name: tuple(self._size(key.key) for key in one.keys) for one in self.groups
        }
        return [default] if phone == default else [default, phone]

    def _size(self, key: str) -> Params | None:
        """The phone's winner, where it is one: whatever a phone logs is kept."""
        found = self.winners.get(key)
        return found if found is not None and lines.is_size(found) else None

    def known_to(self, repeat: int) -> list[RunRecord]:
        """What a repeat chooses by: its own records, and those of the anchors."""
        anchors = self.anchors
        return [
            run.record
            for run in self.runs
            if run.repeat == repeat or (run.repeat == 0 and run.record.plan in anchors)
        ]

    def own_s(self, repeat: int) -> float:
        """Seconds that one repeat has taken so far, in whatever order repeats went on."""
        total_s = before_s = 0.0
        for run in self.runs:
            if run.repeat == repeat:
                total_s += max(run.spent_s - before_s, 0.0)
            before_s = run.spent_s
        return total_s

    @property
    def spent_s(self) -> float:
        """Seconds that the runs have taken so far, over all interruptions."""
        return max((run.spent_s for run in self.runs), default=0.0)

    def _take(self, document: Mapping[str, object]) -> None:
        if "run" in document:
            if not self.groups:
                raise FormatError("a run before the groups")
            self.runs.append(lines.read_run(document, self.groups))
        elif "winner" in document:
            key, values = lines.read_winner(document)
            self.winners[key] = values
        elif "groups" in document:
            groups = lines.read_groups(document)
            if self.groups and groups != self.groups:
                raise FormatError("the groups change in the middle")
            self.groups = groups
        elif "step" in document:
            name, seconds = lines.read_step(document)
            self.steps[name] = seconds


def read_journal(path: Path) -> JournalContent:
    """Read a journal, gzipped or not; a torn last line is passed over.

    Raises ``FormatError`` with the line number for damage anywhere else, ``InputError`` for a file
    that cannot be read.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if packed:
                unpacked = gzip.GzipFile(fileobj=raw)
                content, _ = _read(unpacked, str(path), MAX_UNPACKED_BYTES)
            else:
                content, _ = _read(raw, str(path))
    except OSError as exc:
        raise InputError(
            f"cannot read the journal: {exc.strerror or exc}", where=str(path)
        ) from exc
    return content


def _read(
    stream: _Lines, where: str, max_bytes: int = MAX_JOURNAL_BYTES
) -> tuple[JournalContent, int]:
    """The content, and the length in bytes of the lines that are whole."""
    content: JournalContent | None = None
    whole = 0
    failed: FormatError | None = None
    for number, line in enumerate(_lines(stream, where, max_bytes), 1):
        if failed is not None:
            raise failed
        if not line.endswith(b"\n"):
            if len(line) > lines.MAX_LINE_BYTES:
                # No crash tears such a line off: what follows it is not to be cut away.
                raise _at(FormatError("a line that is too long"), where, number)
            break
        try:
            document = lines.load(line)
        except FormatError as error:
            # Damage that another line follows did not come from a crash.
            failed = _at(error, where, number)
            continue
        try:
            if content is None:
                content = JournalContent(lines.read_header(document))
                content.created_utc = str(document.get("created_utc", ""))[: lines.MAX_TEXT]
            else:
                content._take(document)
        except FormatError as error:
            raise _at(error, where, number) from error
        whole += len(line)
    if content is None:
        if failed is not None:
            raise failed
        raise FormatError("the journal is empty: its first line was never finished", where=where)
    return content, whole


def _lines(stream: _Lines, where: str, max_bytes: int) -> Iterator[bytes]:
    total = count = 0
    while True:
        try:
            line = stream.readline(lines.MAX_LINE_BYTES + 2)
        except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
            if isinstance(exc, EOFError):
                return  # a cut file: what came before counts
            raise FormatError(f"the gzip file is damaged: {exc}", where=where) from exc
        if not line:
            return
        total, count = total + len(line), count + 1
        if total > max_bytes or count > MAX_LINES:
            raise FormatError(
                f"a journal of more than {max_bytes >> 20} MiB or {MAX_LINES:,} lines",
                where=where,
                hint="no search writes so much: is this the right file?",
            )
        yield line


def _at(error: FormatError, where: str, line: int) -> FormatError:
    return FormatError(
        f"line {line}: {error.message}",
        where=where,
        hint=error.hint or "the file was changed or damaged: move it away to begin a new search",
    )


class Journal:
    """A journal that is written to. Use it as a context manager.

    ``content`` is what it held when it was opened, and all that was appended since.
    """

    def __init__(self, path: Path, stream: io.FileIO, content: JournalContent) -> None:
        self.path = path
        self.content = content
        self._stream = stream
        self._whole = stream.tell()
        """Where the last whole line ends."""

    @classmethod
    def create(cls, path: Path, identity: Mapping[str, str]) -> Self:
        """Begin a journal; parent folders are made.

        Raises ``InputError`` if a file is there, ``FormatError`` for an identity that no reader
        would take.
        """
        _refuse_unreadable(lines.read_header, lines.header_document(identity, ""), path)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = io.FileIO(path, "x")
        except OSError as exc:
            raise _unwritable(path, exc) from exc
        journal = cls(path, stream, JournalContent(dict(identity), created))
        try:
            _lock(stream, path)
            journal._append(lines.header_document(identity, created))
            _sync_folder(path.parent)
        except BaseException:
            stream.close()
            raise
        return journal

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, str]) -> Self:
        """Go on with a journal, or begin one; a torn last line is cut off.

        Raises ``InputError`` if it belongs to something else or is in use, ``FormatError`` with
        the line number if it is damaged.
        """
        if not path.exists():
            return cls.create(path, identity)
        try:
            stream = io.FileIO(path, "r+")
        except OSError as exc:
            raise _unwritable(path, exc) from exc
        try:
            _lock(stream, path)
            return cls._reopen(path, stream, identity)
        except OSError as exc:
            stream.close()
            raise _unwritable(path, exc) from exc
        except BaseException:
            stream.close()
            raise

    @classmethod
    def _reopen(cls, path: Path, stream: io.FileIO, identity: Mapping[str, str]) -> Self:
        reader = io.BufferedReader(stream)
        start = reader.read(lines.MAX_LINE_BYTES)
        if start.startswith(_GZIP_MAGIC):
            raise InputError(
                "a packed journal cannot be gone on with", where=str(path), hint="unpack it first"
            )
        reader.seek(0)
        if b"\n" not in start:
            # The very first line was torn: nothing is lost by starting again.
            if not lines.dump(lines.header_document({}, ""))[:10].startswith(start[:10]):
                raise FormatError("this is not the journal of a search", where=str(path))
            reader.detach()
            stream.truncate(0)
            stream.seek(0)
            created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            journal = cls(path, stream, JournalContent(dict(identity), created))
            journal._append(lines.header_document(identity, created))
            return journal
        content, whole = _read(reader, str(path))
        reader.detach()
        _refuse_stranger(content.identity, identity, path)
        stream.truncate(whole)
        stream.seek(whole)
        os.fsync(stream.fileno())
        return cls(path, stream, content)

    def set_groups(self, groups: Sequence[GroupFacts]) -> None:
        """Say what is searched; once, before the first run."""
        assert not self.content.groups, "the groups stand already"
        document = lines.groups_document(groups)
        # What a phone calls its ops and kernels: a reader must take it, or all would be lost.
        _refuse_unreadable(lines.read_groups, document, self.path)
        self._append(document)
        self.content.groups = tuple(groups)

    def append(self, record: RunRecord, *, repeat: int = 0, spent_s: float = 0.0) -> JournalRun:
        """Keep what a process measured; it is on the disk when this returns."""
        run = JournalRun(len(self.content.runs), repeat, record, spent_s)
        self._append(lines.run_document(run, self.content.groups))
        self.content.runs.append(run)
        return run

    def append_winner(self, key: str, values: Params) -> None:
        """Keep what the phone's own tuner chose for ``key``, as it stands in its file.

        Raises ``FormatError`` for a key or values that no reader would take.
        """
        document = lines.winner_document(key, values)
        _refuse_unreadable(lines.read_winner, document, self.path)
        self._append(document)
        self.content.winners[key] = values

    def append_step(self, name: str, seconds: float) -> None:
        """Say that a step of the search is over."""
        self._append(lines.step_document(name, seconds))
        self.content.steps[name] = seconds

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, document: Mapping[str, object]) -> None:
        line = lines.dump(document)
        if len(line) > lines.MAX_LINE_BYTES:
            raise FormatError(
                f"the journal takes no line of {len(line):,} bytes",
                where=str(self.path),
                hint="use --search mace: the model has too many kernels for a search",
            )
        data = memoryview(line)
        try:
            self._cut_torn_line()
            while data:
                data = data[self._stream.write(data) or 0 :]
            os.fsync(self._stream.fileno())
        except BaseException as exc:
            # Half a line (a full disk, Ctrl-C) must not be followed by another. If it cannot be
            # cut off now, the next line tries again.
            with contextlib.suppress(OSError):
                self._cut_torn_line()
            if isinstance(exc, OSError):
                raise _unwritable(self.path, exc) from exc
            raise
        self._whole += len(line)

    def _cut_torn_line(self) -> None:
        if self._stream.tell() != self._whole:
            self._stream.truncate(self._whole)
            self._stream.seek(self._whole)


def _refuse_unreadable(
    read: Callable[[Mapping[str, object]], object], document: Mapping[str, object], path: Path
) -> None:
    try:
        read(document)
    except FormatError as error:
        raise FormatError(
            f"the journal cannot take what the phone says: {error.message}",
            where=str(path),
            hint="no kernel, op or phone of MACE's has such a name",
        ) from error


def _refuse_stranger(found: Mapping[str, str], wanted: Mapping[str, str], path: Path) -> None:
    other = [
        f"{name} {found.get(name, 'not told')!r} instead of {wanted.get(name, 'not told')!r}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]
    if other:
        raise InputError(
            f"the journal belongs to another search: {'; '.join(other[:3])}",
            where=str(path),
            hint="its measurements do not hold here: move the file away to begin anew",
        )


def _lock(stream: io.FileIO, path: Path) -> None:
    """Keep a second search away from the file, where the system can."""
    try:
        import fcntl  # not on Windows, where host commands import this module
    except ImportError:
        return
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise InputError(
            "another search writes to this journal",
            where=str(path),
            hint="wait for it to end, or stop it",
        ) from exc


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut, where folders can be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # a file system without it: the name is as safe as it gets
    finally:
        os.close(descriptor)


def _unwritable(path: Path, exc: OSError) -> InputError:
    return InputError(
        f"cannot write the journal: {exc.strerror or exc}",
        where=str(path),
        hint="is the disk full, or the folder not yours?",
    )
