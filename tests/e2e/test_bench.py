"""bench on emulated phones behind a real adb server: all of its figures, and every comparison."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from droidmace.bundle.manifest import DeviceRecord, FileRecord
from droidmace.bundle.writer import REQUIRED_RESULTS, Provenance, write_bundle
from droidmace.config import load_deployment
from droidmace.devices.monitor import Monitor
from droidmace.devices.remote_paths import PHONE_ROOT
from droidmace.devices.samples import ThermalSample
from droidmace.devices.select import find_device
from droidmace.emulator import manager
from droidmace.emulator.manager import Phone
from droidmace.errors import DeviceError
from droidmace.formats.netdef import DeviceType, parse_model, serialize_model
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.graphs.runtime import on_runtime
from droidmace.results import PhaseNote
from droidmace.workflows.bench import bench
from droidmace.workflows.bench_request import BenchRequest, BenchSettings
from droidmace.workflows.workplace import PhoneRequest
from tests.conftest import PhoneLab
from tests.e2e.conftest import FASHION, ROOT, Done, Droidmace

# Speaks as the real one does; its op times are constants, give or take half a percent.
QUICK = ROOT / "tests" / "faults" / "quick_mace_run.py"
QUICK_MS = 18.75
FASHION_MODEL = ROOT / "examples" / "fashion_mnist" / "fashion_mnist"


@pytest.fixture(scope="module")
def measured(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """One whole session with the engine that the phone brings."""
    file = tmp_path_factory.mktemp("bench") / "result.json"
    done = droidmace(
        "bench", "-s", adreno_phone.serial, "-c", FASHION, "--processes", 3, "--rounds", 5,
        "--cold-runs", 1, "--singles", 12, "--energy", "--out", file, "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert json.loads(file.read_text()) == done.document
    return done.document


def test_start_up_and_latency(measured: dict[str, Any]) -> None:
    assert measured["latency_ms"]["count"] == measured["init_ms"]["count"] == 3
    samples = [one["run_avg_ms"] for one in measured["raw_samples"]["processes"]]
    assert measured["latency_ms"]["min"] == min(samples) > 0
    assert measured["latency_ms"]["max"] == max(samples)
    assert measured["single_ms"]["count"] == 12
    assert measured["single_ms"]["p90"] is not None
    # Fifteen programs are compiled, or not.
    assert measured["programs"] == {"source": 0, "cache": 15}
    assert measured["cold_first_result_ms"]["p50"] > 2 * measured["first_result_ms"]["p50"]


def test_ops_and_their_macs(measured: dict[str, Any]) -> None:
    profile = measured["profile"]
    assert profile["rounds"] == 5
    assert len(profile["ops"]) == sum(one["count"] for one in profile["by_type"])
    assert profile["macs"] == sum(one["macs"] for one in profile["by_type"])
    # Counted by hand for one of them: 28x28 outputs, 48 filters of 16 channels, 1x1.
    (expand,) = (one for one in profile["ops"] if one["name"] == "/block1/expand/act/Clip")
    assert expand["output_shape"] == [1, 28, 28, 48]
    assert expand["filter_shape"] == [48, 16, 1, 1]
    macs = expand["gmacps"] * expand["avg_ms"] * 1e6
    assert macs == pytest.approx(28 * 28 * 48 * 16, rel=0.02)


def test_memory_is_that_of_a_process(measured: dict[str, Any]) -> None:
    # An interpreter, numpy and an OpenCL driver with its compiler.
    assert 40 << 10 < measured["peak_kib"] < 2 << 20


def test_a_phone_on_a_cable_has_no_energy(measured: dict[str, Any]) -> None:
    assert measured["energy"]["joules"] is None
    assert "charging" in measured["energy"]["why_not"]


def test_what_it_belongs_to(measured: dict[str, Any], adreno_phone: Phone) -> None:
    identity = measured["identity"]
    assert identity["serial"] == measured["serial"] == adreno_phone.serial
    assert (identity["device_model"], identity["soc"]) == ("MI 9", "msmnile")
    assert identity["runtimes"] == "CPU, GPU"
    assert len(identity["mace_run"]) == len(identity["model_graph"]) == 64
    assert measured["settings"]["rounds"] == 5


def test_nothing_is_left_running_or_locked(
    measured: dict[str, Any], phone_lab: PhoneLab, adreno_phone: Phone
) -> None:
    assert measured["wall_s"] > 0
    assert "mace_run" not in phone_lab.output(adreno_phone, "ps -A -o ARGS")
    found = phone_lab.shell(adreno_phone, "ls -d /data/local/tmp/mace_run.*")
    assert found.returncode != 0, found.stdout


def test_a_bundle_is_what_the_phone_runs_with(
    measured: dict[str, Any],
    droidmace: Droidmace,
    phone_lab: PhoneLab,
    adreno_phone: Phone,
    tmp_path: Path,
) -> None:
    # What the last session has left on the phone, and one kernel's size.
    program = tmp_path / "program"
    stored = "/data/local/tmp/mace_run/storage/fashion_mnist/bench/mace_cl_compiled_program.bin"
    phone_lab.run_adb("-s", adreno_phone.serial, "pull", stored, str(program))
    parameters = TunedParameters.build({"conv2d_1x1_opencl_kernel_1_28_28_48": (4, 4, 4, 0)})
    graph, weights = (FASHION_MODEL.with_suffix(end) for end in (".pb", ".data"))
    bundle = write_bundle(
        tmp_path / "bundle",
        provenance=Provenance(
            model_name="fashion_mnist",
            model_graph=FileRecord.of(graph),
            model_data=FileRecord.of(weights),
            binary=FileRecord("mace_run", "0" * 64, 1),
            mace_version=measured["identity"]["mace_version"],
            device=DeviceRecord("MI 9", "MI9", "msmnile", "arm64-v8a", "Adreno (TM) 640", "info"),
        ),
        compiled_program=program.read_bytes(),
        tuned_parameters=parameters.serialize(),
        results=dict.fromkeys(REQUIRED_RESULTS, 0) | {"verdict": "ship"},
    )
    command = ("bench", "-s", adreno_phone.serial, "-c", FASHION, "--bundle", bundle.folder,
               "--processes", 1, "--rounds", 2, "--cold-runs", 0, "--no-ops", "--no-memory",
               "--json")  # fmt: skip
    done = droidmace(*command)
    assert done.code == 0, done.stderr
    assert done.document["programs"] == {"source": 0, "cache": 15}
    assert done.document["kernels_with_parameters"] == 1
    assert done.document["warnings"] == []
    manifest = json.loads(bundle.manifest.read_text())
    identity = done.document["identity"]
    assert identity["compiled_program"] == manifest["compiled_program"]["sha256"]
    assert identity["tuned_parameters"] == manifest["tuned_parameters"]["sha256"]
    # Of another model it is refused.
    manifest["model_data"]["sha256"] = "0" * 64
    bundle.manifest.write_text(json.dumps(manifest))
    refused = droidmace(*command)
    assert refused.code == 2
    assert "made from another fashion_mnist.data" in refused.error["message"]


@pytest.fixture(scope="module")
def quick(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Done]:
    """A session with a mace_run that takes ``slower`` times as long; its file is the first word."""
    folder = tmp_path_factory.mktemp("quick")

    def run(name: str, slower: float, *arguments: object) -> Done:
        program = folder / f"mace_run_{slower}"
        text = QUICK.read_text("utf-8")
        assert "time_ms = base_ms * noise" in text
        program.write_text(text.replace("base_ms * noise", f"{slower} * base_ms * noise"))
        return droidmace(
            "bench", "-s", adreno_phone.serial, "-c", FASHION, "--mace-run", program,
            "--processes", 6, "--rounds", 5, "--cold-runs", 0, "--no-ops", "--no-memory",
            "--no-pin", "--out", folder / name, *arguments,
        )  # fmt: skip

    assert run("before.json", 1.0).code == 0
    return run


def latency(document: dict[str, Any]) -> dict[str, Any]:
    (one,) = (one for one in document["comparison"]["figures"] if one["name"] == "latency_ms")
    return one


def before_of(quick: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(tmp_path_factory.getbasetemp().glob("quick*/before.json"))


def test_a_slower_program_is_seen_and_stopped_at_the_gate(
    quick: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = before_of(quick, tmp_path_factory)
    done = quick("slower.json", 1.25, "--compare", before, "--gate", "--json")
    assert done.code == 1, done.stderr
    assert "gate: slower than" in done.stderr
    found = latency(done.document)
    assert found["change"] == "slower"
    # Every sample is off by 0.4 % at most, and so are medians: the ratio of two by 0.8 %. The
    # interval may miss the truth, as one of twenty does, but not what was measured.
    assert found["ratio"] == pytest.approx(1.25, rel=0.008)
    assert 1.24 / 1.008 < found["low"] <= found["ratio"] <= found["high"] < 1.26 * 1.008
    assert found["before_ms"] == pytest.approx(QUICK_MS, rel=0.02)
    assert done.document["comparison"]["differences"] == ["another mace_run"]


def test_the_same_program_passes_and_a_faster_one_is_seen(
    quick: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory, droidmace: Droidmace
) -> None:
    before = before_of(quick, tmp_path_factory)
    same = quick("same.json", 1.0, "--compare", before, "--gate", "--json")
    assert same.code == 0, same.stderr
    assert latency(same.document)["change"] == "no difference shown"
    faster = quick("faster.json", 0.8, "--compare", before)
    assert faster.code == 0, faster.stderr
    assert "faster" in faster.stdout
    # Without a phone, from the files, the other way round.
    done = droidmace(
        "bench", "--compare", before.with_name("faster.json"), "--result", before, "--gate"
    )
    assert done.code == 1
    assert "slower" in done.stdout


def test_what_cannot_be_compared_is_refused_before_the_phone_is_asked(
    quick: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory, droidmace: Droidmace
) -> None:
    before = before_of(quick, tmp_path_factory)
    done = droidmace(
        "bench", "-s", "none-such", "-c", FASHION, "--rounds", 7, "--compare", before, "--json"
    )
    assert done.code == 2
    assert "rounds was '5', now '7'" in done.error["message"]
    assert "--allow-different rounds" in done.error["hint"]


def test_another_kind_of_phone_is_refused(
    quick: Callable[..., Done],
    tmp_path_factory: pytest.TempPathFactory,
    droidmace: Droidmace,
    mali_phone: Phone,
) -> None:
    before = before_of(quick, tmp_path_factory)
    options = ("bench", "-s", mali_phone.serial, "-c", FASHION, "--mace-run", QUICK,
               "--processes", 4, "--no-ops", "--no-memory", "--no-pin", "--cold-runs", 0,
               "--compare", before, "--json")  # fmt: skip
    refused = droidmace(*options)
    assert refused.code == 2
    assert "device_model was 'MI 9'" in refused.error["message"]
    # Before the phone is taken, and before anything is pushed to it.
    assert "✗ probe" in refused.stderr
    assert "lock" not in refused.stderr
    done = droidmace(*options, "--allow-different", "device")
    assert done.code == 0, done.stderr
    # The number of rounds was the other session's.
    assert done.document["settings"]["rounds"] == 5
    assert "device (as allowed)" in done.document["comparison"]["differences"][0]


def test_one_is_counted_as_one(droidmace: Droidmace, adreno_phone: Phone) -> None:
    done = droidmace(
        "bench", "-s", adreno_phone.name, "-c", FASHION, "--mace-run", QUICK, "--processes", 1,
        "--rounds", 1, "--cold-runs", 0, "--singles", 1, "--no-ops", "--no-memory", "--no-pin",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert " ms in 1 process (" in done.stdout
    assert " 1 single inference (" in done.stdout
    assert "1 inferences" not in done.stdout
    assert "1 rounds" not in done.stdout


def test_a_result_that_cannot_be_written_is_shown(
    droidmace: Droidmace, adreno_phone: Phone
) -> None:
    # A folder that is there, and that nobody can make a file in.
    done = droidmace(
        "bench", "-s", adreno_phone.serial, "-c", FASHION, "--mace-run", QUICK, "--processes", 1,
        "--rounds", 1, "--cold-runs", 0, "--no-ops", "--no-memory", "--no-pin",
        "--out", "/proc/result.json",
    )  # fmt: skip
    assert done.code == 2
    assert "cannot be written" in done.stderr
    assert "start: first result" in done.stdout


@pytest.fixture(scope="module")
def own_phone(phone_lab: PhoneLab) -> Iterator[Phone]:
    phone = manager.start_phone("bench", "adreno")
    yield phone
    manager.delete_phone(phone.name)


def request_on(phone: Phone, settings: BenchSettings, mace_run: Path | None = None) -> BenchRequest:
    deployment = load_deployment(FASHION)
    return BenchRequest(
        phone=PhoneRequest(phone.serial, deployment, "fashion_mnist", mace_run=mace_run),
        settings=settings,
    )


def test_energy_of_a_phone_on_its_battery(own_phone: Phone, tmp_path: Path) -> None:
    # A mace_run that takes the time that it tells, whatever else this computer does.
    steady = tmp_path / "mace_run"
    run = 'say("tools/mace_run.cc:600", "Run model")'
    text = QUICK.read_text("utf-8")
    assert run in text
    steady.write_text(text.replace(run, f"{run}; time.sleep(rounds * total / 1000)"))
    # One watt idle, five under load; discharge is positive here, as some drivers have it.
    own_phone.set_battery(usb_powered=False, current_now=250_000, voltage_now=4_000_000)
    load = itertools.cycle([1_250_000, 1_270_000, 1_230_000])
    loaded = threading.Event()

    def on_note(note: PhaseNote) -> None:
        if (note.phase, note.text) == ("energy", "under load"):
            loaded.set()

    def drain(_: ThermalSample) -> None:
        if loaded.is_set():
            own_phone.set_battery(current_now=next(load))

    settings = BenchSettings(
        rounds=20, processes=1, cold_runs=0, profile=False, memory=False, energy=True,
        idle_s=5, load_s=5, settle_s=1,
    )  # fmt: skip
    gauge = Monitor(
        find_device(own_phone.serial), path=f"{PHONE_ROOT}/mace_run.gauge", on_sample=drain
    )
    with gauge:
        energy = bench(request_on(own_phone, settings, steady), on_note).energy
    assert energy is not None
    assert energy.why_not == ""
    assert energy.idle_w == pytest.approx(1.0)
    assert energy.load_w == pytest.approx(5.0, rel=0.02)
    assert "in microamperes" in energy.taken_as
    assert "positive while discharging" in energy.taken_as
    assert energy.joules is not None
    assert energy.latency_ms == pytest.approx(QUICK_MS, rel=0.02)
    assert energy.joules == pytest.approx((energy.load_w - 1.0) * energy.latency_ms / 1e3)
    assert energy.joules_gross == pytest.approx(energy.load_w * energy.latency_ms / 1e3)


def test_a_model_of_the_cpu_has_no_programs_and_no_cold_start(
    own_phone: Phone, tmp_path: Path
) -> None:
    samples = ROOT / "tests" / "samples"
    model = on_runtime(parse_model((samples / "tiny_gpu.pb").read_bytes()), DeviceType.CPU)
    (tmp_path / "tiny_cpu.pb").write_bytes(serialize_model(model))
    (tmp_path / "tiny_cpu.data").write_bytes((samples / "tiny_gpu.data").read_bytes())
    text = (samples / "tiny_gpu.yml").read_text("utf-8")
    for old, new in (("_gpu", "_cpu"), (": gpu", ": cpu"), ("host", "arm64-v8a")):
        text = text.replace(old, new)
    text = text.replace("tiny.onnx", str(samples / "tiny.onnx"))
    files = "{graph_file: tiny_cpu.pb, data_file: tiny_cpu.data}"
    config = tmp_path / "tiny.yml"
    config.write_text(f"{text}droidmace:\n  models:\n    tiny_cpu: {files}\n")
    phone = PhoneRequest(own_phone.serial, load_deployment(config), "tiny_cpu")
    settings = BenchSettings(rounds=2, processes=1)
    notes: list[PhaseNote] = []
    result = bench(BenchRequest(phone=phone, settings=settings), notes.append)
    assert "no OpenCL programs, so no cold starts" in [note.text for note in notes]
    assert result.identity["runtimes"] == "CPU"
    assert (result.programs_from_source, result.programs_from_cache, result.cold) == (0, 0, ())
    assert result.profile is not None
    assert result.profile.macs == 278_848  # as MACE's own log has it


def test_unplugged_in_the_middle(own_phone: Phone) -> None:
    def on_note(note: PhaseNote) -> None:
        if (note.phase, note.done) == ("latency", 3):
            own_phone.fault({"kind": "unplug", "now": True, "refuse": True})

    settings = BenchSettings(rounds=5, processes=50, cold_runs=0)
    try:
        with pytest.raises(DeviceError) as lost:
            bench(request_on(own_phone, settings, QUICK), on_note)
        assert lost.value.phase == "latency"
    finally:
        own_phone.clear_faults()
        own_phone.wait_for_adb()
