"""A journal outlives whatever breaks a search off, and never tells what was not measured."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import DroidmaceError, FormatError, InputError
from droidmace.tuning.journal import GroupFacts, Journal, KeyFacts, read_journal
from droidmace.tuning.search import History, KeySpace, RunRecord, RunStatus

IDENTITY = {"model": "abc", "device_name": "P40Pro", "soc": "kirin990"}
CONV = KeyFacts("conv2d_1x1_opencl_kernel_1_8_8_16", "conv2d_1x1", (4, 8, 8), 256, (64, 64, 64))
GROUPS = (
    GroupFacts("conv", (CONV, KeyFacts("pooling_\udce9", block=True)), ("Conv_0", "Pool_1")),
    GroupFacts("softmax", (KeyFacts("softmax_opencl_kernel_1_1_1_10"),), ("Softmax_2",)),
)
RUNS = (
    RunRecord({}, RunStatus.OK, 3, {"conv": 1.25, "softmax": 0.5}, other_ms=0.125, wall_s=0.75),
    RunRecord(
        {"conv": ((4, 8, 1, 0), None), "softmax": ((2, 3, 0),)},
        RunStatus.OK,
        3,
        {"conv": 1.0},
        wall_s=0.5,
    ),
    RunRecord(
        {"conv": ((64, 8, 1, 0), None)},
        RunStatus.REFUSED,
        3,
        wall_s=0.25,
        guilty="conv",
        reason="CL_INVALID_WORK_GROUP_SIZE",
    ),
)


def write(path: Path) -> Path:
    with Journal.create(path, IDENTITY) as journal:
        journal.append_winner("conv2d_1x1_opencl_kernel_1_8_8_16", (4, 8, 8, 0))
        journal.append_step("phone's tuner", 12.5)
        journal.set_groups(GROUPS)
        for index, run in enumerate(RUNS):
            journal.append(run, repeat=index % 2, spent_s=float(index))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("journal") / "a.jsonl").read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = read_journal(write(tmp_path / "new" / "a.jsonl"))
    assert content.identity == IDENTITY
    assert content.groups == GROUPS
    assert tuple(content.records()) == RUNS
    assert [run.index for run in content.runs] == [0, 1, 2]
    assert content.records(repeat=1) == [RUNS[1]]
    assert content.winners == {"conv2d_1x1_opencl_kernel_1_8_8_16": (4, 8, 8, 0)}
    assert content.steps == {"phone's tuner": 12.5}
    assert content.spent_s == 2.0


def test_groups_become_those_of_a_search(tmp_path: Path) -> None:
    content = read_journal(write(tmp_path / "a.jsonl"))

    def key_space(facts: KeyFacts) -> KeySpace:
        return KeySpace(facts.key, facts.kernel, facts.gws, ((1, 1, 1, 0),))

    groups = content.search_groups(key_space)
    history = History(groups)
    for record in content.records():
        history.add(record)
    assert [len(group.keys) for group in groups] == [2, 1]
    assert history.best["conv"] == ((4, 8, 1, 0), None)
    assert history.groups["conv"].refused == {((64, 8, 1, 0), None)}


def test_packed_journal_reads_alike(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(whole))
    assert tuple(read_journal(tmp_path / "a.jsonl.gz").records()) == RUNS
    (tmp_path / "cut.gz").write_bytes(gzip.compress(whole)[:-12])
    assert read_journal(tmp_path / "cut.gz").identity == IDENTITY
    with pytest.raises(InputError, match="packed"):
        Journal.open(tmp_path / "a.jsonl.gz", IDENTITY)


def test_every_cut_is_readable_and_can_be_gone_on_with(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.jsonl"
    borders = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    beside = {at + step for at in borders for step in (-1, 0, 1)} - {len(whole)}
    for size in sorted({*range(0, len(whole), 29), *beside}):
        path.write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        if lines:
            content = read_journal(path)
            assert len(content.runs) == max(0, lines - 4)
        else:
            with pytest.raises(FormatError, match="empty"):
                read_journal(path)
        with Journal.open(path, IDENTITY) as journal:
            if not journal.content.groups:
                journal.set_groups(GROUPS)
            before = len(journal.content.runs)
            journal.append(RUNS[0])
        assert read_journal(path).records() == [*RUNS[:before], RUNS[0]]


def test_last_line_of_garbage_is_a_torn_one(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.jsonl"
    for tail in (b"\0\0\0\0", b"\0\0\0\n", b'{"run": 3, "sta\0\0\0"}\n'):
        path.write_bytes(whole + tail)
        assert len(read_journal(path).runs) == 3
        with Journal.open(path, IDENTITY):
            pass
        assert path.read_bytes() == whole


def test_damage_in_the_middle_names_its_line(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.jsonl"
    rows = whole.splitlines(keepends=True)
    rows[5] = b"{not json\n"
    path.write_bytes(b"".join(rows))
    for act in (lambda: read_journal(path), lambda: Journal.open(path, IDENTITY)):
        with pytest.raises(FormatError, match="line 6") as caught:
            act()
        assert caught.value.where == str(path)


@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
def test_damaged_byte_is_an_error_or_a_skipped_tail(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, at: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    data = bytearray(whole)
    data[at % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(DroidmaceError):
        assert len(read_journal(path).runs) <= 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["run", "ms", "choices", "status", "groups", "winner", "values"]), inner
        )
    ),
    max_leaves=10,
)


@given(
    field=st.sampled_from(
        ["run", "repeat", "status", "rounds", "wall_s", "spent_s", "other_ms", "choices", "ms"]
    ),
    value=JSON,
)
def test_run_with_a_wrong_field_is_an_error_or_a_run(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, field: str, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "field.jsonl"
    rows = whole.splitlines(keepends=True)
    document = json.loads(rows[5])
    document[field] = value
    rows[5] = json.dumps(document).encode() + b"\n"
    path.write_bytes(b"".join(rows))
    try:
        assert len(read_journal(path).runs) == 3
    except FormatError as error:
        assert "line 6" in str(error)


@given(JSON)
def test_foreign_documents_are_errors(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign.jsonl"
    path.write_bytes(json.dumps(value).encode() + b"\n")
    with pytest.raises(FormatError):
        read_journal(path)


def test_hostile_lines_are_errors(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.jsonl"
    for line in (b"[" * 100_000, b"9" * 10_000, b'{"run": ' + b"9" * 6_000 + b"}", b"\xff\xfe"):
        path.write_bytes(whole + line + b"\n" + whole.splitlines(keepends=True)[4])
        with pytest.raises(FormatError, match="line 8"):
            read_journal(path)


def test_unknown_lines_are_skipped(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(whole + b'{"temperature": 41.5}\n')
    assert tuple(read_journal(path).records()) == RUNS


def test_journal_of_another_phone_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"soc 'kirin990' instead of 'sm8250'") as caught:
        Journal.open(path, IDENTITY | {"soc": "sm8250"})
    assert caught.value.hint is not None
    assert path.read_bytes() == before


def test_two_searches_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Journal.create(path, IDENTITY):
        with pytest.raises(InputError, match="another search"):
            Journal.open(path, IDENTITY)
        with pytest.raises(InputError, match="exists"):
            Journal.create(path, IDENTITY)
    Journal.open(path, IDENTITY).close()


def test_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for data in (b"some notes", b"some notes\nand more\n"):
        path.write_bytes(data)
        with pytest.raises(FormatError):
            Journal.open(path, IDENTITY)
        assert path.read_bytes() == data


def test_line_too_long_to_be_read_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    many = [GroupFacts(f"g{i}", (KeyFacts("k" * 3000),), ("o" * 1000,)) for i in range(1200)]
    with Journal.create(path, IDENTITY) as journal:
        journal.append_winner("k", (1, 2, 3))
        with pytest.raises(FormatError, match="no line of"):
            journal.set_groups(many)
    assert read_journal(path).winners == {"k": (1, 2, 3)}


def test_packed_journal_that_unpacks_to_too_much_is_refused(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(whole) + gzip.compress(_line(1 << 20)) * 129)
    with pytest.raises(FormatError, match="more than 128 MiB"):
        read_journal(path)


def _line(size: int) -> bytes:
    return b'{"x":"' + b" " * (size - 9) + b'"}\n'


@pytest.mark.parametrize(
    ("key", "values"),
    [("k" * 5000, (1, 2, 0)), ("k", (1,) * 65), ("k", (1 << 32, 1, 0)), ("k", (-1, 1, 0))],
)
def test_winner_that_could_not_be_read_is_not_written(
    tmp_path: Path, key: str, values: tuple[int, ...]
) -> None:
    path = tmp_path / "a.jsonl"
    with Journal.create(path, IDENTITY) as journal:
        with pytest.raises(FormatError):
            journal.append_winner(key, values)
        journal.append_winner("k", (1, 2, 3))
        assert journal.content.winners == {"k": (1, 2, 3)}
    assert read_journal(path).winners == {"k": (1, 2, 3)}


def test_groups_and_identity_that_could_not_be_read_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(FormatError, match="gpu"):
        Journal.create(path, {"gpu": "x" * 5000})
    assert not path.exists()
    with Journal.create(path, IDENTITY) as journal:
        with pytest.raises(FormatError, match="ops"):
            journal.set_groups([GroupFacts("conv", (CONV,), ("o" * 5000,))])
        journal.set_groups(GROUPS)
    assert read_journal(path).groups == GROUPS


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits on the size of files")
def test_write_that_fails_in_the_middle_of_a_line_leaves_no_half_of_it(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "a.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.create(path, IDENTITY) as journal:
        journal.set_groups(GROUPS)
        journal.append(RUNS[0])
        size = path.stat().st_size
        # The system takes ten bytes more and then no others, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
        try:
            with pytest.raises(InputError, match="cannot write the journal"):
                journal.append(RUNS[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.stat().st_size == size
        journal.append(RUNS[2])
        assert journal.content.records() == [RUNS[0], RUNS[2]]
    assert read_journal(path).records() == [RUNS[0], RUNS[2]]
    with Journal.open(path, IDENTITY) as journal:
        journal.append(RUNS[1])
    assert read_journal(path).records() == [RUNS[0], RUNS[2], RUNS[1]]


def test_line_too_long_is_damage_and_not_a_torn_end(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a.jsonl"
    first, rest = whole.split(b"\n", 1)
    data = first + b"\n" + b"x" * (5 << 20) + b"\n" + rest
    path.write_bytes(data)
    with pytest.raises(FormatError, match="line 2: a line that is too long"):
        Journal.open(path, IDENTITY)
    assert path.read_bytes() == data


def test_seconds_of_a_repeat_that_was_gone_on_with(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "a.jsonl", IDENTITY) as journal:
        journal.set_groups(GROUPS)
        # The second command had a larger budget: the first repeat went on after the second began.
        for repeat, spent_s in ((0, 60.0), (1, 90.0), (0, 630.0), (1, 640.0)):
            journal.append(RUNS[0], repeat=repeat, spent_s=spent_s)
        assert journal.content.own_s(0) == 600.0
        assert journal.content.own_s(1) == 40.0
        assert journal.content.own_s(2) == 0.0
