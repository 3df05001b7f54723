"""Folders of images: real PNG and JPEG files, labels of every kind, and what can be wrong."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from droidmace.errors import FormatError, InputError, MissingExtraError
from droidmace.validation.image_file import read_image
from droidmace.validation.labels import ClassNames, read_labels
from droidmace.validation.pipeline import prepared
from droidmace.validation.preprocess import Crop, Preprocess, Resize
from droidmace.validation.sources.image_folder import ImageFolderSource, open_image_folder
from tests.validation.labelled_files import AnInput, noise, write_images, write_text

PIXELS = {name: noise(6, 8, 3, seed=seed) for seed, name in enumerate(("a.png", "b.png", "c.png"))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", PIXELS)


def labels_of(source: ImageFolderSource) -> dict[str, int | None]:
    return {sample.name: sample.label for sample in source.read(0, source.count)}


def test_pixels_are_the_files(folder: Path) -> None:
    source = open_image_folder(folder)
    assert source.count == 3
    for sample in source.read(0, 3):
        assert sample.label is None
        np.testing.assert_array_equal(sample.pixels, PIXELS[sample.name])


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("labels.txt", ["c.png 0", "a.png 2", "b.png 1"]),
        ("labels.txt", ["./c.png\tcat", "a.png\tgrey wolf", "b.png\tdog"]),
        ("labels.txt", ["2", "1", "0"]),
        ("labels.txt", ["grey wolf", "dog", "cat"]),
        ("labels.csv", ["file,label", "c.png,cat", "", "a.png, grey wolf", '"b.png",1']),
    ],
)
def test_labels_by_name_and_in_order(
    folder: Path, tmp_path: Path, name: str, lines: list[str]
) -> None:
    classes = write_text(tmp_path / "classes.txt", "cat", "dog", "grey wolf")
    source = open_image_folder(folder, labels=write_text(tmp_path / name, *lines), classes=classes)
    assert labels_of(source) == {"a.png": 2, "b.png": 1, "c.png": 0}
    assert source.classes == ("cat", "dog", "grey wolf")


def test_folders_are_classes(tmp_path: Path) -> None:
    images = {f"{kind}/{n}.png": noise(4, 4) for kind in ("dog", "cat") for n in range(2)}
    source = open_image_folder(write_images(tmp_path, images))
    assert source.classes == ("cat", "dog")
    assert labels_of(source) == {"cat/0.png": 0, "cat/1.png": 0, "dog/0.png": 1, "dog/1.png": 1}
    classes = write_text(tmp_path / "classes.txt", "background", "dog", "cat")
    assert labels_of(open_image_folder(tmp_path, classes=classes))["cat/0.png"] == 2
    shifted = open_image_folder(tmp_path, label_offset=1)
    assert labels_of(shifted)["cat/0.png"] == 1
    assert shifted.classes[1:] == ("cat", "dog")


def test_the_blacklist_is_told_and_not_counted(folder: Path, tmp_path: Path) -> None:
    labels = write_text(tmp_path / "labels", "a.png 1", "b.png 2", "c.png 3")
    blacklist = write_text(tmp_path / "blacklist", "b.png")
    source = open_image_folder(folder, labels=labels, blacklist=blacklist)
    assert labels_of(source) == {"a.png": 1, "c.png": 3}
    assert source.excluded == 1
    in_order = write_text(tmp_path / "in_order", "5", "6", "7")
    source = open_image_folder(folder, labels=in_order, blacklist=blacklist)
    assert labels_of(source) == {"a.png": 5, "c.png": 7}


def test_the_identity_changes_with_images_and_labels(folder: Path, tmp_path: Path) -> None:
    labels = write_text(tmp_path / "labels", "a.png 1", "b.png 2", "c.png 3")
    found = [open_image_folder(folder).identity, open_image_folder(folder, labels=labels).identity]
    write_text(labels, "a.png 1", "b.png 2", "c.png 4")
    found.append(open_image_folder(folder, labels=labels).identity)
    write_images(folder, {"c.png": noise(5, 5)})
    found.append(open_image_folder(folder, labels=labels).identity)
    assert len(set(found)) == 4
    assert open_image_folder(folder, labels=labels).identity == found[-1]


def test_kinds_of_pixels(tmp_path: Path) -> None:
    colour, gray = noise(5, 7, 3), noise(5, 7)
    whole = Image.fromarray(colour)
    whole.convert("RGBA").save(tmp_path / "alpha.png")
    palette = Image.fromarray(gray % 4, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 128, 255, 255]))
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray > 127).save(tmp_path / "bits.png")
    whole.convert("CMYK").save(tmp_path / "cmyk.jpeg")
    Image.fromarray(gray).save(tmp_path / "gray.JPEG", quality=90)
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), colour)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png")[..., 0], gray)
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 0], (gray > 127) * 255)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), colours[gray % 4])
    assert read_image(tmp_path / "cmyk.jpeg").shape == (5, 7, 3)
    assert read_image(tmp_path / "gray.JPEG").shape == (5, 7, 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_photographs_become_inputs(tmp_path: Path, workers: int) -> None:
    """As torchvision's Resize, CenterCrop and Normalize do it, in words of MACE's layout."""
    images = {f"{n:02}.JPEG": noise(40 + n, 60 - n, 3, seed=n) for n in range(20)}
    source = open_image_folder(write_images(tmp_path, images))
    recipe = Preprocess(
        resize=Resize((32, 32), "bilinear", shorter=True),
        crop=Crop((28, 28)),
        mean=(123.675, 116.28, 103.53),
        scale=(58.395, 57.12, 57.375),
    )
    tensor = AnInput((1, 28, 28, 3), data_format="NHWC")
    found = list(prepared(source, recipe, [tensor], 0, 20, workers=workers))
    assert [sample.name for sample in found] == sorted(images)
    from droidmace.validation.resample import resample

    for sample in found:
        pixels = np.asarray(Image.open(tmp_path / sample.name))
        height, width = pixels.shape[:2]
        small = min(height, width)
        size = (32 * height // small, 32 * width // small)
        resized = resample(pixels[None], size, "bilinear")[0]
        top, left = (round((side - 28) / 2) for side in size)
        cropped = resized[top : top + 28, left : left + 28].astype(np.float32)
        expected = (cropped - np.float32(recipe.mean)) / np.float32(recipe.scale)
        np.testing.assert_array_equal(sample.inputs["image"][0], expected)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header says so; its pixels are missing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not an image"),
        (b"<html>404</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"GIF89a" + bytes(30), "not an image"),
        (png_of_size(10_000, 10_000), "10000x10000 is too large|too large for an image"),
        (png_of_size(60_000, 60_000), "too large for an image"),
        (png_of_size(7000, 8000), "7000x8000 is too large"),
        (png_of_size(10, 10), "cannot be read as an image"),
    ],
)
def test_files_that_are_no_images(folder: Path, content: bytes, complaint: str) -> None:
    (folder / "b.png").write_bytes(content)
    source = open_image_folder(folder)
    with pytest.raises(FormatError, match=rf"b\.png: .*({complaint})") as caught:
        list(prepared(source, Preprocess(), [AnInput((1, 3, 6, 8))], 0, 3))
    assert caught.value.hint


def test_sixteen_bits_are_not_cut_to_eight(tmp_path: Path) -> None:
    Image.fromarray(noise(4, 4).astype(np.uint16) * 257).save(tmp_path / "x.png")
    with pytest.raises(FormatError, match=r"x\.png: its pixels .* have not 8 bits"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpeg"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 0.999), junk=st.binary(max_size=20), cut=st.booleans())
def test_a_damaged_image_is_read_or_refused(
    tmp_path: Path, suffix: str, place: float, junk: bytes, cut: bool
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(noise(16, 16, 3)).save(path)
    good = path.read_bytes()
    at = int(place * len(good))
    path.write_bytes(good[:at] + junk + (b"" if cut else good[at + len(junk) :]))
    try:
        pixels = read_image(path)
    except FormatError as error:
        assert error.where == str(path)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] in (1, 3)


def test_a_wrong_size_names_the_image(folder: Path) -> None:
    write_images(folder, {"b.png": noise(7, 8, 3)})
    samples = prepared(open_image_folder(folder), Preprocess(), [AnInput((1, 3, 6, 8))], 0, 3)
    with pytest.raises(InputError, match=r"^b\.png: an image of 8x7 makes"):
        list(samples)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["a.png 1", "b.png 2"], "labels.txt: holds 2 labels for 3 images; .* without: c.png"),
        (["1", "2"], "labels.txt: holds 2 labels for 3 images"),
        (["1", "2", "3", "4"], "labels.txt: holds 4 labels for 3 images"),
        (["a.png 1", "b.png 2", "c.png wolf"], "labels.txt:3: unknown class 'wolf'"),
        (["a.png 1", "b.png -2", "c.png 1"], "labels.txt:2: unknown class -2"),
        (["a.png 1", "b.png", "c.png 1"], "labels.txt:2: unknown class ''"),
        (["a.png 1", "b.png 1", "", "d.png 1"], "labels.txt:4: there is no image 'd.png'"),
        (["a.png 1", "a.png 1"], "labels.txt:2: 'a.png' stands there twice"),
        (["a.png 1", "../b.png 1"], "labels.txt:2: '../b.png' does not name a file in"),
        (["/etc/x.png 1"], "labels.txt:1: '/etc/x.png' does not name"),
        (["a.png 1", "x/../../b.png 1"], "labels.txt:2: .* does not name"),
        (["a.png 1", "b\0.png 1"], "labels.txt:2: .* does not name"),
        ([], "labels.txt: holds 0 labels for 3 images"),
    ],
)
def test_labels_that_do_not_fit(
    folder: Path, tmp_path: Path, lines: list[str], complaint: str
) -> None:
    labels = write_text(tmp_path / "labels.txt", *lines)
    with pytest.raises(InputError, match=complaint):
        open_image_folder(folder, labels=labels)


def test_classes_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    labels = write_text(tmp_path / "labels", "crane", "maillot", "dog")
    with pytest.raises(InputError, match="classes: names no class"):
        open_image_folder(folder, labels=labels, classes=write_text(tmp_path / "classes", ""))
    twice = write_text(tmp_path / "classes", "maillot", "crane", "dog", "crane")
    with pytest.raises(InputError, match="labels:1: class 'crane' stands for several"):
        open_image_folder(folder, labels=labels, classes=twice)
    (tmp_path / "latin").write_bytes("chaîne\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin: is not a text in UTF-8 \(byte 3\)"):
        open_image_folder(folder, labels=labels, classes=tmp_path / "latin")
    with pytest.raises(InputError, match="nowhere: cannot be read: No such file"):
        open_image_folder(folder, labels=tmp_path / "nowhere")


def test_an_unknown_folder_and_images_beside_folders(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat/1.png": noise(4, 4), "emu/1.png": noise(4, 4)})
    classes = write_text(tmp_path / "classes.txt", "cat", "dog")
    with pytest.raises(InputError, match="emu: unknown class 'emu'"):
        open_image_folder(tmp_path, classes=classes)
    write_images(tmp_path, {"one.png": noise(4, 4)})
    with pytest.raises(InputError, match="one.png: has images both in folders and beside"):
        open_image_folder(tmp_path)


def test_no_images(tmp_path: Path, folder: Path) -> None:
    write_text(tmp_path / "readme.txt", "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no image$"):
        open_image_folder(tmp_path / "empty")
    all_of_them = write_text(tmp_path / "blacklist", *PIXELS)
    with pytest.raises(InputError, match="holds no image but the 3 of the blacklist"):
        open_image_folder(folder, blacklist=all_of_them)
    with pytest.raises(InputError, match="cannot be listed: No such file"):
        open_image_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="blacklist:1: there is no image 'x.png'"):
        open_image_folder(folder, blacklist=write_text(tmp_path / "blacklist", "x.png"))


def test_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (folder / "d.png").symlink_to("a.png")
    assert open_image_folder(tmp_path / "link").count == 4
    outside = write_images(tmp_path, {"secret.png": noise(4, 4)}) / "secret.png"
    (folder / "e.png").symlink_to(outside)
    with pytest.raises(InputError, match=r"e\.png: is a link that leads out"):
        open_image_folder(folder)
    (folder / "e.png").unlink()
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(InputError, match="more: is a link to a folder"):
        open_image_folder(folder)
    (folder / "more").unlink()
    (folder / "f.png").symlink_to("f.png")
    with pytest.raises(InputError, match="f.png"):
        open_image_folder(folder)


def test_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "p.png")
    with pytest.raises(InputError, match=r"p\.png: is no file"):
        open_image_folder(folder)


def test_a_name_that_no_text_can_hold(folder: Path) -> None:
    (folder / "b.png").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    with pytest.raises(InputError, match="is not UTF-8") as caught:
        open_image_folder(folder)
    assert caught.value.where == f"{folder}/caf\\xe9.png"


def test_an_image_that_goes_away_is_an_error(folder: Path) -> None:
    source = open_image_folder(folder)
    (folder / "b.png").unlink()
    with pytest.raises(FormatError, match=r"b\.png: cannot be read .*No such file"):
        list(source.read(0, 3))


def test_without_pillow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="reading images needs") as caught:
        open_image_folder(folder)
    assert caught.value.hint == "pip install 'droidmace[images]'"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=12), max_size=8))
def test_any_text_is_labels_or_refused(tmp_path: Path, lines: list[Any]) -> None:
    path = tmp_path / "labels"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    try:
        labels = read_labels(path, ClassNames(("cat", "dog")))
    except InputError as error:
        assert error.where is not None
        assert error.where.startswith(str(path))
    else:
        assert set(labels.values) <= {0, 1}
