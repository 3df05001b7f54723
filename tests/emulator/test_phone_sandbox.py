"""What runs on a phone cannot get out of it. Every escape is tried for real, over adb."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from droidmace.emulator.manager import Phone
from droidmace.emulator.sandbox import cpu_mounts

if TYPE_CHECKING:
    from conftest import PhoneLab

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that the phone must not see."""
    path = tmp_path / "secret.txt"
    path.write_text("the host's secret")
    return path


def test_etc_passwd_is_the_phones_own(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    content = phone_lab.output(adreno_phone, "cat /etc/passwd")
    assert content != Path("/etc/passwd").read_text().rstrip("\n")
    assert "shell:x:2000:2000" in content


@pytest.mark.parametrize(
    "path",
    [
        str(REPOSITORY),
        sys.prefix,
        sys.base_prefix if sys.base_prefix != "/usr" else "/usr/share/doc",
        "/home",
        "/root",
        "/tmp",
        "/var",
        "/etc/shadow",
        "/proc/1/root/home",
        "/proc/self/root/home",
        "/usr/bin/env",
    ],
)
def test_host_paths_do_not_exist(phone_lab: PhoneLab, adreno_phone: Phone, path: str) -> None:
    assert path.startswith("/proc") or Path(path).exists()
    result = phone_lab.shell(adreno_phone, f"ls -d {path}")
    assert result.returncode != 0
    assert "No such file" in result.stdout + result.stderr


def test_symlink_to_the_host_cannot_be_pulled(
    phone_lab: PhoneLab, adreno_phone: Phone, secret: Path, tmp_path: Path
) -> None:
    links = {"absolute": str(secret), "relative": "../../.." + str(secret)}
    for name, target in links.items():
        link = f"/data/local/tmp/{name}"
        phone_lab.output(adreno_phone, f"ln -sfn {target} {link}")
        result = phone_lab.run_adb("-s", adreno_phone.serial, "pull", link, str(tmp_path / name))
        assert result.returncode != 0
        assert not (tmp_path / name).exists()


def test_dots_do_not_lead_out(
    phone_lab: PhoneLab, adreno_phone: Phone, secret: Path, tmp_path: Path
) -> None:
    way = "/data/local/tmp" + "/.." * 12 + str(secret)
    pulled = phone_lab.run_adb("-s", adreno_phone.serial, "pull", way, str(tmp_path / "got"))
    assert pulled.returncode != 0
    assert not (tmp_path / "got").exists()
    assert phone_lab.shell(adreno_phone, f"cat {way}").returncode != 0


def test_pushing_outside_leaves_the_host_alone(
    phone_lab: PhoneLab, adreno_phone: Phone, secret: Path
) -> None:
    phone_lab.output(adreno_phone, f"ln -sfn {secret.parent} /data/local/tmp/out")
    for target in (str(secret.parent / "new"), "/data/local/tmp/out/new", str(secret)):
        result = phone_lab.run_adb("-s", adreno_phone.serial, "push", str(secret), target)
        assert result.returncode != 0
    assert [path.name for path in secret.parent.iterdir()] == ["secret.txt"]
    assert secret.read_text() == "the host's secret"


@pytest.mark.parametrize(
    "path",
    [
        "/new",
        "/system/bin/new",
        "/system/build.prop",
        "/vendor/new",
        "/vendor/lib/python/droidmace/__init__.py",
        "/vendor/lib/python/droidmace/new.py",
        "/sys/class/power_supply/battery/capacity",
        "/dev/new",
        "/usr/new",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/self/oom_score_adj",
    ],
)
def test_the_system_is_read_only(phone_lab: PhoneLab, adreno_phone: Phone, path: str) -> None:
    result = phone_lab.shell(adreno_phone, f"echo x > {path}")
    assert result.returncode != 0
    assert "Read-only file system" in result.stdout + result.stderr


def test_commands_have_no_privileges(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    assert phone_lab.output(adreno_phone, "id -u") == "2000"
    status = phone_lab.output(adreno_phone, "cat /proc/self/status")
    assert re.search(r"^CapEff:\s*0+$", status, re.M)
    assert re.search(r"^CapBnd:\s*0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.M)
    refused = (
        "mount -t tmpfs none /data/local",
        "mount -o remount,rw /",
        "umount /proc",
        "mknod /data/local/tmp/disk b 8 0",
        "chroot /data /system/bin/sh",
    )
    for command in refused:
        assert phone_lab.shell(adreno_phone, command).returncode != 0, command


def test_no_nested_user_namespace(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    assert phone_lab.shell(adreno_phone, "unshare -U true").returncode != 0


def test_host_processes_are_invisible(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    mine = os.getpid()
    assert phone_lab.shell(adreno_phone, f"ls -d /proc/{mine}").returncode != 0
    assert phone_lab.shell(adreno_phone, f"kill -0 {mine}").returncode != 0
    processes = phone_lab.output(adreno_phone, "ps -A -o PID,ARGS")
    assert "pytest" not in processes
    assert str(adreno_phone.folder) not in processes


def test_environment_of_the_host_is_not_inherited(
    phone_lab: PhoneLab, start_phone: Callable[..., Phone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET_VARIABLE", "do-not-tell")
    phone = start_phone()
    everything = phone_lab.shell(phone, "env; cat /proc/[0-9]*/environ").stdout
    assert "ANDROID_ROOT=/system" in everything
    assert "HOST_SECRET_VARIABLE" not in everything
    assert str(Path.home()) not in everything


def test_no_network(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0)
        port = server.getsockname()[1]
        assert phone_lab.shell(adreno_phone, f"nc -w 2 127.0.0.1 {port} </dev/null").returncode != 0
        with pytest.raises(BlockingIOError):
            server.accept()
    devices = phone_lab.output(adreno_phone, "cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]


def test_no_descriptor_of_the_host_is_inherited(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    listing = phone_lab.output(adreno_phone, "ls -l /proc/self/fd")
    targets = re.findall(r"-> (\S+)", listing)
    assert all(target.startswith(("pipe:", "socket:", "/proc/", "/dev/")) for target in targets)
    assert len(targets) <= 5


_TAKE_SOCKETS = """
import ctypes, os, socket
PIDFD_GETFD = 438
libc = ctypes.CDLL(None, use_errno=True)
for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
    if pid in (os.getpid(), os.getppid()):
        continue
    process = os.pidfd_open(pid)
    for number in range(64):
        taken = libc.syscall(PIDFD_GETFD, process, number, 0)
        if taken >= 0 and os.readlink(f"/proc/self/fd/{taken}").startswith("socket:"):
            print("took", socket.socket(fileno=taken))
print("tried")
"""


def test_the_daemons_sockets_cannot_be_taken(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    """They belong to the host's network: disconnected, they could be connected to anything."""
    program = f"/vendor/bin/python3 -c {shlex.quote(_TAKE_SOCKETS)}"
    assert phone_lab.output(adreno_phone, program) == "tried"


def test_a_host_whose_kernel_knows_no_clocks(tmp_path: Path) -> None:
    """Then there is no place for the phone's cpufreq: the folder is put together from its parts."""
    for name in ("cpu/cpu0", "cpu/online", "node/node0"):
        (tmp_path / "devices" / name).mkdir(parents=True)
    ours = tmp_path / "ours"
    mounts = {one.target: one.source for one in cpu_mounts(tmp_path / "devices", ours)}
    assert mounts == {
        "/sys/devices/system/node": tmp_path / "devices/node",
        "/sys/devices/system/cpu/cpu0": tmp_path / "devices/cpu/cpu0",
        "/sys/devices/system/cpu/online": tmp_path / "devices/cpu/online",
        "/sys/devices/system/cpu/cpufreq": ours,
    }
    (tmp_path / "devices/cpu/cpufreq").mkdir()
    mounts = {one.target: one.source for one in cpu_mounts(tmp_path / "devices", ours)}
    assert mounts == {
        "/sys/devices/system": tmp_path / "devices",
        "/sys/devices/system/cpu/cpufreq": ours,
    }
