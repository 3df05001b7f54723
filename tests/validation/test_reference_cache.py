"""The cache of reference outputs: never wrong, never in the way."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from pathlib import Path

import pytest

from droidmace.validation import reference_cache
from droidmace.validation.reference_cache import ReferenceCache, cache_folder

FILE = "reference.sqlite3"


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def entries(*numbers: int, size: int = 40) -> dict[bytes, bytes]:
    return {key(number): bytes([number % 256]) * size for number in numbers}


def test_hit_and_miss(tmp_path: Path) -> None:
    with ReferenceCache(tmp_path / "new" / "folder") as cache:
        assert cache.get("m", [key(1)]) == {}
        cache.put("m", entries(1, 2))
        assert cache.get("m", [key(2), key(3)]) == entries(2)
        assert cache.get("other", [key(1)]) == {}
    with ReferenceCache(tmp_path / "new" / "folder") as again:
        assert again.get("m", [key(1), key(2)]) == entries(1, 2)
        assert again.trouble == ""
    assert stat.S_IMODE((tmp_path / "new" / "folder").stat().st_mode) == 0o700


def test_more_samples_than_one_query_takes(tmp_path: Path) -> None:
    with ReferenceCache(tmp_path) as cache:
        cache.put("m", entries(*range(3000)))
        assert cache.get("m", [key(n) for n in range(4000)]) == entries(*range(3000))


def test_an_entry_of_which_a_byte_turned_is_a_miss_and_is_put_right(tmp_path: Path) -> None:
    with ReferenceCache(tmp_path) as cache:
        cache.put("m", entries(1, 2))
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE outputs SET data = zeroblob(40) WHERE sample = ?", (key(1),))
    database.close()
    with ReferenceCache(tmp_path) as cache:
        assert cache.get("m", [key(1), key(2)]) == entries(2)
        cache.put("m", entries(1))
        assert cache.get("m", [key(1), key(2)]) == entries(1, 2)


@pytest.mark.parametrize("kept_bytes", [0, 50, 4096, 5000])
def test_a_file_that_was_cut_off_or_overwritten_is_begun_anew(
    tmp_path: Path, kept_bytes: int
) -> None:
    with ReferenceCache(tmp_path) as cache:
        cache.put("m", entries(*range(500)))
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:kept_bytes] + b"\xa5" * (len(whole) - kept_bytes))
    with ReferenceCache(tmp_path) as cache:
        found = cache.get("m", [key(n) for n in range(500)])
        assert found.items() <= entries(*range(500)).items()
        assert len(found) < 500
        cache.put("m", entries(*range(500)))
        # Damage that only writing meets may cost one more round, but no answer and no error.
        cache.put("m", entries(*range(500)))
        assert cache.get("m", [key(n) for n in range(500)]) == entries(*range(500))
        assert cache.trouble == ""


def test_a_file_of_another_layout_is_begun_anew(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with ReferenceCache(tmp_path) as cache:
        cache.put("m", entries(1))
        assert cache.get("m", [key(1)]) == entries(1)


def test_the_limit_holds_and_the_least_recently_used_model_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(1000, 2000))
    monkeypatch.setattr(reference_cache.time, "time", lambda: float(next(now)))
    with ReferenceCache(tmp_path, limit_bytes=400_000) as cache:
        for name in ("a", "b", "c"):
            cache.put(name, entries(*range(10), size=12_000))
        cache.used("a")
        cache.put("d", entries(*range(10), size=12_000))
        kept = {n: len(cache.get(n, [key(i) for i in range(10)])) for n in "abcd"}
        assert kept == {"a": 10, "b": 0, "c": 10, "d": 10}
        # Alone over the limit: what fits stays.
        for begin in range(0, 100, 10):
            cache.put("e", entries(*range(begin, begin + 10), size=12_000))
        found = cache.get("e", [key(i) for i in range(100)])
        assert found == entries(*range(30), size=12_000)
        cache.put("huge", entries(1, size=400_001))
        assert cache.get("huge", [key(1)]) == {}
    assert (tmp_path / FILE).stat().st_size < 600_000


def test_writing_an_entry_again_does_not_count_twice(tmp_path: Path) -> None:
    with ReferenceCache(tmp_path, limit_bytes=100_000) as cache:
        for _ in range(20):
            cache.put("m", entries(1, 2, size=20_000))
        cache.put("m", entries(3, size=20_000))
        assert len(cache.get("m", [key(1), key(2), key(3)])) == 3


def _fill(folder: Path, first: int) -> None:
    with ReferenceCache(folder) as cache:
        for begin in range(first, first + 300, 20):
            cache.put("m", entries(*range(begin, begin + 20)))
        assert cache.trouble == "", cache.trouble


def test_several_writers_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    # Two of them overlap.
    writers = [context.Process(target=_fill, args=(tmp_path, n)) for n in (0, 150, 450)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with ReferenceCache(tmp_path) as cache:
        assert cache.get("m", [key(n) for n in range(1000)]) == entries(*range(750))


def test_a_lock_that_is_never_given_back_is_not_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_cache, "_WAIT_S", 0.01)
    with ReferenceCache(tmp_path) as cache:
        cache.put("m", entries(1))
    holder = sqlite3.connect(tmp_path / FILE)
    holder.execute("BEGIN EXCLUSIVE")
    with ReferenceCache(tmp_path) as cache:
        assert cache.get("m", [key(1)]) == {}
        assert "locked" in cache.trouble
        holder.rollback()
        holder.close()
        assert cache.get("m", [key(1)]) == {}
    assert (tmp_path / FILE).is_file()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with ReferenceCache(tmp_path / "file" / "cache") as cache:
        cache.put("m", entries(1))
        assert cache.get("m", [key(1)]) == {}
        assert str(tmp_path / "file") in cache.trouble


def test_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "droidmace"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "droidmace"
