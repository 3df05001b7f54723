"""Samples prepared in order, by any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.errors import FormatError, InputError
from droidmace.validation.pipeline import prepared
from droidmace.validation.preprocess import Preprocess, Resize
from droidmace.validation.samples import RawSample, Sample, Tensor
from tests.validation.labelled_files import AnInput, noise

RESIZED = Preprocess(resize=Resize((4, 4), "nearest"))


@dataclass
class Images:
    """Images of changing sizes, whose first pixel is their number."""

    count: int = 40
    many_readers: bool = True
    broken: int = -1
    short: bool = False
    classes: tuple[str, ...] = ()
    identity: str = "x"
    begun: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        for index in range(begin, end - self.short):
            with self.lock:
                self.begun += 1
            if index == self.broken:
                raise FormatError("broken", where=f"image {index}")
            side = 4 + 4 * (index // 3 % 2)
            yield RawSample(str(index), index, np.full((side, side, 1), index % 256, np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 4), st.booleans())
def test_samples_come_in_order(one: int, other: int, workers: int, many_readers: bool) -> None:
    begin, end = sorted((one, other))
    source = Images(300, many_readers)
    found = list(prepared(source, RESIZED, [AnInput()], begin, end, workers=workers))
    assert [sample.index for sample in found] == list(range(begin, end))
    for sample in found:
        assert sample.name == str(sample.index)
        assert sample.label == sample.index
        assert sample.inputs["image"].shape == (1, 1, 4, 4)
        assert set(sample.inputs["image"].ravel()) == {sample.index % 256}


@pytest.mark.parametrize("many_readers", [True, False])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_in_its_place(many_readers: bool, workers: int) -> None:
    samples = prepared(
        Images(200, many_readers, broken=150), RESIZED, [AnInput()], 0, 200, workers=workers
    )
    found: list[Sample] = []
    with pytest.raises(FormatError, match="image 150: broken"):
        found.extend(samples)
    assert [sample.index for sample in found] == list(range(len(found)))
    assert len(found) <= 150
    assert threading.active_count() == 1


def test_little_is_read_ahead_and_threads_end() -> None:
    source = Images(100_000)
    samples = prepared(source, RESIZED, [AnInput()], 0, 100_000, workers=2)
    next(samples)
    samples.close()  # type: ignore[attr-defined]
    assert source.begun <= 16 * 4
    assert threading.active_count() == 1


@pytest.mark.parametrize("many_readers", [True, False])
def test_fewer_samples_than_were_asked_for(many_readers: bool) -> None:
    source = Images(10, many_readers, short=True)
    with pytest.raises(InputError, match="gave 9 of the samples 0 to 10"):
        list(prepared(source, RESIZED, [AnInput()], 0, 10))
    with pytest.raises(InputError, match="there are 10"):
        prepared(source, RESIZED, [AnInput()], 0, 11)


def test_an_image_of_a_wrong_size_is_named() -> None:
    with pytest.raises(InputError, match=r"^3: an image of 8x8 makes"):
        list(prepared(Images(), Preprocess(), [AnInput()], 0, 40))


def test_an_image_is_no_two_inputs() -> None:
    with pytest.raises(InputError, match="0: .*the model has 2"):
        list(prepared(Images(), RESIZED, [AnInput(), AnInput(name="b")], 0, 1))


@dataclass
class Ready:
    """Samples that are inputs already."""

    tensors: dict[str, Tensor]
    count: int = 1
    many_readers: bool = False
    classes: tuple[str, ...] = ()
    identity: str = "x"

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        for index in range(begin, end):
            yield RawSample(f"s{index}", None, tensors=self.tensors)


def test_inputs_that_are_ready_get_the_models_types() -> None:
    tensors = [AnInput(), AnInput((1, 2), name="ids", data_type="int32", data_format="NONE")]
    given_ = {"image": noise(1, 1, 4, 4), "ids": np.array([[1, 2]], np.int64)}
    (sample,) = prepared(Ready(given_), Preprocess(), tensors, 0, 1)
    assert sample.inputs["image"].dtype == np.float32
    assert sample.inputs["ids"].dtype == np.int32
    assert sample.inputs["ids"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("given_", "complaint"),
    [
        ({}, r"s0: the inputs \[\] were given"),
        ({"other": noise(1, 1, 4, 4)}, r"\['other'\] were given, the model has \['image'\]"),
        ({"image": noise(1, 4, 4, 1)}, r"s0: input 'image' has shape \[1, 4, 4, 1\]"),
    ],
)
def test_ready_inputs_that_do_not_fit(given_: dict[str, Tensor], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        list(prepared(Ready(given_), Preprocess(), [AnInput()], 0, 1))


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        (np.array([[1.0, 2.5]]), r"s0: input 'ids': 2\.5 is no int32"),
        (np.array([[1, 1 << 40]]), "'ids': 1099511627776 is no int32"),
        (np.array([[0.0, np.nan]]), "'ids': nan is no int32"),
        (np.array([[1, 2j]]), "'ids': complex128 is not a real number"),
    ],
)
def test_values_do_not_become_others_without_a_word(ids: Tensor, complaint: str) -> None:
    tensor = AnInput((1, 2), name="ids", data_type="int32", data_format="NONE")
    with pytest.raises(InputError, match=complaint):
        list(prepared(Ready({"ids": ids}), Preprocess(), [tensor], 0, 1))


@pytest.mark.filterwarnings("error")
def test_a_sample_knows_whether_its_inputs_are_finite() -> None:
    image = noise(1, 1, 4, 4).astype(np.float64)
    # The last is a number, but none of float32.
    for value, finite in [(3.0, True), (np.nan, False), (-np.inf, False), (1e300, False)]:
        image[0, 0, 1, 1] = value
        (sample,) = prepared(Ready({"image": image}), Preprocess(), [AnInput()], 0, 1)  # type: ignore[dict-item]
        assert sample.finite is finite
