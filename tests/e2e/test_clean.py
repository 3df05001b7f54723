"""``droidmace clean`` leaves a phone as it was before."""

from __future__ import annotations

from collections.abc import Callable

from droidmace.emulator.manager import Phone
from tests.conftest import PhoneLab
from tests.e2e.conftest import Droidmace

ROOT = "/data/local/tmp"


def test_only_droidmaces_own_files_go(
    droidmace: Droidmace, phone_lab: PhoneLab, start_phone: Callable[..., Phone]
) -> None:
    phone = start_phone("cleaned", "adreno")
    phone_lab.output(phone, f"cd {ROOT} && mkdir -p mace_run/models mace_run.lock && : > mine")
    busy = droidmace("clean", "--serial", phone.serial, "--json")
    assert busy.code == 2
    assert busy.error["error"] == "DeviceBusyError"
    done = droidmace("clean", "--serial", phone.serial, "--force", "--json")
    assert done.code == 0, done.stderr
    assert done.document["removed"] == [f"{ROOT}/mace_run", f"{ROOT}/mace_run.lock"]
    assert phone_lab.output(phone, f"ls {ROOT}") == "mine"
    again = droidmace("clean", "--serial", phone.serial)
    assert again.code == 0
    assert "nothing" in again.stdout
