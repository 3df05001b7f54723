"""ImageNet's validation set: numbers, synsets, ground truth and blacklist."""

from __future__ import annotations

from pathlib import Path

import pytest

from droidmace.errors import InputError
from droidmace.validation.sources.image_folder import ImageFolderSource, open_image_folder
from droidmace.validation.sources.imagenet import image_number
from tests.validation.labelled_files import noise, write_images, write_text

# The kit's numbers are not in the order of synsets' names.
SYNSETS = ("n02119789 kit fox", "n01440764 tench", "n02100735 setter")
SORTED = ("n01440764 tench", "n02100735 setter", "n02119789 kit fox")


def name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "val", {name(n): noise(8, 8, 3, seed=n) for n in range(1, 6)})


def labels_of(source: ImageFolderSource) -> list[int | None]:
    return [sample.label for sample in source.read(0, source.count)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (name(1), 1),
        ("n01440764/" + name(50_000), 50_000),
        ("ILSVRC2012_val_1.JPEG", None),
        ("xILSVRC2012_val_00000001.JPEG", None),
        ("ILSVRC2012_val_00000001.txt", None),
    ],
)
def test_numbers_of_images(text: str, number: int | None) -> None:
    assert image_number(text) == number


def test_ground_truth_counts_from_one(folder: Path, tmp_path: Path) -> None:
    truth = write_text(tmp_path / "truth", "3", "1", "2", "1", "3", "2")
    assert labels_of(open_image_folder(folder, labels=truth)) == [2, 0, 1, 0, 2]
    # A net with a class 0 of its own.
    assert labels_of(open_image_folder(folder, labels=truth, label_offset=1)) == [3, 1, 2, 1, 3]


def test_numbers_become_the_classes_of_the_net(folder: Path, tmp_path: Path) -> None:
    truth = write_text(tmp_path / "truth", "3", "1", "2", "1", "3")
    synset = write_text(tmp_path / "synset", *SYNSETS)
    by_kit = open_image_folder(folder, labels=truth, synset=synset)
    assert labels_of(by_kit) == [2, 0, 1, 0, 2]
    assert by_kit.classes == tuple(line.split()[0] for line in SYNSETS)
    classes = write_text(tmp_path / "classes", *SORTED)
    by_net = open_image_folder(folder, labels=truth, synset=synset, classes=classes)
    assert labels_of(by_net) == [1, 2, 0, 2, 1]
    assert by_net.classes == SORTED
    names = write_text(tmp_path / "names", "background", "kit fox", "tench", "setter")
    only_named = open_image_folder(
        folder, labels=truth, synset=synset, classes=names, label_offset=1
    )
    assert labels_of(only_named) == [3, 1, 2, 1, 3]


def test_ground_truth_of_synsets_and_of_names(folder: Path, tmp_path: Path) -> None:
    """As TensorFlow's list of synsets, and as MACE's example plugin has it."""
    classes = write_text(tmp_path / "classes", "background", *SORTED)
    words = ["n02100735", "n02119789", "n01440764", "n01440764", "n02100735"]
    truth = write_text(tmp_path / "truth", *words)
    assert labels_of(open_image_folder(folder, labels=truth, classes=classes)) == [2, 3, 1, 1, 2]
    full = write_text(tmp_path / "truth", *(["n01440764 tench"] * 5))
    assert labels_of(open_image_folder(folder, labels=full, classes=classes)) == [1] * 5
    short = write_text(tmp_path / "synset", *SYNSETS)
    truth = write_text(tmp_path / "truth", *words)
    assert labels_of(open_image_folder(folder, labels=truth, synset=short)) == [2, 0, 1, 1, 2]


def test_folders_named_by_synsets(tmp_path: Path) -> None:
    images = {
        f"n02119789/{name(1)}": noise(4, 4),
        f"n01440764/{name(2)}": noise(4, 4),
        f"n01440764/{name(3)}": noise(4, 4),
    }
    folder = write_images(tmp_path / "val", images)
    assert labels_of(open_image_folder(folder)) == [0, 0, 1]
    classes = write_text(tmp_path / "classes", *SORTED)
    blacklist = write_text(tmp_path / "blacklist", "2")
    source = open_image_folder(folder, classes=classes, blacklist=blacklist)
    assert labels_of(source) == [0, 2]


def test_the_blacklist_is_of_numbers(folder: Path, tmp_path: Path) -> None:
    truth = write_text(tmp_path / "truth", "3", "1", "2", "1", "3")
    blacklist = write_text(tmp_path / "blacklist", "2", "5", "49999")
    source = open_image_folder(folder, labels=truth, blacklist=blacklist)
    assert [sample.name for sample in source.read(0, 3)] == [name(1), name(3), name(4)]
    assert labels_of(source) == [2, 1, 0]
    assert source.excluded == 2


def test_caffes_list_counts_from_zero(folder: Path, tmp_path: Path) -> None:
    lines = [f"{name(n)} {n * 100}" for n in range(1, 6)]
    truth = write_text(tmp_path / "val.txt", *lines)
    assert labels_of(open_image_folder(folder, labels=truth)) == [100, 200, 300, 400, 500]


@pytest.mark.parametrize(
    ("truth", "synset", "complaint"),
    [
        (["1", "2", "3", "1"], None, r"truth: holds 4 labels, but none for .*00000005\.JPEG"),
        (["1", "0", "2", "1", "1"], None, "truth:2: unknown class 0"),
        (["1", "4", "2", "1", "1"], SYNSETS, "truth:2: unknown class 4"),
        (["n01440764"] * 4 + ["n99999999"], SYNSETS, "truth:5: unknown class 'n99999999'"),
        (["1"] * 5, (*SYNSETS, SYNSETS[0]), "synset:4: n02119789 stands in line 1 as well"),
        (["1"] * 5, ("",), "synset: names no synset"),
    ],
)
def test_lists_that_do_not_fit(
    folder: Path, tmp_path: Path, truth: list[str], synset: tuple[str, ...] | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        open_image_folder(
            folder,
            labels=write_text(tmp_path / "truth", *truth),
            synset=write_text(tmp_path / "synset", *synset) if synset else None,
        )
