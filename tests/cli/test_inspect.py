"""``droidmace inspect``, from the command line to the exit code."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from droidmace.bundle.manifest import DeviceRecord, FileRecord
from droidmace.bundle.writer import REQUIRED_RESULTS, Provenance, write_bundle
from droidmace.cli import main
from droidmace.formats.compiled_program import CompiledProgram, StoredProgram
from droidmace.formats.kvstore import Generation, KeyValueStore
from droidmace.formats.netdef import parse_model, serialize_model
from droidmace.formats.obfuscation import obfuscate_symbol
from droidmace.formats.protowire import decode_text

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture
def droidmace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process; return its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["droidmace", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        code = caught.value.code
        return (code if isinstance(code, int) else int(code is not None)), out, err

    return run


def program() -> CompiledProgram:
    kernel = obfuscate_symbol("conv_2d_1x1")
    return CompiledProgram.build(
        platform_info="ARM Platform, FULL_PROFILE, OpenCL 2.1 v1.r26p0, v1.1.1",
        device_name="Mali-G78",
        programs=[
            StoredProgram(f"conv_2d_1x1 -DBIAS -Dconv_2d_1x1={kernel}", bytes(300), "a1b2"),
            StoredProgram("pooling -DPOOL_AVG", b"\x7fELF", None),
        ],
    )


def test_tuned_parameters(droidmace: Any) -> None:
    code, out, err = droidmace("inspect", SAMPLES / "tune_params")
    assert (code, err) == (0, "")
    assert "tuned parameters" in out
    assert "0xc2748053" in out
    row = next(line for line in out.splitlines() if "c44ClxknJpoDF6F6FvGBPMEM2547C7" in line)
    assert row.split()[:5] == ["conv2d_1x1_opencl_kernel", "1,", "16,", "16,", "32"]
    assert "8, 4, 4" in row


def test_tuned_parameters_as_json(droidmace: Any) -> None:
    code, out, _ = droidmace("inspect", SAMPLES / "tune_params", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["kind"] == "tuned-parameters"
    assert record["generation"] == "current"
    assert record["crc32"] == "0xc2748053"
    assert record["obfuscated_keys"] == 14
    assert len(record["entries"]) == record["entry_count"] == 15
    assert {
        "key": "c44ClxknJpoDF6F6FvGBPMEM2547C7_F_EE",
        "readable_key": "conv2d_1x1_opencl_kernel_1_16_16_32",
        "kernel": "conv2d_1x1_opencl_kernel",
        "sizes": [1, 16, 16, 32],
        "lws": [8, 4, 4],
        "block": 0,
        "values": [8, 4, 4, 0],
    } in record["entries"]


def test_a_compiled_program(droidmace: Any, tmp_path: Path) -> None:
    file = tmp_path / "mace_cl_compiled_program.bin"
    file.write_bytes(program().serialize())

    code, out, _ = droidmace("inspect", file)
    assert code == 0
    assert "Mali-G78" in out
    assert "-Dconv_2d_1x1=conv_2d_1x1" in out

    record = json.loads(droidmace("inspect", file, "--json")[1])
    assert record["platform_info"] == program().platform_info
    assert record["platform_version"] == "OpenCL 2.1 v1.r26p0"
    assert record["mace_version"] == "v1.1.1"
    assert record["gpu_name"] == "Mali-G78"
    assert (record["program_count"], record["binary_bytes"]) == (2, 304)
    first, second = record["programs"]
    assert (first["program"], first["binary_bytes"], first["source_hash"]) == (
        "conv_2d_1x1", 300, "a1b2",
    )  # fmt: skip
    assert second["source_hash"] is None


def test_a_legacy_program_with_a_key_twice(droidmace: Any, tmp_path: Path) -> None:
    built = CompiledProgram.build(
        platform_info="P, F, V, v1.0.2",
        device_name="",
        programs=[StoredProgram("pooling", b"x")],
        generation=Generation.LEGACY,
    )
    pairs = (*built.store.pairs, built.store.pairs[-1])
    file = tmp_path / "old.bin"
    file.write_bytes(KeyValueStore.build(pairs, Generation.LEGACY).serialize())
    record = json.loads(droidmace("inspect", file, "--json")[1])
    assert record["generation"] == "legacy"
    assert record["crc32"] is None
    assert record["pairs"] == 3
    assert record["duplicate_keys"] == ["pooling"]


def test_a_model_and_its_weights(droidmace: Any) -> None:
    code, out, _ = droidmace("inspect", SAMPLES / "tiny_gpu.pb")
    assert code == 0
    for text in ("MultiNetDef", "GPU_IMAGE", "DepthwiseConv2d", "OIHW", "1, 32, 32, 3"):
        assert text in out

    record = json.loads(droidmace("inspect", SAMPLES / "tiny_gpu.pb", "--json")[1])
    assert record["kind"] == "multi-net-def"
    assert record["weight_bytes"] == record["weights_file_bytes"] == 5928
    assert record["nets"][0]["runtime"] == "GPU"
    assert {"type": "Conv2D", "count": 2} in record["op_types"]
    first = record["ops"][0]
    assert (first["type"], first["inputs"]) == ("Conv2D", ["input", "c1_w", "c1_b"])
    assert first["arguments"]["strides"] == [2, 2]
    assert first["arguments"]["activation"] == "RELU"
    assert record["tensors"][0]["size_bytes"] == 1728


def test_a_bare_net_without_weights(droidmace: Any, tmp_path: Path) -> None:
    model = parse_model((SAMPLES / "tiny_gpu.pb").read_bytes())
    file = tmp_path / "old.pb"
    file.write_bytes(serialize_model(dataclasses.replace(model, is_bare_net=True)))
    record = json.loads(droidmace("inspect", file, "--json")[1])
    assert (record["kind"], record["layout"]) == ("net-def", "NetDef")
    assert record["weights_file"] is None
    assert record["inputs"] == ["input"]


def test_weights_that_are_too_short(droidmace: Any, tmp_path: Path) -> None:
    (tmp_path / "m.pb").write_bytes((SAMPLES / "tiny_gpu.pb").read_bytes())
    (tmp_path / "m.data").write_bytes((SAMPLES / "tiny_gpu.data").read_bytes()[:-1])
    code, _, err = droidmace("inspect", tmp_path / "m.pb")
    assert code == 2
    assert "tensor 'fc_b'" in err
    assert str(tmp_path / "m.data") in err


def test_an_onnx_model_says_what_to_do_with_it(droidmace: Any) -> None:
    code, out, _ = droidmace("inspect", SAMPLES / "tiny.onnx")
    assert code == 0
    assert "droidmace convert" in out


def bundle(folder: Path) -> Path:
    some_file = FileRecord("m", "a" * 64, 10)
    results = dict.fromkeys(REQUIRED_RESULTS, 1) | {
        "verdict": "ship",
        "run_ms": {"untuned": 2.5, "tuned": 1.5},
        "samples": {"raw": [[1.5]]},
    }
    provenance = Provenance(
        model_name="m",
        model_graph=some_file,
        model_data=some_file,
        binary=some_file,
        mace_version="v1.1.1",
        device=DeviceRecord(
            model="SM G 991",
            device_name="SMG991",
            soc="exynos2100",
            abi="arm64-v8a",
            gpu="Mali-G78",
            platform_info=program().platform_info,
        ),
    )
    return write_bundle(
        folder,
        provenance=provenance,
        compiled_program=program().serialize(),
        tuned_parameters=(SAMPLES / "tune_params").read_bytes(),
        results=results,
        extras={"best_so_far.svg": b"<svg/>"},
    ).folder


@pytest.mark.parametrize("of_folder", [True, False])
def test_a_bundle(droidmace: Any, tmp_path: Path, of_folder: bool) -> None:
    folder = bundle(tmp_path / "bundle")
    target = folder if of_folder else folder / "manifest.json"

    code, out, err = droidmace("inspect", target, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)

    assert (record["kind"], record["path"]) == ("bundle-manifest", str(folder))
    assert (record["soc"], record["abi"], record["verdict"]) == ("exynos2100", "arm64-v8a", "ship")
    assert record["run_ms"] == {"untuned": 2.5, "tuned": 1.5}
    assert record["samples"] == {}  # deeper values are not shown
    assert [(row["name"], row["kind"]) for row in record["contents"]] == [
        ("m_compiled_opencl_kernel.SMG991.exynos2100.bin", "compiled-program"),
        ("m_tuned_opencl_parameter.SMG991.exynos2100.bin", "tuned-parameters"),
    ]
    [extra] = record["extras"]
    assert (extra["name"], extra["size_bytes"]) == ("best_so_far.svg", 6)
    shown = droidmace("inspect", target)[1]
    assert "untuned=2.5, tuned=1.5" in shown
    assert "best_so_far.svg" in shown


def test_a_bundle_whose_artefact_was_changed(droidmace: Any, tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle")
    artefact = next(folder.glob("*_tuned_*.bin"))
    artefact.write_bytes(artefact.read_bytes()[:-1])
    code, _, err = droidmace("inspect", folder)
    assert code == 2
    assert str(artefact) in err
    assert "the manifest says 662" in err


def test_a_manifest_nested_too_deeply(droidmace: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema_version": ' + "[" * 500 + "]" * 500 + "}")
    code, _, err = droidmace("inspect", tmp_path)
    assert code == 2
    assert str(tmp_path / "manifest.json") in err


@pytest.mark.parametrize(
    ("content", "message", "offset"),
    [
        (b"", "the file is empty", 0),
        (b"garbage, not a format", "begins with the bytes", 0),
        ((SAMPLES / "tune_params").read_bytes()[:300], "CRC-32 is 0x4c444c4f but the content", 296),
        ((SAMPLES / "tiny_gpu.pb").read_bytes()[:300], "claims 1469 bytes", 0),
    ],
)
def test_damaged_files_exit_2_and_say_where(
    droidmace: Any, tmp_path: Path, content: bytes, message: str, offset: int
) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(content)
    code, out, err = droidmace("inspect", file)
    assert (code, out) == (2, "")
    assert str(file) in err
    assert message in err
    assert f"at byte offset {offset}" in err

    code, out, err = droidmace("inspect", file, "--json")
    error = json.loads(err)["error"]
    assert (code, out, error["error"], error["where"]) == (2, "", "FormatError", str(file))


def test_what_is_not_there_or_no_bundle(droidmace: Any, tmp_path: Path) -> None:
    code, _, err = droidmace("inspect", tmp_path / "nothing")
    assert code == 2
    assert "No such file" in err
    code, _, err = droidmace("inspect", tmp_path)
    assert code == 2
    assert "no manifest.json" in err


def test_names_from_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = "[red]\x1b[2J\x07name" + decode_text(b"\xff")
    built = CompiledProgram.build(
        platform_info=evil, device_name=evil, programs=[StoredProgram(evil, b"x", evil)]
    )
    file = tmp_path / "evil.bin"
    file.write_bytes(built.serialize())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "COLUMNS": "200"}
    command = [sys.executable, "-m", "droidmace", "inspect", str(file)]

    shown = subprocess.run(command, env=environment, capture_output=True, check=False)
    record = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=False)

    assert shown.returncode == 0, shown.stderr
    assert b"\x1b" not in shown.stdout
    assert b"\x07" not in shown.stdout
    assert rb"[red]\x1b[2J\x07name\udcff" in shown.stdout
    assert json.loads(record.stdout)["platform_info"] == evil
