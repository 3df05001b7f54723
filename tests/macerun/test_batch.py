"""Chunks on their way to a phone's shell and back: nothing is lost, doubled or mixed up."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.base import Device, OutputChunk
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
from droidmace.macerun.batch import BatchTransport, Chunk, ChunkOutputs
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import MaceRunSession

STAND_IN = Path(__file__).parent / "batch_stand_in.py"
INPUTS = (TensorArg("image:0", (1, 3)), TensorArg("mask", (2,), "int32", "NONE"))
OUTPUTS = (TensorArg("scores", (1, 4)), TensorArg("a/box", (2, 2)))


def toybox_device(folder: Path, tools: Path) -> LocalDevice:
    """A device with mksh, toybox and nothing else."""
    toybox, mksh = shutil.which("toybox"), shutil.which("mksh")
    assert toybox is not None, "apt install toybox"
    assert mksh is not None, "apt install mksh"
    tools.mkdir()
    for name in (
        "cat",
        "df",
        "mkdir",
        "printf",
        "rm",
        "sleep",
        "split",
        "stat",
        "tar",
        "find",
        "wc",
    ):
        (tools / name).symlink_to(toybox)
    (tools / "sh").symlink_to(mksh)
    (tools / "mksh").symlink_to(mksh)
    return LocalDevice(folder, shell=mksh, environment={"PATH": str(tools)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a phone" / "mace_run"
    folder.mkdir(parents=True)
    (folder / "mace_run").write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    (folder / "mace_run").chmod(0o755)
    return folder


@pytest.fixture
def device(folder: Path, tmp_path: Path) -> LocalDevice:
    return toybox_device(folder.parent, tmp_path / "bin")


Transport = Callable[..., BatchTransport]


@pytest.fixture
def transport(folder: Path, device: LocalDevice) -> Iterator[Transport]:
    made: list[BatchTransport] = []

    def build(
        scenario: str = "fine", *, timeout_s: float = 30.0, device: Device = device
    ) -> BatchTransport:
        invocation = Invocation(
            cwd=str(folder),
            model_name="tiny",
            model_file="tiny.pb",
            model_data_file="tiny.data",
            inputs=INPUTS,
            outputs=OUTPUTS,
            input_file="in",
            output_file="out",
            extra_environment={"X_SCENARIO": scenario, "ODD": "a b'c\"$HOME"},
        )
        session = MaceRunSession(device, str(folder))
        made.append(BatchTransport(device, session, invocation, str(folder), timeout_s=timeout_s))
        return made[-1]

    yield build
    for one in made:
        one.remove()
    assert sorted(path.name for path in folder.iterdir()) == ["mace_run"]


def chunk(first: int, count: int) -> Chunk:
    return Chunk(
        first,
        [
            {
                "image:0": np.array([number, 1, 2], "<f4").tobytes(),
                "mask": np.array([0, 0], "<i4").tobytes(),
            }
            for number in range(first, first + count)
        ],
    )


def check(found: ChunkOutputs, first: int, count: int) -> None:
    assert (found.first, found.count) == (first, count)
    expected = np.arange(first, first + count)[:, None] + 3.0 + np.arange(4)
    assert list(found.outputs) == ["scores", "a/box"]
    for values in found.outputs.values():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected)
    assert 0 <= found.run_s <= found.wall_s + 0.02


def run(transport: BatchTransport, one: Chunk, **options: Any) -> ChunkOutputs:
    sent = transport.send(one, threading.Event())
    assert (sent.first, sent.count) == (one.first, len(one.inputs))
    return transport.start(sent, **options).collect()


def test_every_sample_comes_back_in_its_place(transport: Transport) -> None:
    carrier = transport()
    # A short chunk over a long one, in the folder of the last but one.
    for first, count in ((0, 40), (40, 30), (70, 3), (73, 1), (74, 35)):
        check(run(carrier, chunk(first, count)), first, count)


def test_two_chunks_at_once(transport: Transport) -> None:
    carrier = transport()
    one, two = (carrier.send(chunk(first, 5), threading.Event()) for first in (0, 5))
    first = carrier.start(one)
    second: list[Any] = []

    def start_second() -> None:
        if first.computed and not second:
            second.append(carrier.start(two))

    check(first.collect(start_second), 0, 5)
    check(second[0].collect(), 5, 5)


def test_outputs_stay_where_that_is_asked_for(transport: Transport, folder: Path) -> None:
    carrier = transport()
    check(run(carrier, chunk(0, 3), keep_outputs=True), 0, 3)
    check(run(carrier, chunk(3, 3)), 3, 3)
    (out,) = folder.glob("batch/*/out")
    assert [path.name for path in out.iterdir()] == ["0"]


@pytest.mark.parametrize(
    ("scenario", "kind", "text"),
    [
        ("missing", MaceRunOutputError, r"2 of 10 outputs .* \w+_aaac was not written"),
        ("short", MaceRunOutputError, r"_aaac has 4 bytes instead of 16"),
        ("extra", MaceRunOutputError, r"'other' is not what was asked for"),
        ("failed-run", MaceRunOutputError, r"inference failed.* MACE_OUT_OF_RESOURCES"),
        ("abort", MaceRunCrashError, r"SIGABRT"),
        ("killed", MaceRunCrashError, r"SIGKILL"),
        ("retry", MaceRunRetryError, r"creating the engine .*Out of resources"),
        ("flag", MaceRunError, r"does not know the flag --input_dir"),
    ],
)
def test_what_goes_wrong_is_told(
    transport: Transport, scenario: str, kind: type[MaceRunError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        run(transport(scenario), chunk(0, 5))


def test_an_engine_made_at_the_second_try_is_none_the_worse(transport: Transport) -> None:
    check(run(transport("retry-once"), chunk(0, 3)), 0, 3)


def test_a_crash_is_looked_at_again_through_a_terminal(transport: Transport) -> None:
    with pytest.raises(MaceRunCrashError) as caught:
        run(transport("abort"), chunk(0, 3))
    # A pipe had lost all of it.
    assert "Write output file" in str(caught.value.details)


def test_a_process_that_does_not_end_is_stopped(transport: Transport) -> None:
    carrier = transport("hang", timeout_s=30.0)
    sent = carrier.send(chunk(0, 3), threading.Event())
    impatient = transport("hang", timeout_s=2.0)
    impatient._base = carrier._base
    with pytest.raises(DeviceTimeoutError, match="did not end its 3 samples in time"):
        impatient.start(sent).collect()


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [{"image:0": bytes(12)}],
        [{"image:0": bytes(12), "mask": bytes(7)}],
        [{"image:0": bytes(12), "mask": bytes(8), "more": b""}],
    ],
)
def test_a_sample_that_is_not_as_announced_is_refused(transport: Transport, inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"without samples|sample 9 has inputs"):
        transport().send(Chunk(9, inputs), threading.Event())


def test_told_to_stop_it_sends_no_more(transport: Transport, folder: Path) -> None:
    stop = threading.Event()
    stop.set()
    transport().send(chunk(0, 3), stop)
    assert not list(folder.glob("batch/*/in0/*_aaab"))


def test_a_folder_that_cannot_be_written_is_told(transport: Transport, folder: Path) -> None:
    carrier = transport()
    (folder / "batch").write_bytes(b"")
    with pytest.raises(DeviceStorageError, match=r"cannot take samples 4 to 6: [0-9,.]+ MiB are"):
        carrier.send(chunk(4, 3), threading.Event())


class Recorded:
    """A device whose command says what is given here, cut as it is given."""

    serial = "recorded"

    def __init__(self, chunks: list[OutputChunk]) -> None:
        self._chunks = chunks
        self.exit_code = 0

    def start(self, *_: object, **__: object) -> Recorded:
        return self

    def run(self, *_: object, **__: object) -> Any:
        return replace_free_space()

    def chunks(self) -> Iterator[OutputChunk]:
        yield from self._chunks

    def close(self) -> None:
        pass

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def replace_free_space() -> Any:
    from droidmace.devices.base import CommandResult

    return CommandResult(
        0, b"Filesystem 1K-blocks Used Available Use%\n/x 100 1 99999999 1% /\n", b""
    )


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a good chunk prints, on each stream."""
    top = tmp_path_factory.mktemp("spoken")
    folder = top / "mace_run"
    folder.mkdir()
    (folder / "mace_run").write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    (folder / "mace_run").chmod(0o755)
    device = toybox_device(folder, top / "bin")
    carrier = recorded_transport(device, str(folder))
    sent = carrier.send(chunk(0, 2), threading.Event())
    said = {"stdout": b"", "stderr": b""}
    running = carrier.start(sent)
    for piece in running._process.chunks():
        said[piece.stream] += piece.data
    return said


def recorded_transport(device: Any, root: str) -> BatchTransport:
    invocation = Invocation(
        cwd=root, model_name="tiny", model_file="a", model_data_file="b",
        inputs=INPUTS, outputs=OUTPUTS, input_file="in", output_file="out",
    )  # fmt: skip
    return BatchTransport(device, MaceRunSession(device, root), invocation, root, timeout_s=30.0)


@given(sizes=st.lists(st.integers(1, 700), min_size=1), err_at=st.integers(0, 12))
def test_however_the_output_is_cut(spoken: dict[str, bytes], sizes: list[int], err_at: int) -> None:
    data, position, chunks = spoken["stdout"], 0, []
    while position < len(data):
        for size in sizes:
            chunks.append(OutputChunk("stdout", data[position : position + size]))
            position += size
    chunks = [one for one in chunks if one.data]
    chunks.insert(err_at, OutputChunk("stderr", b"\x1edroidmace alive\n"))
    chunks.append(OutputChunk("stderr", spoken["stderr"]))
    found = run_recorded(chunks)
    check(replace(found, wall_s=found.run_s), 0, 2)


def run_recorded(chunks: list[OutputChunk]) -> ChunkOutputs:
    from droidmace.macerun.batch import SentChunk

    transport = recorded_transport(Recorded(chunks), "/data/local/tmp/mace_run")
    return transport.start(SentChunk(0, 2, "in0", 0.0)).collect()


def test_a_stream_that_ends_early_is_never_taken_for_all(spoken: dict[str, bytes]) -> None:
    data = spoken["stdout"]
    # tar's padding beyond its end says nothing.
    for length in range(0, data.rstrip(b"\0").rfind(b"\0") + 1, 37):
        chunks = [OutputChunk("stdout", data[:length])]
        with pytest.raises(DeviceLostError):
            run_recorded(chunks)
        chunks.append(OutputChunk("stderr", spoken["stderr"]))
        with pytest.raises((MaceRunOutputError, DeviceStorageError)):
            run_recorded(chunks)


def test_one_file_twice_is_an_error(spoken: dict[str, bytes]) -> None:
    head, marker, archive = spoken["stdout"].partition(b"\x1edroidmace ran 0")
    line, newline, archive = archive.partition(b"\n")
    blocks = [archive[start : start + 512] for start in range(0, len(archive), 512)]
    file = next(i for i, block in enumerate(blocks) if block.startswith(b"./scores"))
    doubled = b"".join([*blocks[: file + 2], *blocks[file:]])
    chunks = [
        OutputChunk("stdout", head + marker + line + newline + doubled),
        OutputChunk("stderr", spoken["stderr"]),
    ]
    with pytest.raises(MaceRunOutputError, match="came twice"):
        run_recorded(chunks)
