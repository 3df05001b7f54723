"""Batch mode works on two samples at a time; what it writes and says shows nothing of that."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_harness import Finished, Phone

from droidmace.engine.flags import Flags, parse_flags
from droidmace.engine.mace_run import MaceRun
from droidmace.engine.macelog import MaceLog, StdioStream
from droidmace.engine.net import Net
from droidmace.engine.tensors import input_specs, output_specs
from droidmace.errors import EngineError

UsedPhones = dict[str, tuple[Phone, Finished]]
SIGABRT = -6
# At level 3 the log names each kernel as it runs, and so they run one after another.
BESIDE, IN_TURN = {"MACE_CPP_MIN_VLOG_LEVEL": "0"}, {"MACE_CPP_MIN_VLOG_LEVEL": "3"}
WRITTEN = re.compile(r"Write output file answers/(\S+) with size 10 done\.")
SAMPLES = 7


@pytest.fixture
def batch(phone: Phone, used_phones: UsedPhones) -> Phone:
    """A phone with samples that all differ."""
    shutil.copy(used_phones["intel"][0].cache, phone.cache)
    image = np.fromfile(phone.folder / "in_input", "<f4")
    (phone.folder / "samples").mkdir()
    (phone.folder / "answers").mkdir()
    for number in range(SAMPLES):
        (image * (number + 1) / SAMPLES).tofile(phone.folder / "samples" / f"input_{number}")
    return phone


FLAGS = ("--input_dir=samples", "--output_dir=answers")


def answers(phone: Phone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (phone.folder / "answers").iterdir()}


def test_side_by_side_gives_what_one_after_another_gives(batch: Phone) -> None:
    in_turn = batch.run(*FLAGS, **IN_TURN)
    expected = answers(batch)
    for path in (batch.folder / "answers").iterdir():
        path.unlink()
    beside = batch.run(*FLAGS, **BESIDE)
    assert answers(batch) == expected
    assert len(set(expected.values())) == SAMPLES
    assert WRITTEN.findall(beside.stdout) == WRITTEN.findall(in_turn.stdout)
    assert len(WRITTEN.findall(beside.stdout)) == SAMPLES


def test_what_comes_before_a_sample_that_cannot_be_read_is_written(batch: Phone) -> None:
    (batch.folder / "samples" / "input_broken").mkdir()
    beside = batch.run_on_terminal(*FLAGS, **BESIDE)
    assert beside.returncode == SIGABRT
    assert sorted(WRITTEN.findall(beside.stdout)) == sorted(answers(batch))
    fatal = [line for line in beside.stdout.splitlines() if line.startswith("F ")]
    assert fatal[0].endswith("Open input file failed")
    in_turn = batch.run_on_terminal(*FLAGS, **IN_TURN)
    assert WRITTEN.findall(in_turn.stdout) == WRITTEN.findall(beside.stdout)


def test_a_full_disk_is_not_noticed(batch: Phone) -> None:
    """As with MACE, which looks at nothing but whether the file could be opened."""
    (batch.folder / "answers" / "output_3").symlink_to(Path("/dev/full"))
    run = batch.run(*FLAGS, **BESIDE)
    assert run.returncode == 0
    assert len(WRITTEN.findall(run.stdout)) == SAMPLES


class HalfNet(Net):
    """Doubles its input; an input that begins with 3 fails, either at once or later."""

    runtimes = ("CPU",)

    def __init__(self, *, later: bool) -> None:
        self._later = later
        self.under_way = self.most_under_way = 0

    def run(self, inputs: Any, timings: Any = None) -> Any:
        raise NotImplementedError

    def prepare(self) -> None:
        raise NotImplementedError

    def begin(self, inputs: Any) -> Callable[[], Any]:
        values = inputs["in"]
        if values[0] == 3 and not self._later:
            raise EngineError("MACE_OUT_OF_RESOURCES")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

        def finish() -> Any:
            self.under_way -= 1
            if values[0] == 3:
                raise EngineError("MACE_OUT_OF_RESOURCES")
            return {"out": 2 * values}

        return finish


@pytest.mark.parametrize("later", [False, True])
def test_a_failed_inference_leaves_what_the_sample_before_it_gave(
    tmp_path: Path, later: bool
) -> None:
    """MACE drops the status; a line that its macro prints is all that tells."""
    (tmp_path / "samples").mkdir()
    (tmp_path / "answers").mkdir()
    for number in range(1, 6):
        np.array([number, number], "<f4").tofile(tmp_path / "samples" / f"in_{number}")
    flags = parse_flags(
        [
            *("--input_node=in", "--input_shape=2", "--output_node=out", "--output_shape=2"),
            *(f"--input_dir={tmp_path}/samples", f"--output_dir={tmp_path}/answers"),
        ]
    )
    assert isinstance(flags, Flags)
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    log = MaceLog(StdioStream(descriptor))
    run = MaceRun(flags, {}, log)
    run._inputs, run._outputs = input_specs(flags), output_specs(flags)
    net = HalfNet(later=later)
    run._run_batch(net, {"out": np.full(2, -1, np.float32)})
    log.flush()
    os.close(descriptor)

    lines = (tmp_path / "log").read_text().splitlines()
    order = [match[1] for line in lines if (match := re.search(r"out_([1-5]) with", line))]
    (failed,) = [at for at, line in enumerate(lines) if "engine->Run failed with error" in line]
    assert sorted(order) == list("12345")
    before = float(order[order.index("3") - 1]) * 2 if order[0] != "3" else -1
    for number in range(1, 6):
        wanted = before if number == 3 else 2 * number
        values = np.fromfile(tmp_path / "answers" / f"out_{number}", "<f4")
        assert values.tolist() == [wanted, wanted]
    assert "out_3 with" in lines[failed + 1]
    assert (net.under_way, net.most_under_way) == (0, 2)
