"""Samples on their way to the phone and outputs on the way back, in any chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from droidmace.errors import ModelError
from droidmace.validation.classification import ClassTally
from droidmace.validation.samples import Sample
from droidmace.validation.similarity import SimilarityTally
from droidmace.workflows.validate_feed import Feed

COUNT = 11
IMAGES = np.arange(COUNT * 4, dtype=np.float32).reshape(COUNT, 1, 2, 2)
IDS = np.arange(COUNT * 3, dtype=np.int32).reshape(COUNT, 3)
LABELS = np.arange(COUNT) % 3


def read(begin: int, end: int) -> Iterator[Sample]:
    for index in range(begin, end):
        label = None if index == 4 else int(LABELS[index])
        # One input has a batch dimension, the other none.
        yield Sample(index, str(index), label, {"image": IMAGES[index][None], "ids": IDS[index]})


def outputs_of(first: int, count: int) -> dict[str, NDArray[np.float32]]:
    values = np.zeros((count, 3), np.float32)
    values[np.arange(count), LABELS[first : first + count]] = 1
    return {"classes": values}


class Doubling:
    """A reference that notes what it is given."""

    identity = "doubling"
    description = "twice"

    def __init__(self) -> None:
        self.seen: dict[int, Mapping[str, NDArray[Any]]] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]], *, first: int = 0) -> Any:
        self.seen[first] = inputs
        found = outputs_of(first, len(inputs["image"]))
        if first <= 6 < first + len(inputs["image"]):
            found["classes"][6 - first] += 0.4
        return found


@pytest.mark.parametrize("size", [1, 3, 4, COUNT, 100])
def test_every_sample_is_a_file_once_and_a_label_once(size: int, tmp_path: Path) -> None:
    reference, classes = Doubling(), ClassTally(3)
    tally = {"classes": SimilarityTally("classes")}
    files: list[tuple[int, bytes, bytes]] = []
    with Feed(read, reference, classes, tally, tmp_path) as feed:
        for chunk in feed.chunks([range(2), range(2, COUNT)], lambda _: size):
            assert 1 <= len(chunk.inputs) <= size
            for place, one in enumerate(chunk.inputs):
                files.append((chunk.first + place, one["image"], one["ids"]))
            feed.take(chunk.first, outputs_of(chunk.first, len(chunk.inputs)))
    assert files == [(i, IMAGES[i].tobytes(), IDS[i].tobytes()) for i in range(COUNT)]
    found = classes.result()
    assert (found.samples, found.labelled) == (COUNT, COUNT - 1)
    assert found.phone is not None
    assert found.phone.top1.count == COUNT - 1
    assert found.agreement is not None
    assert found.agreement.count == COUNT
    assert tally["classes"].result().samples == COUNT
    assert feed.worst_names == {"classes": "6"}
    given = np.concatenate([inputs["ids"] for _, inputs in sorted(reference.seen.items())])
    np.testing.assert_array_equal(given, IDS)


def test_what_is_known_is_tallied_without_a_phone(tmp_path: Path) -> None:
    classes = ClassTally(3)
    with Feed(read, None, classes, {}, tmp_path) as feed:
        feed.known(0, COUNT)
        feed.take(0, outputs_of(0, COUNT))
    assert classes.result().samples == COUNT


def test_a_reference_that_fails_is_heard_of_when_the_outputs_come(tmp_path: Path) -> None:
    class Broken(Doubling):
        def run(self, inputs: Mapping[str, NDArray[Any]], *, first: int = 0) -> Any:
            raise ModelError("does not run")

    with Feed(read, Broken(), None, {}, tmp_path) as feed:
        (chunk,) = feed.chunks([range(2)], lambda _: 5)
        with pytest.raises(ModelError, match="does not run"):
            feed.take(chunk.first, outputs_of(0, 2))


def test_the_inputs_of_a_chunk_are_a_sequence(tmp_path: Path) -> None:
    with Feed(read, None, None, {}, tmp_path) as feed:
        (chunk,) = feed.chunks([range(3)], lambda _: 5)
        assert [one["ids"] for one in chunk.inputs[1:]] == [IDS[1].tobytes(), IDS[2].tobytes()]
        assert chunk.inputs[-1]["ids"] == IDS[2].tobytes()
        with pytest.raises(IndexError):
            chunk.inputs[3]


def test_samples_with_nan_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    def spoilt(begin: int, end: int) -> Iterator[Sample]:
        for sample in read(begin, end):
            image = sample.inputs["image"].astype(np.float32)
            image[..., 0] = np.nan if sample.index in {6, 8} else 0.0
            yield Sample(sample.index, sample.name, None, {**sample.inputs, "image": image})

    with Feed(spoilt, None, None, {}, tmp_path) as feed:
        feed.known(0, 5)
        assert (feed.not_finite, feed.first_not_finite) == (0, "")
        for _ in feed.chunks([range(5, COUNT)], lambda _: 2):
            pass
        assert (feed.not_finite, feed.first_not_finite) == (2, "6")


def test_a_chunk_s_size_is_asked_for_with_what_is_still_to_be_sent(tmp_path: Path) -> None:
    asked: list[int] = []

    def size(left: int) -> int:
        asked.append(left)
        return 2

    with Feed(read, None, None, {}, tmp_path) as feed:
        for chunk in feed.chunks([range(1), range(4, COUNT)], size):
            feed.take(chunk.first, {})
    assert asked == [1 + COUNT - 4, *range(COUNT - 4, 0, -2)]
