"""The main job on emulated phones of both kinds, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from droidmace.bundle.reader import read_bundle
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.tuning.journal import read_journal
from droidmace.validation.idx import read_idx
from tests.conftest import PhoneLab
from tests.e2e.conftest import ROOT, Done, Droidmace, Tuned, tune

EXAMPLE = ROOT / "examples" / "fashion_mnist"


@pytest.fixture(params=["adreno", "mali"])
def tuned(request: pytest.FixtureRequest) -> Tuned:
    return request.getfixturevalue(f"tuned_{request.param}")


def test_the_document_tells_what_was_found(tuned: Tuned) -> None:
    document = tuned.document
    assert document["serial"] == tuned.phone.serial
    assert document["model"] == "fashion_mnist"
    assert document["verdict"] in {"ship", "params-only", "program-only", "nothing"}
    assert document["reasons"]
    for figure in ("init_ms", "warmup_ms"):
        assert document[figure]["cold"] > 0
        assert document[figure]["warm"] > 0
    assert document["run_ms"]["untuned"] > 0
    assert document["run_ms"]["tuned"] > 0
    kept = [one for one in document["raw_samples"]["latency_blocks"] if not one["thrown_out"]]
    assert len(kept) == 2
    assert len(document["raw_samples"]["untuned_run_ms"]) == 4
    assert document["programs"] == document["programs_from_cache"] > 5
    assert document["tuned_entries"] > 10
    # Every entry but the length of the queue is a kernel's.
    assert document["kernels_proved"] == document["tuned_entries"] - 1
    assert document["rounds"] == 5


def test_the_bundle_holds_both_artefacts_and_what_was_found(tuned: Tuned) -> None:
    device = tuned.document["device"]
    tail = f"{device['device_name']}.{device['soc']}.bin"
    program = tuned.bundle / f"fashion_mnist_compiled_opencl_kernel.{tail}"
    parameters = tuned.bundle / f"fashion_mnist_tuned_opencl_parameter.{tail}"
    assert sorted(path.name for path in tuned.bundle.iterdir()) == sorted(
        [
            program.name,
            parameters.name,
            "manifest.json",
            "results.json",
            "monitor.jsonl",
            "search_journal.jsonl.gz",
        ]
    )
    winners = read_journal(tuned.bundle / "search_journal.jsonl.gz").winners
    assert winners == TunedParameters.parse(parameters.read_bytes()).entries
    assert not list(tuned.bundle.parent.glob("*.search.jsonl"))
    parsed = CompiledProgram.parse(program.read_bytes())
    assert parsed.platform_info == tuned.document["platform_info"]
    assert len(parsed.programs) == tuned.document["programs"]
    entries = TunedParameters.parse(parameters.read_bytes()).entries
    assert any(key.startswith("conv2d_1x1_opencl_kernel_") for key in entries)
    assert json.loads((tuned.bundle / "results.json").read_text()) == tuned.document
    manifest = read_bundle(tuned.bundle).manifest
    assert manifest.device.device_name == device["device_name"]
    assert manifest.mace_version == tuned.document["mace_version"]


def test_the_tuned_phone_answers_like_onnxruntime_label_for_label(tuned: Tuned) -> None:
    assert tuned.document["samples"] == 1000
    assert tuned.document["agreement"] >= 0.999
    # Counted once more, with nothing of droidmace's own accuracy code.
    images = read_idx(EXAMPLE / "t10k-first1000-images-idx3-ubyte.gz").astype(np.float32)
    labels = read_idx(EXAMPLE / "t10k-first1000-labels-idx1-ubyte.gz")
    session = onnxruntime.InferenceSession(EXAMPLE / "fashion_mnist.onnx")
    right = sum(
        int(np.argmax(session.run(None, {"image": image[None, None] / np.float32(255)})[0]))
        == label
        for image, label in zip(images, labels, strict=True)
    )
    assert tuned.document["top1"]["reference"] == right / 1000
    assert abs(tuned.document["top1"]["tuned"] - right / 1000) <= 0.001


def test_a_second_run_pushes_no_byte_of_the_model(
    droidmace: Droidmace, tuned_adreno: Tuned, tmp_path: Path
) -> None:
    assert droidmace("clean", "--serial", tuned_adreno.phone.serial).code == 0
    first = tune(droidmace, tuned_adreno.phone, tmp_path, "--limit", 20)
    size_bytes = sum((EXAMPLE / f"fashion_mnist.{end}").stat().st_size for end in ("pb", "data"))
    assert first.document["pushed_model_bytes"] == size_bytes
    again = tune(droidmace, tuned_adreno.phone, tmp_path, "--limit", 20)
    assert again.document["pushed_model_bytes"] == 0
    assert again.document["pushed_bytes"] == 0


def test_nothing_is_left_running_or_locked(phone_lab: PhoneLab, tuned: Tuned) -> None:
    assert "mace_run" not in phone_lab.output(tuned.phone, "ps -A -o ARGS")
    assert phone_lab.shell(tuned.phone, "ls -d /data/local/tmp/mace_run.lock").returncode != 0


def test_inspect_reads_every_file_of_a_bundle(droidmace: Droidmace, tuned: Tuned) -> None:
    for path in [*tuned.bundle.iterdir(), tuned.bundle]:
        if path.suffix in (".jsonl", ".gz") or path.name == "results.json":
            continue
        done = droidmace("inspect", path, "--json")
        assert done.code == 0, done.stderr
        assert done.document
    done: Done = droidmace("inspect", next(tuned.bundle.glob("*_compiled_*")))
    assert "conv_2d" in done.stdout


def test_devices_shows_the_phones(
    droidmace: Droidmace, tuned_adreno: Tuned, tuned_mali: Tuned
) -> None:
    done = droidmace("devices", "--json")
    assert done.code == 0, done.stderr
    text = done.stdout
    for one in (tuned_adreno, tuned_mali):
        assert one.phone.serial in text
        assert one.document["device"]["soc"] in text
