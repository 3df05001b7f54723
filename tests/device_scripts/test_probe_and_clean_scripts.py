"""probe.sh and clean.sh under mksh and dash with toybox; syntax of all scripts."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from droidmace.devices.probe import probe
from droidmace.resources import device_scripts_dir

SCRIPTS = sorted(device_scripts_dir().glob("*.sh"))


@pytest.mark.parametrize("shell", ["mksh", "dash", "bash"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_parses_in(shell, script):
    program = shutil.which(shell)
    if program is None:
        pytest.fail(f"{shell} is not installed: make test installs it")
    result = subprocess.run(
        [program, "-n", str(script)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_there_are_scripts():
    names = {"probe", "run", "clean", "monitor", "cooldown", "governor"}
    assert {path.stem for path in SCRIPTS} >= names


def test_probe_reads_a_phone(shell_device, toybox_path, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    _tool(tools / "getprop", "echo '[ro.product.model]: [MI 9]'; echo '[ro.hardware]: [qcom]'")
    _tool(
        tools / "dumpsys",
        'case $1 in battery) echo "  level: 84"; echo "  scale: 100"; echo "  USB powered: true"; '
        'echo "  temperature: 305";; '
        'SurfaceFlinger) echo "GLES: Qualcomm, Adreno (TM) 640, OpenGL ES 3.2 V@0502.0";; esac',
    )
    shell_device._environment["PATH"] = f"{tools}:{toybox_path}"
    report = probe(shell_device)
    assert report.complete
    assert (report.model, report.device_name, report.soc) == ("MI 9", "MI9", "qcom")
    assert (report.gpu_vendor, report.gpu) == ("Qualcomm", "Adreno (TM) 640")
    assert report.battery is not None
    assert (report.battery.level_percent, report.battery.charging) == (84, True)
    assert report.battery.temperature_c == 30.5
    assert report.machine == subprocess.check_output(["uname", "-m"], text=True).strip()
    assert report.uptime_s is not None
    assert report.uptime_s > 0


def test_clean_removes_only_what_is_ours(shell_device, scripts, tmp_path):
    (tmp_path / "mace_run" / "interior").mkdir(parents=True)
    (tmp_path / "mace_run" / "interior" / "cache.bin").write_bytes(b"x")
    (tmp_path / "somebody").mkdir()
    (tmp_path / "mace_run.mine").write_text("kept")
    result = _clean(shell_device, scripts, str(tmp_path))
    assert result.exit_code == 0
    assert result.text.splitlines() == [str(tmp_path / "mace_run")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mace_run.mine", "somebody"]


def test_clean_does_not_follow_a_link(shell_device, scripts, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (tmp_path / "mace_run").symlink_to(precious)
    assert _clean(shell_device, scripts, str(tmp_path)).exit_code == 0
    assert (precious / "file").read_text() == "kept"
    assert not (tmp_path / "mace_run").is_symlink()


def test_clean_respects_the_lock_unless_forced(shell_device, scripts, tmp_path):
    (tmp_path / "mace_run").mkdir()
    (tmp_path / "mace_run.lock").mkdir()
    assert _clean(shell_device, scripts, str(tmp_path)).exit_code == 75
    assert (tmp_path / "mace_run").is_dir()
    assert _clean(shell_device, scripts, "-f", str(tmp_path)).exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_clean_puts_pinned_governors_back(shell_device, scripts, fake_sys, tmp_path):
    policy = fake_sys.policy(0, "performance")
    state = tmp_path / "mace_run.governors"
    state.write_text(f"holder 4194304 17\ngovernor {policy} schedutil\n")
    (tmp_path / "mace_run.monitor").write_text("samples")
    alone = tmp_path / "alone" / "clean.sh"
    alone.parent.mkdir()
    shutil.copy(scripts / "clean.sh", alone)
    line = shlex.join([str(alone), str(tmp_path)])
    result = shell_device.run(f'"$SHELL_UNDER_TEST" {line}')
    assert result.exit_code == 1
    assert "still pinned" in result.error_text
    assert state.exists()
    assert not (tmp_path / "mace_run.monitor").exists()
    assert _clean(shell_device, scripts, str(tmp_path)).exit_code == 0
    assert policy.read_text() == "schedutil\n"
    assert not state.exists()


@pytest.mark.parametrize("base", ["/", "relative", "../x"])
def test_clean_refuses_odd_folders(shell_device, scripts, base):
    assert _clean(shell_device, scripts, base).exit_code == 2


def _clean(device, scripts, *arguments):
    line = shlex.join([str(scripts / "clean.sh"), *arguments])
    return device.run(f'"$SHELL_UNDER_TEST" {line}')


def _tool(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
