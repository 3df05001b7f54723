"""Many processes in one command: every one is told apart, and none takes its neighbours along."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.base import OutputChunk
from droidmace.devices.local import LocalDevice
from droidmace.errors import DeviceLostError, MaceRunError, MaceRunRetryError
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.series import FailureKind, ProcessFailure, ProcessOutcome, Series
from droidmace.macerun.series_output import ProcessOutput, SeriesReader
from droidmace.macerun.session import MaceRunSession, WatchLimits
from droidmace.results import MaceRunResult

STAND_IN = Path(__file__).parent / "series_stand_in.sh"
SHELLS = [name for name in ("sh", "mksh") if shutil.which(name)]
LIMITS = WatchLimits(heartbeat_s=20)

Run = Callable[..., list[ProcessOutcome]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mace run"
    folder.mkdir()
    shutil.copy(STAND_IN, folder / "mace_run")
    return folder


@pytest.fixture
def series(folder: Path) -> Callable[..., Series]:
    def build(shell: str = "sh", device: LocalDevice | None = None) -> Series:
        device = device or LocalDevice(folder.parent, shell=f"/bin/{shell}")
        session = MaceRunSession(device, str(folder), limits=LIMITS)
        invocation = Invocation(
            cwd=str(folder),
            model_name="tiny",
            model_file="tiny.pb",
            model_data_file="tiny.data",
            inputs=(TensorArg("input", (1, 4)),),
            outputs=(TensorArg("output", (1, 10)),),
            input_file="in",
            output_file=str(folder / "out" / "x"),
            benchmark=True,
            extra_environment={"ODD": "a b'c\"$HOME"},
        )
        parameters = str(folder / "series" / "files")
        return Series(device, session, invocation, parameters, root=str(folder), limits=LIMITS)

    return build


@pytest.fixture
def run(series: Callable[..., Series]) -> Run:
    def call(words: Sequence[str | None], shell: str = "sh", timeout_s: float = 20.0):
        files = [None if word is None else f"{word}\n".encode() for word in words]
        return list(series(shell).run(files, timeout_s=timeout_s))

    return call


def names(outcomes: Sequence[ProcessOutcome]) -> list[str | FailureKind]:
    return [
        one.kind if isinstance(one, ProcessFailure) else one.ops[0].name.removeprefix("conv_")
        for one in outcomes
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_process_has_its_own_result(run: Run, folder: Path, shell: str) -> None:
    outcomes = run(["one", None, "three"], shell)
    assert names(outcomes) == ["one", "fine", "three"]
    assert [one.ops[0].avg_ms for one in outcomes if isinstance(one, MaceRunResult)] == [
        3.5,
        4.5,
        5.5,
    ]
    assert all(0 <= one.wall_s < 10 for one in outcomes)
    assert not list(folder.glob("series/*.tar"))


def files(*words: str) -> list[bytes]:
    return [f"{word}\n".encode() for word in words]


class CountingDevice(LocalDevice):
    """Counts the files that it is sent."""

    pushes = 0

    def push(self, *args: Any, **options: Any) -> int:
        self.pushes += 1
        return super().push(*args, **options)


def test_next_files_travel_while_a_process_runs(
    series: Callable[..., Series], folder: Path
) -> None:
    device = CountingDevice(folder.parent)
    one = series(device=device)
    under_way = one.run(files("one", "two"), timeout_s=20.0)
    found = [next(under_way)]
    one.send_ahead(files("three", "four", "five"))
    found += under_way  # its own files are still its own
    found += one.run(files("three", "four"), timeout_s=20.0)
    assert device.pushes == 2
    found += one.run(files("six"), timeout_s=20.0)
    assert device.pushes == 3
    assert names(found) == ["one", "two", "three", "four", "six"]


def test_files_that_travelled_in_vain_are_not_run(series: Callable[..., Series]) -> None:
    one = series()
    one.send_ahead(files("unwanted", "unwanted"))
    found = list(one.run(files("one"), timeout_s=20.0))
    one.send_ahead(files("two", "unwanted"))
    found += one.run(files("two", "three"), timeout_s=20.0)
    assert names(found) == ["one", "two", "three"]


@pytest.mark.parametrize("shell", SHELLS)
def test_refused_process_is_stopped_and_the_rest_goes_on(
    run: Run, folder: Path, shell: str
) -> None:
    outcomes = run(["one", "retry", "three"], shell)
    assert names(outcomes) == ["one", FailureKind.RETRIED, "three"]
    refused = outcomes[1]
    assert isinstance(refused, ProcessFailure)
    assert refused.guilty_key == "bad_key"
    assert "CL_INVALID_WORK_GROUP_SIZE" in refused.reason
    # Once to see it, once more to find out why; the others once.
    assert (folder / "runs").read_text().splitlines() == ["one 0", "retry 0", "retry 3", "three 0"]


@pytest.mark.parametrize("shell", SHELLS)
def test_crash_is_data_and_the_next_goes_on(run: Run, shell: str) -> None:
    outcomes = run(["crash", "two"], shell)
    assert names(outcomes) == [FailureKind.CRASHED, "two"]
    crash = outcomes[0]
    assert isinstance(crash, ProcessFailure)
    assert "SIGSEGV" in crash.reason
    assert crash.guilty_key == "bad_key"


def test_last_process_may_be_the_bad_one(run: Run) -> None:
    assert names(run(["one", "crash"])) == ["one", FailureKind.CRASHED]


def test_nobody_is_blamed_for_what_does_not_happen_again(run: Run) -> None:
    (outcome,) = run(["retry-once"])
    assert isinstance(outcome, ProcessFailure)
    assert outcome.guilty_key is None
    assert "not when it was run again" in outcome.reason


def test_killed_from_outside_is_not_run_again(run: Run, folder: Path) -> None:
    assert names(run(["killed", "two"])) == [FailureKind.KILLED, "two"]
    assert (folder / "runs").read_text().split("\n")[:2] == ["killed 0", "two 0"]


@pytest.mark.parametrize("word", ["nothing", "cut"])
def test_process_without_its_whole_table_tells_nothing(run: Run, word: str) -> None:
    assert names(run([word, "two"])) == [FailureKind.INCOMPLETE, "two"]


def test_hanging_process_is_stopped(run: Run) -> None:
    # Longer than the script's beat, which is when the host looks.
    assert names(run(["hang", "two"], timeout_s=0.5)) == [FailureKind.TIMED_OUT, "two"]


def test_engine_that_cannot_be_created_ends_the_series(run: Run) -> None:
    with pytest.raises(MaceRunRetryError, match="creating the engine"):
        run(["create", "two"])


def test_flag_that_is_not_known_ends_the_series(run: Run) -> None:
    with pytest.raises(MaceRunError, match="--benchmark"):
        run(["flag", "two"])


def test_missing_program_ends_the_series(run: Run, folder: Path) -> None:
    (folder / "mace_run").unlink()
    with pytest.raises(MaceRunError, match="not on the device"):
        run(["one", "two"])


def test_leaving_early_stops_the_processes(series: Callable[..., Series], folder: Path) -> None:
    files = [b"one\n", *[b"hang\n"] * 3]
    with contextlib.closing(series().run(files, timeout_s=20.0)) as outcomes:
        assert isinstance(next(outcomes), MaceRunResult)
    assert len((folder / "runs").read_text().splitlines()) <= 2


def test_end_of_the_shell_is_a_lost_device(run: Run, folder: Path) -> None:
    text = STAND_IN.read_text().replace("kill -SEGV $$", "kill -KILL $PPID; exit")
    (folder / "mace_run").write_text(text)
    with pytest.raises(DeviceLostError):
        run(["one", "crash", "three"])


def stream(number: int, text: bytes, status: int = 0) -> bytes:
    return (
        f"\x1edroidmace begin {number} 12.50\n".encode()
        + text
        + f"\x1edroidmace end {number} {status} 13.75\n".encode()
    )


@given(
    texts=st.lists(st.text("abc\n\x1e", max_size=12), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_streams_are_taken_apart_however_they_are_cut(texts: list[str], cuts: list[int]) -> None:
    data = b"".join(stream(number, text.encode(), number) for number, text in enumerate(texts))
    reader = SeriesReader(range(len(texts)))
    through: list[ProcessOutput] = []
    lines: list[str] = []
    for name in ("stderr", "stdout"):
        edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        for begin, end in itertools.pairwise(edges):
            seen, done = reader.feed(OutputChunk(name, data[begin:end]))  # type: ignore[arg-type]
            through += done
            lines += [line.text for line in seen]
    assert [one.number for one in through] == list(range(len(texts)))
    assert [one.exit_status for one in through] == list(range(len(texts)))
    assert {one.wall_s for one in through} == {1.25}
    plain = sum(len(text.replace("\n", "")) for text in texts)
    assert sum(map(len, lines)) == 2 * plain


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=80))))
def test_foreign_bytes_never_raise(pieces: list[tuple[str, bytes]]) -> None:
    reader = SeriesReader(range(3))
    for name, data in pieces:
        reader.feed(OutputChunk(name, b"\x1edroidmace " + data))  # type: ignore[arg-type]
        reader.feed(OutputChunk(name, data))  # type: ignore[arg-type]


def test_markers_of_the_programs_own_do_not_count() -> None:
    reader = SeriesReader(range(1))
    forged = stream(7, b"x\n") + b"\x1edroidmace end 5 0 1.0\n"
    for name in ("stdout", "stderr"):
        _, through = reader.feed(OutputChunk(name, stream(0, forged)))  # type: ignore[arg-type]
    assert [one.number for one in through] == []


def test_a_process_that_ended_on_one_stream_is_not_lost_with_the_next() -> None:
    reader = SeriesReader(range(2))
    begin, end = b"\x1edroidmace begin 0 1.0\n", b"\x1edroidmace end 0 0 2.0\n"
    reader.feed(OutputChunk("stderr", begin))
    _, through = reader.feed(OutputChunk("stdout", begin + end + b"\x1edroidmace begin 1 2.1\n"))
    assert through == []
    assert reader.running is not None
    assert [one.number for one in reader.take_ended(reader.running.number)] == [0]
    assert reader.take_ended(reader.running.number) == []
