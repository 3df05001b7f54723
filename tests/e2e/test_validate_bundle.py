"""``droidmace validate --bundle``: what an app would ship is what runs, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from droidmace.bundle.manifest import DeviceRecord, FileRecord
from droidmace.bundle.writer import REQUIRED_RESULTS, Provenance, write_bundle
from droidmace.emulator.manager import Phone
from droidmace.formats.tuned_parameters import TunedParameters
from tests.conftest import PhoneLab
from tests.e2e.conftest import FASHION, ROOT, Done, Droidmace

FASHION_MODEL = ROOT / "examples" / "fashion_mnist" / "fashion_mnist"
STORED = "/data/local/tmp/mace_run/storage/fashion_mnist/validate/mace_cl_compiled_program.bin"
# The GPU as `tune` writes it, by OpenCL's name, which is not quite the one that a probe finds.
ADRENO = DeviceRecord("MI 9", "MI9", "msmnile", "arm64-v8a", "Adreno(TM) 640", "info")


def bundle_of(folder: Path, program: bytes, device: DeviceRecord = ADRENO) -> Path:
    graph, weights = (FASHION_MODEL.with_suffix(end) for end in (".pb", ".data"))
    parameters = TunedParameters.build({"conv2d_1x1_opencl_kernel_1_28_28_48": (4, 4, 4, 0)})
    return write_bundle(
        folder,
        provenance=Provenance(
            model_name="fashion_mnist",
            model_graph=FileRecord.of(graph),
            model_data=FileRecord.of(weights),
            binary=FileRecord("mace_run", "0" * 64, 1),
            mace_version="1.1.1",
            device=device,
        ),
        compiled_program=program,
        tuned_parameters=parameters.serialize(),
        results=dict.fromkeys(REQUIRED_RESULTS, 0) | {"verdict": "ship"},
    ).folder


@pytest.fixture(scope="module")
def programs(
    droidmace: Droidmace,
    phone_lab: PhoneLab,
    adreno_phone: Phone,
    mali_phone: Phone,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, bytes]:
    """What two phones have stored, each compiled by its own driver."""
    found = {}
    for phone in (adreno_phone, mali_phone):
        out = tmp_path_factory.mktemp("programs")
        done = run(droidmace, phone, out)
        assert done.code == 0, done.stderr
        phone_lab.run_adb("-s", phone.serial, "pull", STORED, str(out / "program"))
        found[phone.serial] = (out / "program").read_bytes()
    return found


def run(droidmace: Droidmace, phone: Phone, out: Path, *arguments: object) -> Done:
    return droidmace("validate", "--serial", phone.serial, "-c", FASHION, "--out", out, "--json",
                     "--limit", 4, "--against", "none", *arguments)  # fmt: skip


def test_a_bundle_is_named_and_its_result_has_a_name_of_its_own(
    programs: dict[str, bytes], droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "bundle", programs[adreno_phone.serial])
    for arguments in ((), ("--bundle", bundle)):
        done = run(droidmace, adreno_phone, tmp_path / "out", *arguments)
        assert done.code == 0, done.stderr
    assert done.document["bundle"] == str(bundle)
    assert done.document["warnings"] == []
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == 2
    assert names[0].endswith(".against_none.validation.json")
    assert names[1] == names[0].replace(".against_none.", ".bundle.against_none.")


def test_programs_that_the_phone_builds_anew_are_told(
    programs: dict[str, bytes],
    droidmace: Droidmace,
    adreno_phone: Phone,
    mali_phone: Phone,
    tmp_path: Path,
) -> None:
    bundle = bundle_of(tmp_path / "bundle", programs[mali_phone.serial])
    done = run(droidmace, adreno_phone, tmp_path / "out", "--bundle", bundle)
    assert done.code == 0, done.stderr
    (warning,) = done.document["warnings"]
    assert "15 of 15 programs were built from source" in warning


@pytest.mark.parametrize("command", ["validate", "bench"])
def test_parameters_of_another_gpu_are_refused_before_anything_runs(
    programs: dict[str, bytes],
    droidmace: Droidmace,
    adreno_phone: Phone,
    mali_phone: Phone,
    tmp_path: Path,
    command: str,
) -> None:
    bundle = bundle_of(tmp_path / "bundle", programs[adreno_phone.serial])
    done = droidmace(command, "-s", mali_phone.serial, "-c", FASHION, "--bundle", bundle, "--json")
    assert done.code == 2
    assert "was tuned for Adreno(TM) 640 (MI 9, msmnile)" in done.error["message"]
    assert "Mali" in done.error["message"]
    assert "tuned on such a phone" in done.error["hint"]
