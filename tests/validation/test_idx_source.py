"""IDX images with labels, streamed."""

from __future__ import annotations

import gzip
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from droidmace.errors import FormatError, InputError
from droidmace.validation.labels import ClassNames, Labels, read_labels
from droidmace.validation.pipeline import prepared
from droidmace.validation.preprocess import Preprocess
from droidmace.validation.sources.idx import IdxSource
from tests.validation.labelled_files import AnInput, noise, write_idx, write_text

IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([7, 0, 9], dtype=np.uint8)


def labels(path: Path) -> Labels:
    return read_labels(path, ClassNames())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return (
        write_idx(tmp_path / "images.gz", IMAGES),
        write_idx(tmp_path / "labels", LABELS),
    )


@pytest.mark.parametrize("suffix", [".idx", ".gz"])
def test_any_range_is_read_in_any_order(tmp_path: Path, suffix: str) -> None:
    images = noise(50, 3, 5)
    source = IdxSource(write_idx(tmp_path / f"i{suffix}", images))
    for begin, end in [(0, 50), (49, 50), (10, 12), (12, 40), (5, 5), (0, 1)]:
        found = [sample.pixels for sample in source.read(begin, end)]
        assert len(found) == end - begin
        for pixels, expected in zip(found, images[begin:end], strict=True):
            assert pixels is not None
            np.testing.assert_array_equal(pixels[..., 0], expected)


def test_labels_and_names(files: tuple[Path, Path]) -> None:
    source = IdxSource(files[0], labels(files[1]), ("t-shirt",) * 10)
    assert source.count == 3
    assert source.classes[0] == "t-shirt"
    assert [(sample.name, sample.label) for sample in source.read(1, 3)] == [
        ("images.gz[1]", 0),
        ("images.gz[2]", 9),
    ]
    assert [sample.label for sample in IdxSource(files[0]).read(0, 3)] == [None] * 3


def test_colour_images(tmp_path: Path) -> None:
    images = noise(2, 3, 4, 3)
    source = IdxSource(write_idx(tmp_path / "i", images))
    first, _ = source.read(0, 2)
    np.testing.assert_array_equal(first.pixels, images[0])


def test_values_in_both_layouts(files: tuple[Path, Path]) -> None:
    source = IdxSource(files[0], labels(files[1]))
    recipe = Preprocess(mean=(2.0,), scale=(4.0,))
    for layout, shape in (("NCHW", (1, 1, 2, 4)), ("NHWC", (1, 2, 4, 1))):
        tensor = AnInput(shape, data_format=layout)
        samples = list(prepared(source, recipe, [tensor], 0, 3))
        values = samples[1].inputs["image"]
        assert values.shape == shape
        assert values.dtype == np.float32
        assert values.ravel().tolist()[:4] == [1.5, 1.75, 2.0, 2.25]
        assert [(sample.index, sample.label) for sample in samples] == [(0, 7), (1, 0), (2, 9)]


@pytest.mark.parametrize(
    ("images", "found", "complaint"),
    [
        (IMAGES, LABELS[:2], "labels: holds 2 labels for 3 images"),
        (IMAGES, np.array([7, 0, 9, 9], np.uint8), "labels: holds 4 labels for 3 images"),
        (LABELS, LABELS, "images.gz: holds uint8"),
        (noise(2, 2, 2, 2), LABELS, "instead of uint8 images"),
        (IMAGES.astype(np.float32), LABELS, "instead of uint8 images"),
        (IMAGES, IMAGES, "instead of one integer label"),
        (IMAGES, LABELS.astype(np.float32), "instead of one integer label"),
        (IMAGES, np.array([7, 0, -9], np.int32), "label 2: unknown class -9"),
        (IMAGES[:0], LABELS[:0], "holds no image"),
        (IMAGES[:, :0], LABELS, "instead of uint8 images"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, images: np.ndarray, found: np.ndarray, complaint: str
) -> None:
    pixels = write_idx(tmp_path / "images.gz", images)
    classes = write_idx(tmp_path / "labels", found)
    with pytest.raises(InputError, match=complaint) as caught:
        IdxSource(pixels, labels(classes))
    assert caught.value.hint


def test_labels_of_classes_that_are_known(files: tuple[Path, Path], tmp_path: Path) -> None:
    nine = ClassNames.read(write_text(tmp_path / "classes", *"abcdefghi"))
    with pytest.raises(InputError, match="labels: label 2: unknown class 9"):
        read_labels(files[1], nine)
    shifted = ClassNames.read(write_text(tmp_path / "classes", *"abcdefghijk"), 1)
    assert read_labels(files[1], shifted).values == (8, 1, 10)


def test_the_identity_is_that_of_pixels_and_labels(tmp_path: Path) -> None:
    packed = write_idx(tmp_path / "a.gz", IMAGES)
    plain = write_idx(tmp_path / "a", IMAGES)
    changed = write_idx(tmp_path / "b", IMAGES + 1)
    some = Labels((1, 2, 3), packed)
    other = Labels((1, 2, 4), packed)
    assert IdxSource(packed, some).identity == IdxSource(plain, some).identity
    kinds = [IdxSource(plain), IdxSource(changed), IdxSource(plain, some), IdxSource(plain, other)]
    assert len({source.identity for source in kinds}) == 4


@pytest.mark.parametrize("cut", [15, -4])
def test_a_file_that_is_cut_is_refused_before_it_is_used(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(write_idx(tmp_path / "y.gz", IMAGES).read_bytes()[:cut])
    with pytest.raises(FormatError, match="x: damaged gzip"):
        IdxSource(path)


def test_of_another_kind_of_file_it_is_told_how_to_give_it(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(FormatError, match="not an IDX file") as caught:
        IdxSource(picture)
    assert "as a folder" in str(caught.value.hint)


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = write_idx(tmp_path / "x", IMAGES)
    source = IdxSource(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="x: it changed while it was read"):
        list(source.read(0, 3))


def test_memory_does_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    """240 MiB of images, through a process that may have 150 MiB of memory of its own."""
    header = struct.pack(">HBB3I", 0, 8, 3, 60, 2048, 2048)
    with gzip.open(tmp_path / "images.gz", "wb", compresslevel=1) as stream:
        stream.write(header)
        for _ in range(60):
            stream.write(bytes(2048 * 2048))
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from droidmace.validation.sources.idx import IdxSource\n"
        "source = IdxSource(Path(sys.argv[1]))\n"
        "print(sum(sample.pixels.size for sample in source.read(0, source.count)))\n"
    )

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "images.gz")],
        preexec_fn=small,
        env={"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(60 << 22)), done.stderr
