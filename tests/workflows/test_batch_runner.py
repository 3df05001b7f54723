"""A batch runner: in order, with look-ahead, and nothing left behind whatever ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.base import CommandResult
from droidmace.errors import DeviceStorageError, InputError, MaceRunOutputError
from droidmace.macerun.batch import Chunk, ChunkOutputs, SentChunk
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import MaceRunSession
from droidmace.workflows.batch import BatchRunner

ROOT = "/data/local/tmp/mace_run"
WAIT_S = 20.0
MIB = 1 << 20


class FullPhone:
    """A device that only tells how much is free."""

    serial = "full"

    def __init__(self, free_kib: int | None) -> None:
        row = "" if free_kib is None else f"/dev/x 100 1 {free_kib} 1% /data\n"
        self._text = f"Filesystem 1K-blocks Used Available Use% Mounted on\n{row}"

    def run(self, *_: object, **__: object) -> CommandResult:
        return CommandResult(0, self._text.encode(), b"")


def runner(free_kib: int | None, *, elements: int = 784, share: float = 0.25) -> BatchRunner:
    invocation = Invocation(
        cwd=ROOT, model_name="x", model_file="x", model_data_file="x",
        inputs=(TensorArg("image", (elements,)),), outputs=(TensorArg("scores", (10,)),),
        input_file="in", output_file="out",
    )  # fmt: skip
    device: Any = FullPhone(free_kib)
    session = MaceRunSession(device, ROOT)
    return BatchRunner(device, session, ROOT, invocation, storage_share=share)


@given(
    free_kib=st.integers(0, 1 << 24),
    elements=st.integers(1, 1 << 22),
    count=st.integers(1, 100_000),
    share=st.floats(0.01, 1),
    speed=st.none() | st.floats(1e-7, 1e3),
)
def test_a_chunk_never_takes_more_than_its_share(
    free_kib: int, elements: int, count: int, share: float, speed: float | None
) -> None:
    one = runner(free_kib, elements=elements, share=share)
    if speed is not None:
        one._learn(ChunkOutputs(0, {"scores": np.zeros((10, 10), np.float32)}, speed, speed))
    try:
        size = one.chunk_size(4 * elements, 40, count)
    except DeviceStorageError as error:
        assert "one sample needs" in error.message
        assert free_kib * 1024 * share < 2 * 2 * (4 * elements + 40 + 3 * 4096)
        return
    assert 1 <= size <= count
    # Two chunks' inputs and outputs; files take whole blocks.
    assert 2 * size * (-(-elements * 4 // 4096) + 1) * 4096 <= free_kib * 1024 * share


def test_a_thousand_small_images_are_one_chunk() -> None:
    assert runner(4 * MIB).chunk_size(3136, 40, 1000) == 1000


def test_chunks_are_even() -> None:
    one = runner(None)
    assert one.chunk_size(3136, 40, 1030) == 515


def test_chunks_grow_with_what_the_phone_can_do() -> None:
    one = runner(4 * MIB)
    first = one.chunk_size(3136, 40, 100_000)
    assert first <= 1024
    outputs = {"scores": np.zeros((1000, 10), np.float32)}
    one._learn(ChunkOutputs(0, outputs, 2.5, 2.0))
    assert first < one.chunk_size(3136, 40, 99_000) <= 8192
    one._learn(ChunkOutputs(0, outputs, 2000.0, 2000.0))
    assert one.chunk_size(3136, 40, 99_000) == 5


def test_a_size_that_is_wanted_is_taken_as_far_as_memory_goes() -> None:
    one = runner(4 * MIB)
    assert one.chunk_size(3136, 40, 1000, wanted=7) == 7
    assert one.chunk_size(3136, 40, 3, wanted=7) == 3
    assert one.chunk_size(10 << 20, 1 << 20, 1000, wanted=1000) == 5
    assert one.chunk_size(100 << 20, 1 << 20, 1000, wanted=1000) == 1


def test_no_room_is_told() -> None:
    one = runner(1000, elements=1 << 20)
    with pytest.raises(
        DeviceStorageError, match=r"one sample needs 8\.\d MiB.* 0\.1 MiB"
    ) as caught:
        one.chunk_size(4 << 20, 40, 1)
    assert "larger share" in str(caught.value.hint)


def test_a_chunk_of_ones_own_that_is_beyond_the_share_is_refused() -> None:
    one, fake = with_fake()
    one._budget_bytes = 10 * 2 * (4096 + 4096 + 1024) / 0.5  # for ten samples
    large = Chunk(90, [{"image": b""}] * 11)
    found = taken_until(DeviceStorageError, one.run([*chunks(2), large]))
    assert found == [0, 10]
    assert "send 90" not in fake.events


@dataclass
class FakeTransport:
    """Does at once what a phone would do, and writes down what was asked of it."""

    events: list[str] = field(default_factory=list)
    fail_at: int | None = None
    compute: threading.Event = field(default_factory=threading.Event)
    sent: dict[int, threading.Event] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.compute.set()
        self.sent = {first: threading.Event() for first in range(0, 100, 10)}

    def free_bytes(self) -> None:
        """It does not tell."""

    def remove(self) -> None:
        self.events.append("remove")
        self.left.clear()

    def send(self, chunk: Chunk, stop: threading.Event) -> SentChunk:
        self.left.add(chunk.first)
        assert len(self.left) <= 2, "more than two chunks on the phone"
        self.events.append(f"send {chunk.first}")
        self.sent[chunk.first].set()
        return SentChunk(chunk.first, len(chunk.inputs), "in0", 0.1)

    def start(self, chunk: SentChunk, *, keep_outputs: bool = False) -> Any:
        self.events.append(f"start {chunk.first}")
        return SimpleNamespace(
            computed=True,
            collect=lambda on_progress: self.collect(chunk, on_progress),
            close=lambda: self.events.append(f"close {chunk.first}"),
        )

    def collect(self, chunk: SentChunk, on_progress: Callable[[], None]) -> ChunkOutputs:
        assert self.compute.wait(WAIT_S)
        on_progress()
        if chunk.first == self.fail_at:
            raise MaceRunOutputError("an output is missing")
        self.left.discard(chunk.first)
        self.events.append(f"end {chunk.first}")
        values = np.arange(chunk.first, chunk.first + chunk.count, dtype=np.float32)
        return ChunkOutputs(chunk.first, {"scores": values[:, None]}, 1.0, 1.0)


def with_fake(**options: Any) -> tuple[BatchRunner, FakeTransport]:
    one, fake = runner(None), FakeTransport(**options)
    one._transport = fake  # type: ignore[assignment]
    return one, fake


def chunks(count: int, closed: list[str] | None = None) -> Iterator[Chunk]:
    try:
        for first in range(0, 10 * count, 10):
            yield Chunk(first, [{"image": b""}] * 10)
    finally:
        if closed is not None:
            closed.append("closed")


def firsts(found: Iterable[ChunkOutputs]) -> list[int]:
    return [one.first for one in found]


def taken_until(error: type[Exception], found: Iterable[ChunkOutputs]) -> list[int]:
    """What comes before an error that must come."""
    taken: list[int] = []

    def take_all() -> None:
        taken.extend(one.first for one in found)

    with pytest.raises(error):
        take_all()
    return taken


def test_outputs_come_in_order() -> None:
    one, fake = with_fake()
    closed: list[str] = []
    assert firsts(one.run(chunks(7, closed))) == [0, 10, 20, 30, 40, 50, 60]
    assert fake.events[0] == fake.events[-1] == "remove"
    assert [event for event in fake.events if event.startswith("send")] == [
        f"send {first}" for first in range(0, 70, 10)
    ]
    assert closed == ["closed"]


def test_no_chunks_are_no_outputs() -> None:
    one, fake = with_fake()
    assert firsts(one.run([])) == []
    assert fake.events == ["remove", "remove"]


def test_the_next_chunk_travels_while_one_is_computed() -> None:
    one, fake = with_fake()
    fake.compute.clear()
    found = one.run(chunks(4))
    first: list[ChunkOutputs] = []
    thread = threading.Thread(target=lambda: first.append(next(found)))
    thread.start()
    assert fake.sent[10].wait(WAIT_S)  # chunk 0 is not through: it waits for us
    assert not fake.sent[20].is_set()
    fake.compute.set()
    thread.join(WAIT_S)
    assert first[0].first == 0
    # It has begun before its forerunner's outputs were looked at.
    assert fake.events.index("start 10") < fake.events.index("end 0")
    assert firsts(found) == [10, 20, 30]


def test_what_the_source_raises_comes_after_what_was_whole() -> None:
    def broken() -> Iterator[Chunk]:
        yield from chunks(3)
        raise InputError("image 30 cannot be read")

    one, fake = with_fake()
    assert taken_until(InputError, one.run(broken())) == [0, 10, 20]
    assert fake.events[-1] == "remove"


def test_a_chunk_that_fails_ends_it() -> None:
    one, fake = with_fake(fail_at=20)
    closed: list[str] = []
    assert taken_until(MaceRunOutputError, one.run(chunks(9, closed))) == [0, 10]
    assert fake.events[-1] == "remove"
    assert not fake.left
    assert closed == ["closed"]
    assert "send 60" not in fake.events


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
def test_broken_off_it_cleans_up(kind: type[BaseException]) -> None:
    one, fake = with_fake()
    closed: list[str] = []
    found = one.run(chunks(9, closed))
    assert next(found).first == 0
    with pytest.raises(kind):
        found.throw(kind())  # type: ignore[attr-defined]
    assert fake.events[-1] == "remove"
    assert "close 10" in fake.events or "start 10" not in fake.events
    assert closed == ["closed"]
    assert not fake.left
