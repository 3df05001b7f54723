"""A program tuned on one phone is refused by another: by MACE's rule, and by the driver."""

from __future__ import annotations

from dataclasses import replace

import pytest

from droidmace.bundle.validity import forecast
from droidmace.config import load_deployment
from droidmace.devices.adb import AdbDevice
from droidmace.devices.select import find_device
from droidmace.formats.acceptance import GpuIdentity, GpuType
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.macerun.output import WarningKind, classify_warning
from droidmace.macerun.session import DEFAULT_ROOT, MaceRunSession
from droidmace.results import MaceRunResult
from droidmace.workflows.measure import Layout, base_invocation, make_folders
from tests.conftest import PhoneLab
from tests.e2e.conftest import FASHION, Tuned


@pytest.fixture
def programs(tuned_adreno: Tuned, tuned_mali: Tuned) -> dict[str, CompiledProgram]:
    return {
        name: CompiledProgram.parse(next(one.bundle.glob("*_compiled_*")).read_bytes())
        for name, one in (("adreno", tuned_adreno), ("mali", tuned_mali))
    }


@pytest.fixture
def phones(phone_lab: PhoneLab, tuned_adreno: Tuned, tuned_mali: Tuned) -> dict[str, AdbDevice]:
    return {
        "adreno": find_device(tuned_adreno.phone.serial, phone_lab.adb_port),
        "mali": find_device(tuned_mali.phone.serial, phone_lab.adb_port),
    }


def run_with(device: AdbDevice, program: CompiledProgram) -> MaceRunResult:
    """Start a fresh process on a tuned phone whose storage holds ``program``."""
    layout = Layout(DEFAULT_ROOT, "/vendor/bin/mace_run", "fashion_mnist")
    model = load_deployment(FASHION).models["fashion_mnist"]
    storage = layout.storage("foreign")
    device.remove(storage)
    make_folders(device, storage)
    device.push(program.serialize(), layout.compiled_program("foreign"))
    invocation = replace(base_invocation(layout, model), storage_dir=storage, vlog_level=3)
    return MaceRunSession(device).run(invocation, timeout_s=120)


PAIRS = [("adreno", "mali"), ("mali", "adreno")]


@pytest.mark.parametrize("kind", ["adreno", "mali"])
def test_on_its_own_phone_every_program_comes_from_the_file(
    programs: dict[str, CompiledProgram], phones: dict[str, AdbDevice], kind: str
) -> None:
    sources = run_with(phones[kind], programs[kind]).programs
    assert set(sources.cache) == set(programs[kind].programs)
    assert sources.source == ()


@pytest.mark.parametrize(("origin", "other"), PAIRS)
def test_the_rule_refuses_it_on_the_other_phone(
    programs: dict[str, CompiledProgram], phones: dict[str, AdbDevice], origin: str, other: str
) -> None:
    sources = run_with(phones[other], programs[origin]).programs
    assert sources.cache == ()
    assert len(sources.source) == len(programs[other].programs)


@pytest.mark.parametrize(("origin", "other"), PAIRS)
def test_the_oracle_foretold_it(
    programs: dict[str, CompiledProgram], origin: str, other: str
) -> None:
    there = programs[other]
    name, profile, version, mace = there.platform_info.split(", ")
    gpu = GpuIdentity(
        gpu_type=GpuType.MALI if other == "mali" else GpuType.ADRENO,
        device_name=there.device_name or "",
        platform_name=name,
        platform_profile=profile,
        platform_version=version,
        mace_version=mace,
    )
    assert forecast(there, gpu).cache.accepted
    refused = forecast(programs[origin], gpu)
    assert not refused.usable
    assert refused.cache.reason


@pytest.mark.parametrize(("origin", "other"), PAIRS)
def test_the_driver_refuses_what_slipped_past_the_rule(
    programs: dict[str, CompiledProgram], phones: dict[str, AdbDevice], origin: str, other: str
) -> None:
    forged = CompiledProgram.build(
        platform_info=programs[other].platform_info,
        device_name=programs[other].device_name or "",
        programs=programs[origin].programs.values(),
    )
    result = run_with(phones[other], forged)
    assert result.programs.cache == ()
    refusals = [
        text for text in result.warnings if classify_warning(text) is WarningKind.PROGRAM_REFUSED
    ]
    assert len(refusals) == len(result.programs.source) > 0
