"""Bundles written, read back, damaged, interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace import __version__
from droidmace.bundle.manifest import DeviceRecord, FileRecord, Manifest, is_extra_name
from droidmace.bundle.reader import read_bundle
from droidmace.bundle.writer import (
    REQUIRED_RESULTS,
    BundlePaths,
    Provenance,
    artefact_name,
    check_place,
    name_part,
    write_bundle,
)
from droidmace.errors import FormatError, InputError
from droidmace.results import DeviceInfo, Verdict

GRAPH = FileRecord("m.pb", "a" * 64, 10)
PROVENANCE = Provenance(
    model_name="m",
    model_graph=GRAPH,
    model_data=dataclasses.replace(GRAPH, name="m.data"),
    binary=dataclasses.replace(GRAPH, name="mace_run"),
    mace_version="v1.1.1",
    device=DeviceRecord(
        model="SM G 991",
        device_name="SMG991",
        soc="exynos2100",
        abi="arm64-v8a",
        gpu="Mali-G78",
        platform_info="ARM Platform, FULL_PROFILE, OpenCL 2.1, v1.1.1",
        android_release="13",
    ),
)
RESULTS: dict[str, object] = dict.fromkeys(REQUIRED_RESULTS, 1) | {
    "raw": [1.5, 2.5],
    "serial": "é",
    "verdict": "ship",
}
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
PROGRAM = "m_compiled_opencl_kernel.SMG991.exynos2100.bin"
PARAMETERS = "m_tuned_opencl_parameter.SMG991.exynos2100.bin"


def write(out_dir: Path, **changes: Any) -> BundlePaths:
    settings: dict[str, Any] = {
        "provenance": PROVENANCE,
        "compiled_program": b"program",
        "tuned_parameters": b"parameters",
        "results": RESULTS,
        "created": CREATED,
    }
    return write_bundle(out_dir, **(settings | changes))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_round_trip(tmp_path: Path) -> None:
    paths = write(tmp_path / "deep" / "bundle")
    assert names(paths.folder) == {PROGRAM, PARAMETERS, "manifest.json", "results.json"}
    assert names(tmp_path / "deep") == {"bundle"}
    bundle = read_bundle(paths.folder)
    assert bundle.paths == paths == read_bundle(paths.manifest).paths
    assert paths.compiled_program is not None
    assert paths.compiled_program.read_bytes() == b"program"
    assert bundle.results == RESULTS
    manifest = bundle.manifest
    assert manifest.device == PROVENANCE.device
    assert manifest.binary.name == "mace_run"
    assert (manifest.created_utc, manifest.droidmace_version) == (
        "2026-01-02T03:04:05Z",
        __version__,
    )
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_files_are_ordinary_files(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.mkdir()
    (ordinary / "file").touch()
    folder = write(tmp_path / "bundle").folder
    assert folder.stat().st_mode == ordinary.stat().st_mode
    assert (folder / PROGRAM).stat().st_mode == (ordinary / "file").stat().st_mode


def test_what_is_not_worth_shipping_is_left_out(tmp_path: Path) -> None:
    paths = write(tmp_path / "b", compiled_program=None)
    assert names(paths.folder) == {PARAMETERS, "manifest.json", "results.json"}
    assert read_bundle(paths.folder).paths.compiled_program is None


def test_extras_are_recorded_and_verified(tmp_path: Path) -> None:
    extras = {"search_journal.jsonl.gz": b"\x1f\x8b", "best_so_far.svg": b"<svg/>", "empty": b""}
    paths = write(tmp_path / "b", extras=extras)
    bundle = read_bundle(paths.folder)
    assert {path.name: path.read_bytes() for path in bundle.paths.extras} == extras
    assert bundle.paths == paths
    assert [record.size_bytes for record in bundle.manifest.extras] == [2, 6, 0]
    assert bundle.manifest.worth_shipping == (
        bundle.manifest.compiled_program,
        bundle.manifest.tuned_parameters,
    )
    write(tmp_path / "b")  # extras are the bundle's own: they go with it
    assert read_bundle(tmp_path / "b").paths.extras == ()
    assert names(tmp_path / "b") == {PROGRAM, PARAMETERS, "manifest.json", "results.json"}


def test_a_manifest_from_before_extras_is_read(tmp_path: Path) -> None:
    paths = write(tmp_path / "b")
    document = json.loads(paths.manifest.read_text())
    del document["extras"]
    paths.manifest.write_text(json.dumps(document))
    assert read_bundle(paths.folder).manifest.extras == ()


UNFIT_NAMES = [
    "", "x", ".hidden", "-flag", "..", "../up", "a/b", "a\\b", "C:evil", "a\0b", "a\n", "a b",
    "ends.", "café", "CON", "nul.txt", "Com1.svg", "x" * 101,
]  # fmt: skip


@pytest.mark.parametrize("name", UNFIT_NAMES)
def test_extras_with_unfit_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a file"):
        write(tmp_path / "b", extras={name: b"x"})
    assert names(tmp_path) == set()
    paths = write(tmp_path / "b", extras={"good.txt": b"x"})
    document = json.loads(paths.manifest.read_text())
    document["extras"][0]["name"] = name
    with pytest.raises(FormatError, match=r"extras\[0\]\.name"):
        Manifest.from_json(json.dumps(document))


@pytest.mark.parametrize("name", ["results.json", "MANIFEST.json", PROGRAM.upper()])
def test_an_extra_takes_no_other_files_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="two files of the bundle"):
        write(tmp_path / "b", extras={name: b"x"})
    paths = write(tmp_path / "b", extras={"good.txt": b"x"})
    document = json.loads(paths.manifest.read_text())
    document["extras"][0]["name"] = name
    with pytest.raises(FormatError, match="two of its files have one name"):
        Manifest.from_json(json.dumps(document))


@given(st.text(max_size=110) | st.from_regex(r"[A-Za-z0-9._-]{1,110}", fullmatch=True))
def test_names_of_extras_are_safe(name: str) -> None:
    if not is_extra_name(name):
        return
    assert Path(name).name == name
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>| ')
    assert name[0] not in ".-"
    assert name[-1] != "."
    assert len(name) <= 100


def test_older_bundle_is_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "b")
    write(tmp_path / "b", compiled_program=None, results=RESULTS | {"samples": 7})
    assert names(tmp_path) == {"b"}
    assert names(tmp_path / "b") == {PARAMETERS, "manifest.json", "results.json"}
    assert read_bundle(tmp_path / "b").results["samples"] == 7


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    read_bundle(write(tmp_path / "b").folder)


@pytest.mark.parametrize("with_manifest", [False, True])
def test_foreign_files_are_never_lost(tmp_path: Path, with_manifest: bool) -> None:
    out = tmp_path / "documents"
    if with_manifest:
        write(out)
    else:
        out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"not a bundle's, such as 'thesis\.txt'"):
        write(out)
    assert (out / "thesis.txt").read_text() == "years of work"
    assert names(tmp_path) == {"documents"}


def test_unreadable_manifest_vouches_for_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "b").folder
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not a bundle's"):
        write(folder)
    assert len(names(folder)) == 4


def test_file_or_link_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    for name in ("file", "link"):
        with pytest.raises(InputError, match="is not a folder"):
            write(tmp_path / name)


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written") as caught:
        write(tmp_path / "file" / "b")
    assert caught.value.where == str(tmp_path / "file" / "b")


def test_failed_rename_leaves_the_older_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "b")
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(InputError, match="No space left"):
        write(tmp_path / "b", compiled_program=b"newer")
    assert names(tmp_path) == {"b"}
    assert read_bundle(tmp_path / "b").paths.compiled_program is not None
    assert (tmp_path / "b" / PROGRAM).read_bytes() == b"program"


def test_interrupt_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "b")
    assert names(tmp_path) == set()


def test_results_are_complete_and_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="results lack verdict"):
        write(tmp_path / "b", results={k: v for k, v in RESULTS.items() if k != "verdict"})
    with pytest.raises(ValueError, match="JSON compliant"):
        write(tmp_path / "b", results=RESULTS | {"samples": float("nan")})
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", [PROGRAM, PARAMETERS, "results.json", "best_so_far.svg"])
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: path.unlink(), "is missing from the bundle"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "the manifest says"),
        (lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
         "another content"),
    ],
)  # fmt: skip
def test_damage_is_found(tmp_path: Path, name: str, damage: Any, complaint: str) -> None:
    folder = write(tmp_path / "b", extras={"best_so_far.svg": b"<svg/>"}).folder
    damage(folder / name)
    with pytest.raises(FormatError, match=complaint) as caught:
        read_bundle(folder)
    assert caught.value.where == str(folder / name)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read") as caught:
        read_bundle(tmp_path)
    assert caught.value.hint is not None


def change(document: dict[str, Any], key: str, value: object) -> None:
    *folders, last = key.split(".")
    for folder in folders:
        document = document[folder]
    if value is KeyError:
        del document[last]
    else:
        document[last] = value


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("schema_version", 2, "schema_version is 2"),
        ("model_name", KeyError, "model_name is not a text"),
        ("mace_version", 3, "mace_version is not a text"),
        ("surprise", 1, "unknown key surprise"),
        ("device", [], "device is not an object"),
        ("device.soc", None, r"device\.soc is not a text"),
        ("device.extra", "", r"unknown key device\.extra"),
        ("created_utc", "yesterday", "created_utc is not a date"),
        ("created_utc", "2026-01-01T00:00:00+01:00", "not in UTC"),
        ("results.sha256", "A" * 64, r"results\.sha256"),
        ("results.size_bytes", -1, r"results\.size_bytes"),
        ("results.size_bytes", True, r"results\.size_bytes"),
        ("results.mode", 1, r"unknown key results\.mode"),
        ("compiled_program", KeyError, "compiled_program is missing"),
        ("compiled_program.name", "../../etc/passwd", "not a plain file name"),
        ("compiled_program.name", "C:evil", "not a plain file name"),
        ("compiled_program.name", "..", "not a plain file name"),
        ("compiled_program.name", "", "not a plain file name"),
        ("compiled_program.name", "RESULTS.json", "two of its files have one name"),
        ("compiled_program.name", "manifest.json", "two of its files have one name"),
        ("extras", {}, "extras is not a list"),
        ("extras", None, "extras is not a list"),
        ("extras", [1], r"extras\[0\] is not an object"),
        ("extras", [{}] * 65, "more than 64"),
        ("extras", [{"name": "a.txt", "sha256": "a" * 64}], r"extras\[0\]\.size_bytes"),
        ("extras", [{"name": "aa", "sha256": "a" * 64, "size_bytes": 1, "url": ""}],
         r"unknown key extras\[0\]\.url"),
    ],
)  # fmt: skip
def test_manifest_is_checked(tmp_path: Path, key: str, value: object, complaint: str) -> None:
    paths = write(tmp_path / "b")
    document = json.loads(paths.manifest.read_text())
    change(document, key, value)
    paths.manifest.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=complaint) as caught:
        read_bundle(paths.folder)
    assert caught.value.where == str(paths.manifest)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
MANIFEST = Manifest.from_json(
    Manifest(
        **{field.name: getattr(PROVENANCE, field.name) for field in dataclasses.fields(PROVENANCE)},
        compiled_program=None,
        tuned_parameters=GRAPH,
        results=dataclasses.replace(GRAPH, name="results.json"),
        created_utc="2026-01-02T03:04:05Z",
        droidmace_version="0",
        verdict=Verdict.PARAMS_ONLY,
    ).to_json()
)
KEYS = [field.name for field in dataclasses.fields(Manifest)]


@given(st.sampled_from(KEYS), JSON)
def test_manifest_with_any_value_is_read_or_refused(key: str, value: object) -> None:
    document = json.loads(MANIFEST.to_json()) | {key: value}
    try:
        read = Manifest.from_json(json.dumps(document))
    except FormatError:
        return
    assert json.loads(read.to_json()) == document


@pytest.mark.parametrize(
    ("verdict", "kinds"),
    [
        ("ship", ["compiled_opencl_kernel", "tuned_opencl_parameter"]),
        ("program-only", ["compiled_opencl_kernel"]),
        ("params-only", ["tuned_opencl_parameter"]),
        ("nothing", []),
        ("reject", []),
    ],
)
def test_manifest_names_what_is_worth_shipping(
    tmp_path: Path, verdict: str, kinds: list[str]
) -> None:
    paths = write(tmp_path / "bundle", results=RESULTS | {"verdict": verdict})
    named = json.loads(paths.manifest.read_text())["worth_shipping"]
    assert len(named) == len(kinds)
    for name, kind in zip(named, kinds, strict=True):
        assert kind in name
        assert (paths.folder / name).is_file()
    assert read_bundle(paths.folder).manifest.verdict == verdict


@given(st.binary(max_size=40))
def test_any_bytes_are_no_manifest(data: bytes) -> None:
    with pytest.raises(FormatError):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SM-G991B", "SM-G991B"),
        ("Redmi Note 8", "RedmiNote8"),
        ("../../x", "_.._x"),
        ("a/b\\c:d", "a_b_c_d"),
        (".hidden", "hidden"),
        ("--flag", "flag"),
        ("", "unknown"),
        ("...", "unknown"),
        ("手机", "_"),
        ("x" * 300, "x" * 64),
    ],
)
def test_name_parts(text: str, expected: str) -> None:
    assert name_part(text) == expected


@given(st.text(max_size=200))
def test_name_parts_are_safe(text: str) -> None:
    part = name_part(text)
    assert part
    assert len(part) <= 64
    assert part.isascii()
    assert not set(part) & set('/\\:*?"<>| \0\n')
    assert not part.startswith(".")
    assert Path(part).name == part
    assert name_part(part) == part


@given(st.text(), st.text(), st.text())
def test_artefact_names_are_plain(model: str, device: str, soc: str) -> None:
    name = artefact_name("compiled_opencl_kernel", model, device, soc)
    assert Path(name).name == name
    assert not name.startswith((".", "-"))
    assert name.isascii()
    assert name.isprintable()
    assert len(name) < 255


def test_records_of_real_things(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert FileRecord.of(tmp_path / "f") == FileRecord(
        "f", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3
    )
    info = DeviceInfo(
        serial="s", state="device", model="SM G 991", device_name="SMG991", soc="exynos2100",
        abi="arm64-v8a", gpu="Mali-G78", android_release="13",
    )  # fmt: skip
    platform_info = PROVENANCE.device.platform_info
    assert DeviceRecord.of(info, platform_info=platform_info) == PROVENANCE.device


def test_a_copied_bundle_is_still_one(tmp_path: Path) -> None:
    shutil.copytree(write(tmp_path / "b").folder, tmp_path / "copy")
    assert read_bundle(tmp_path / "copy").manifest == read_bundle(tmp_path / "b").manifest


def test_a_place_is_checked_without_making_anything(tmp_path: Path) -> None:
    place = tmp_path / "out" / "bundle"
    check_place(place)
    assert not place.parent.exists()
    write(place)
    check_place(place)
    (place / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_place(place)
    with pytest.raises(InputError, match="cannot be written"):
        check_place(place / "notes.txt" / "deeper" / "bundle")
