"""Sessions on this machine as a device, with a stand-in that ends as the real one ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from droidmace.devices.base import CommandResult
from droidmace.devices.local import LocalDevice
from droidmace.errors import (
    DeviceLostError,
    DeviceStorageError,
    DeviceTimeoutError,
    MaceRunCrashError,
    MaceRunError,
    MaceRunOutputError,
    MaceRunRetryError,
)
from droidmace.macerun.events import OutputLine, RetryNoticed, Stage, StageReached
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import MaceRunSession, WatchLimits
from droidmace.macerun.supervision import MarkerFilter, supervised_shell
from droidmace.results import RunTimes

LOGS = Path(__file__).parent.parent / "samples" / "logs"
STAND_IN = Path(__file__).parent / "stand_in.py"
DEADLINE_S = 30.0
SHELLS = [name for name in ("sh", "mksh", "bash") if shutil.which(name)]

Make = Callable[..., Invocation]


class RecordingDevice(LocalDevice):
    """This machine, remembering the commands it ran to their end."""

    def __init__(self, root: Path, shell: str = "sh") -> None:
        # Unbuffered output would hide what a crash loses.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        super().__init__(root, shell=f"/bin/{shell}", environment=environment)
        self.commands: list[str] = []

    def run(
        self, command: str, *, timeout_s: float = 30.0, stdin: bytes = b"", pty: bool = False
    ) -> CommandResult:
        self.commands.append(command)
        return super().run(command, timeout_s=timeout_s, stdin=stdin, pty=pty)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "mace run"
    folder.mkdir()
    binary = folder / "mace_run"
    binary.write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
    binary.chmod(0o755)
    return folder


@pytest.fixture
def make(root: Path) -> Make:
    def build(
        scenario: str, log: str = "", last_lines: int = 1000, **changes: object
    ) -> Invocation:
        if log:
            lines = (LOGS / f"{log}.txt").read_text().splitlines(keepends=True)
            (root / "log").write_text("".join(lines[-last_lines:]))
        settings: dict[str, object] = {
            "cwd": str(root),
            "model_name": "tiny_gpu",
            "model_file": "tiny_gpu.pb",
            "model_data_file": "tiny_gpu.data",
            "inputs": (TensorArg("input", (1, 3, 32, 32), data_format="NCHW"),),
            "outputs": (TensorArg("output", (1, 10)),),
            "input_file": "in/x",
            "output_file": "out/x",
            "extra_environment": {
                "X_SCENARIO": scenario,
                "X_LOG": str(root / "log") if log else "",
            },
        }
        return Invocation(**(settings | changes))  # type: ignore[arg-type]

    return build


@pytest.fixture
def device(root: Path) -> RecordingDevice:
    return RecordingDevice(root)


@pytest.fixture
def session(device: RecordingDevice, root: Path) -> MaceRunSession:
    return MaceRunSession(device, str(root))


def runs(root: Path) -> list[str]:
    return (root / "runs").read_text().splitlines()


def wait_until_dead(root: Path) -> None:
    """Returns when the process that held the lock is gone (else the test's own limit ends it)."""
    with (root / "alive").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


class Ticking:
    """A clock that moves on by a second every time it is read."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("pty", [False, True])
def test_a_run_that_succeeds(root: Path, make: Make, shell: str, pty: bool) -> None:
    stale = root / "out" / "x_output"
    stale.parent.mkdir()
    stale.write_bytes(b"an older output")
    lines: list[OutputLine] = []
    session = MaceRunSession(RecordingDevice(root, shell), str(root))
    result = session.run(
        make("fine", "gpu_cold", storage_dir="interior"),
        timeout_s=DEADLINE_S,
        on_line=lines.append,
        pty=pty,
    )
    assert result.times == RunTimes(1560.461, 14449.381, 1.132)
    assert result.mace_version == "v1.1.1-23-g0fc55a5"
    assert len(result.warnings) == 2
    assert result.wall_s > 0
    assert stale.read_bytes() == bytes(40)
    assert (root / "interior").is_dir()
    expected = (LOGS / "gpu_cold.txt").read_text().splitlines()
    assert [line.text for line in lines] == expected
    assert runs(root) == ["fine tty" if pty else "fine pipe"]


def test_tuning_writes_fresh_parameters(root: Path, make: Make, session: MaceRunSession) -> None:
    (root / "tuned.bin").write_bytes(b"older")
    invocation = make("fine", "gpu_tuning_round0", tuning=True, parameter_path="tuned.bin")
    assert session.run(invocation, timeout_s=DEADLINE_S).times == RunTimes(
        5633.246, 31080.761, None
    )
    assert (root / "tuned.bin").read_bytes() == b"tuned"


def test_tuning_without_parameters_is_an_error(
    root: Path, make: Make, session: MaceRunSession
) -> None:
    (root / "tuned.bin").write_bytes(b"older")
    invocation = make("no-parameters", "cpu", tuning=True, parameter_path="tuned.bin")
    with pytest.raises(MaceRunOutputError, match=r"tuned parameters tuned\.bin were not written"):
        session.run(invocation, timeout_s=DEADLINE_S)


def test_exit_status_does_not_outweigh_the_evidence(make: Make, session: MaceRunSession) -> None:
    result = session.run(make("status-7", "cpu"), timeout_s=DEADLINE_S)
    assert result.warnings == ("exit status 7",)


def test_exit_zero_without_a_table_is_a_failure(make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunOutputError, match="inputs' names do not match") as caught:
        session.run(make("nothing", "wrong_shapes_exit0"), timeout_s=DEADLINE_S)
    assert caught.value.details is not None
    assert "cpu_affinity_policy: 1" in caught.value.details


def test_stale_output_does_not_pass_for_a_new_one(
    root: Path, make: Make, session: MaceRunSession
) -> None:
    (root / "out").mkdir()
    (root / "out" / "x_output").write_bytes(bytes(40))
    with pytest.raises(MaceRunOutputError, match="x_output was not written"):
        session.run(make("nothing", "cpu"), timeout_s=DEADLINE_S)


def test_output_of_the_wrong_size(make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunOutputError, match="x_output has 44 bytes instead of 40"):
        session.run(make("wrong-size", "cpu"), timeout_s=DEADLINE_S)


def test_every_restart_round_needs_its_table(make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunOutputError, match="without its result table"):
        session.run(make("fine", "cpu", restart_rounds=2), timeout_s=DEADLINE_S)


def test_log_lost_in_an_abort_is_read_again_through_a_terminal(
    root: Path, make: Make, session: MaceRunSession
) -> None:
    with pytest.raises(MaceRunCrashError, match=r"SIGABRT.*: Open input file failed") as caught:
        # Fewer lines than a pipe's buffer holds: on a pipe nothing of them gets out.
        session.run(make("abort", "abort_no_input_file_pty", 15), timeout_s=DEADLINE_S)
    assert caught.value.details is not None
    assert "F mace-src/mace/tools/mace_run.cc:202] Open input file failed" in caught.value.details
    assert "second run, read through a terminal" in caught.value.details
    assert runs(root) == ["abort pipe", "abort tty"]


def test_log_that_survived_is_not_read_twice(
    root: Path, make: Make, session: MaceRunSession
) -> None:
    with pytest.raises(MaceRunCrashError, match="Store OPENCL compiled kernel") as caught:
        session.run(make("abort-flushed", "abort_no_storage_dir_pty"), timeout_s=DEADLINE_S)
    assert runs(root) == ["abort-flushed pipe"]
    assert caught.value.hint is not None
    assert "storage folder" in caught.value.hint


def test_a_crash_through_a_terminal_is_not_repeated(
    root: Path, make: Make, session: MaceRunSession
) -> None:
    with pytest.raises(MaceRunCrashError, match="SIGABRT"):
        session.run(make("abort", "cpu"), timeout_s=DEADLINE_S, pty=True)
    assert runs(root) == ["abort tty"]


def test_a_crash_that_does_not_come_back(root: Path, make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunCrashError, match="SIGABRT") as caught:
        session.run(make("abort-once", "cpu"), timeout_s=DEADLINE_S)
    assert caught.value.details is not None
    assert "it did not crash" in caught.value.details
    assert runs(root) == ["abort-once pipe", "abort-once tty"]


def test_a_crash_after_the_outputs_is_a_crash(make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunCrashError, match="SIGSEGV"):
        session.run(make("segfault-at-the-end", "cpu"), timeout_s=DEADLINE_S)


def test_killed_from_outside_is_not_repeated(
    root: Path, make: Make, session: MaceRunSession
) -> None:
    with pytest.raises(MaceRunCrashError, match="SIGKILL") as caught:
        session.run(make("killed"), timeout_s=DEADLINE_S)
    assert caught.value.hint is not None
    assert "low on memory" in caught.value.hint
    assert runs(root) == ["killed pipe"]


def test_unknown_flag_is_named(make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunError, match="--input_data_format") as caught:
        session.run(make("unknown-flag"), timeout_s=DEADLINE_S)
    assert caught.value.hint is not None
    assert "another MACE version" in caught.value.hint


def test_missing_library(make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunError, match="shared library") as caught:
        session.run(make("no-library"), timeout_s=DEADLINE_S)
    assert caught.value.details is not None
    assert "libx.so" in caught.value.details


def test_missing_binary(make: Make, session: MaceRunSession) -> None:
    with pytest.raises(MaceRunError, match="is not on the device"):
        session.run(make("fine", binary="nothing_here"), timeout_s=DEADLINE_S)


def test_binary_that_is_not_executable(root: Path, make: Make, session: MaceRunSession) -> None:
    (root / "mace_run").chmod(0o644)
    with pytest.raises(MaceRunError, match="cannot be executed"):
        session.run(make("fine"), timeout_s=DEADLINE_S)


def test_binary_of_another_machine(root: Path, make: Make, session: MaceRunSession) -> None:
    (root / "mace_run").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
    with pytest.raises(MaceRunError, match="cannot be executed"):
        session.run(make("fine"), timeout_s=DEADLINE_S)


@pytest.mark.parametrize("pty", [False, True])
def test_endless_retry_is_stopped_with_its_reason(
    root: Path, make: Make, session: MaceRunSession, pty: bool
) -> None:
    with pytest.raises(
        MaceRunRetryError,
        match="creating the engine.*: Failed to load OpenCL library; Out of resources",
    ) as caught:
        session.run(make("retry", "cpu"), timeout_s=DEADLINE_S, pty=pty)
    assert caught.value.details is not None
    assert "retry ... errcode: Out of resources" in caught.value.details
    wait_until_dead(root)


def test_retry_that_goes_silent_is_stopped(device: RecordingDevice, root: Path, make: Make) -> None:
    # The heartbeat wakes the host; the clock has moved on by then.
    session = MaceRunSession(
        device, str(root), limits=WatchLimits(retry_stall_s=2.0), clock=Ticking()
    )
    with pytest.raises(MaceRunRetryError, match=r"once at the warm-up run.*clEnqueueNDRange"):
        session.run(make("retry-silently"), timeout_s=DEADLINE_S)
    wait_until_dead(root)


def test_retry_seen_before_the_deadline_is_the_reason(
    root: Path, make: Make, session: MaceRunSession
) -> None:
    with pytest.raises(MaceRunRetryError, match="once at the warm-up run"):
        session.run(make("retry-silently"), timeout_s=1.5)
    wait_until_dead(root)


def test_retries_that_succeed_are_not_endless(make: Make, session: MaceRunSession) -> None:
    seen: list[OutputLine] = []
    session.run(make("recovers", "cpu"), timeout_s=DEADLINE_S, on_line=seen.append)
    assert sum(isinstance(line.event, RetryNoticed) for line in seen) == 9


def test_deadline(root: Path, make: Make, session: MaceRunSession) -> None:
    with pytest.raises(DeviceTimeoutError, match=r"did not end within 1\.5 s") as caught:
        session.run(make("hang"), timeout_s=1.5)
    assert caught.value.details == "I mace_run.cc:550] Warm up run"
    wait_until_dead(root)


def test_silence(device: RecordingDevice, root: Path, make: Make) -> None:
    session = MaceRunSession(device, str(root), limits=WatchLimits(silence_s=2.0), clock=Ticking())
    with pytest.raises(DeviceTimeoutError, match="printed nothing for 2 s"):
        session.run(make("hang"), timeout_s=DEADLINE_S)
    wait_until_dead(root)


def test_interrupt_stops_the_process(root: Path, make: Make, session: MaceRunSession) -> None:
    def interrupt(line: OutputLine) -> None:
        if line.event == StageReached(Stage.WARMING_UP):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.run(make("hang"), timeout_s=DEADLINE_S, on_line=interrupt)
    wait_until_dead(root)


@pytest.mark.parametrize("shell", SHELLS)
def test_process_dies_when_nobody_listens(root: Path, make: Make, shell: str) -> None:
    process = subprocess.Popen(
        [shell, "-c", supervised_shell(make("hang"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"I mace_run.cc:550] Warm up run\n"
    # What an unplugged cable does: nobody asks the process to stop.
    process.stdout.close()
    process.stderr.close()
    wait_until_dead(root)
    assert process.wait() != 0


def test_shell_that_dies_first_is_a_lost_device(root: Path, make: Make) -> None:
    session = MaceRunSession(
        RecordingDevice(root), str(root), launcher=lambda _: "echo I x.cc:1] last words; kill -9 $$"
    )
    with pytest.raises(DeviceLostError, match="ended before mace_run did") as caught:
        session.run(make("fine"), timeout_s=DEADLINE_S)
    assert caught.value.details == "I x.cc:1] last words"


def test_shell_that_is_told_to_end(root: Path, make: Make) -> None:
    session = MaceRunSession(RecordingDevice(root), str(root), launcher=lambda _: "exit 143")
    with pytest.raises(MaceRunError, match="was stopped before it ended"):
        session.run(make("fine"), timeout_s=DEADLINE_S)


def test_folder_that_cannot_be_made(root: Path, make: Make, session: MaceRunSession) -> None:
    (root / "out").write_bytes(b"a file where a folder should be")
    with pytest.raises(DeviceStorageError, match="cannot be written") as caught:
        session.run(make("fine", "cpu"), timeout_s=DEADLINE_S)
    assert caught.value.details


@pytest.mark.parametrize(
    "changes",
    [{"output_file": "../out"}, {"storage_dir": "/tmp"}, {"parameter_path": "/sdcard/p"}],
)
def test_nothing_outside_the_root_is_touched(
    device: RecordingDevice, make: Make, session: MaceRunSession, changes: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="lies outside"):
        session.run(make("fine", **changes), timeout_s=DEADLINE_S)
    assert device.commands == []


class TestBatch:
    SUFFIXES = tuple(f"_{number:04d}" for number in range(50))

    @pytest.fixture(autouse=True)
    def _samples(self, root: Path) -> Iterator[None]:
        (root / "batch in").mkdir()
        for suffix in self.SUFFIXES:
            (root / "batch in" / f"input{suffix}").write_bytes(b"")
        return iter(())

    def batch(self, make: Make, scenario: str = "batch", **changes: object) -> Invocation:
        settings: dict[str, object] = {"input_dir": "batch in", "output_dir": "batch out"}
        return make(scenario, **(settings | changes))

    def test_every_sample_comes_out(self, root: Path, make: Make, session: MaceRunSession) -> None:
        stale = root / "batch out" / "output_9999"
        stale.parent.mkdir()
        stale.write_bytes(b"older")
        result = session.run_batch(self.batch(make), self.SUFFIXES, timeout_s=DEADLINE_S)
        assert result.times is None
        assert not stale.exists()
        assert len(list(stale.parent.iterdir())) == len(self.SUFFIXES)

    def test_missing_samples_are_named(self, make: Make, session: MaceRunSession) -> None:
        suffixes = (*self.SUFFIXES, *(f"_missing{number}" for number in range(7)))
        with pytest.raises(MaceRunOutputError, match="7 of 57 outputs.*_missing0") as caught:
            session.run_batch(self.batch(make), suffixes, timeout_s=DEADLINE_S)
        assert caught.value.details is not None
        assert caught.value.details.endswith("… and 2 more")

    def test_sizes_are_checked(self, make: Make, session: MaceRunSession) -> None:
        batch = self.batch(make, outputs=(TensorArg("output", (1, 10)), TensorArg("b", (2,))))
        session.run_batch(batch, self.SUFFIXES, timeout_s=DEADLINE_S)
        wrong = self.batch(make, scenario="nothing")
        with pytest.raises(MaceRunOutputError, match="50 of 50 outputs"):
            session.run_batch(wrong, self.SUFFIXES, timeout_s=DEADLINE_S)

    def test_inputs_are_not_emptied(
        self, device: RecordingDevice, make: Make, session: MaceRunSession
    ) -> None:
        batch = self.batch(make, input_dir="data/in", output_dir="data")
        with pytest.raises(ValueError, match="would remove"):
            session.run_batch(batch, self.SUFFIXES, timeout_s=DEADLINE_S)
        assert device.commands == []

    def test_the_two_ways_are_not_mixed(self, make: Make, session: MaceRunSession) -> None:
        with pytest.raises(ValueError, match="run_batch"):
            session.run(self.batch(make), timeout_s=DEADLINE_S)
        with pytest.raises(ValueError, match="run_batch needs"):
            session.run_batch(make("fine"), self.SUFFIXES, timeout_s=DEADLINE_S)


class TestMarkerFilter:
    STREAM = b"one\x1edroidmace alive\r\ntwo\x1e\n\x1edroidmace end 134\nthree\x1edroid"

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
    def test_markers_are_taken_out_of_any_pieces(self, step: int) -> None:
        markers = MarkerFilter()
        pieces = [
            markers.feed(self.STREAM[begin : begin + step])
            for begin in range(0, len(self.STREAM), step)
        ]
        assert b"".join(pieces) + markers.finish() == b"onetwo\x1e\nthree\x1edroid"
        assert markers.exit_status == 134
