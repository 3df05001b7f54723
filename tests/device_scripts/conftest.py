"""The scripts run under the shells they will meet: mksh with toybox, and dash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from fake_sys import FakeSys

from droidmace.devices.local import LocalDevice


@pytest.fixture(scope="session")
def toybox_path(tmp_path_factory):
    """A folder with a link to toybox for each of its commands."""
    toybox = shutil.which("toybox")
    if toybox is None:
        pytest.fail("toybox is not installed: apt install toybox mksh")
    folder = tmp_path_factory.mktemp("toybox")
    for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
        (folder / name).symlink_to(toybox)
    (folder / "sh").symlink_to(shutil.which("mksh"))
    # Android's grep is toybox's as well; Debian builds it without.
    for name in ("grep", "getconf"):
        if not (folder / name).exists():
            (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture(params=["mksh", "dash"])
def shell_device(request, toybox_path, tmp_path, tmp_path_factory):
    """A device whose shell is the one under test, with toybox as its only tools."""
    shell = shutil.which(request.param)
    assert shell is not None, f"{request.param} is not installed"
    # Scripts that start shells shall get this one.
    first = tmp_path_factory.mktemp(request.param)
    (first / "sh").symlink_to(shell)
    return LocalDevice(
        tmp_path,
        shell=shell,
        environment={
            "PATH": f"{first}:{toybox_path}",
            "SHELL_UNDER_TEST": shell,
            "HOME": str(tmp_path),
            "DROIDMACE_SYS": str(tmp_path / "sys"),
        },
    )


@pytest.fixture
def fake_sys(tmp_path) -> FakeSys:
    """What the scripts under test take for /sys; empty at first."""
    return FakeSys(tmp_path / "sys")


@pytest.fixture(scope="session")
def scripts() -> Path:
    from droidmace.resources import device_scripts_dir

    return device_scripts_dir()
