"""Starting, stopping and keeping phones; what is left of one; what cannot be started."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from droidmace.emulator import manager
from droidmace.emulator.manager import Phone, PhoneState
from droidmace.emulator.supervisor import listen_on_loopback
from droidmace.errors import ConfigError, EmulatorError, MissingExtraError

if TYPE_CHECKING:
    from conftest import PhoneLab

Start = Callable[..., Phone]


def children_of(pid: int) -> Iterator[int]:
    """All descendants of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from children_of(int(child))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_two_phones_at_once(phone_lab: PhoneLab, adreno_phone: Phone, mali_phone: Phone) -> None:
    assert adreno_phone.serial != mali_phone.serial
    assert adreno_phone.serialno != mali_phone.serialno
    for phone, model in ((adreno_phone, "MI 9"), (mali_phone, "SM-G991B")):
        assert phone_lab.output(phone, "getprop ro.product.model") == model
        assert phone_lab.output(phone, "getprop ro.serialno") == phone.serialno
        assert phone in manager.list_phones()
    phone_lab.output(adreno_phone, "echo a > /data/local/tmp/whose")
    assert phone_lab.shell(mali_phone, "cat /data/local/tmp/whose").returncode != 0


def test_ports_are_out_of_reach_of_adb_servers(adreno_phone: Phone) -> None:
    host, _, port = adreno_phone.serial.partition(":")
    assert host == "127.0.0.1"
    assert int(port) not in range(5555, 5587)
    with listen_on_loopback(5555) as listener:
        assert listener.getsockname()[1] not in range(5555, 5587)


def test_a_stopped_phone_starts_as_it_was(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone("kept", "mali", overrides={"model": "Kept One"})
    phone_lab.output(phone, "setprop persist.kept yes; setprop debug.gone yes")
    phone_lab.output(phone, "echo content > /sdcard/file; ln -s /nowhere /data/local/tmp/link")
    manager.stop_phone("kept")
    assert manager.get_phone("kept").state is PhoneState.STOPPED
    again = start_phone("kept")
    assert (again.serial, again.serialno) == (phone.serial, phone.serialno)
    assert (again.profile, again.driver) == ("mali", "pocl")
    assert phone_lab.output(again, "getprop ro.product.model") == "Kept One"
    assert phone_lab.output(again, "getprop persist.kept") == "yes"
    assert phone_lab.output(again, "getprop debug.gone") == ""
    assert phone_lab.output(again, "cat /sdcard/file") == "content"
    assert phone_lab.output(again, "readlink /data/local/tmp/link") == "/nowhere"


def test_a_taken_port_is_left_to_its_owner(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone("moved")
    manager.stop_phone("moved")
    port = int(phone.serial.rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        again = start_phone("moved")
        assert again.serial != phone.serial
        assert phone_lab.output(again, "getprop ro.serialno") == phone.serialno


def test_an_ota_changes_the_gpu_identity(phone_lab: PhoneLab, start_phone: Start) -> None:
    start_phone("ota")
    manager.stop_phone("ota")
    version = "OpenCL 2.0 QUALCOMM Date: 01/02/23 {driver_version}"
    phone = start_phone("ota", overrides={"gpu.platform_version": version})
    identity = phone_lab.output(phone, "cat $DROIDMACE_GPU_IDENTITY")
    assert "Date: 01/02/23 2" in identity
    assert '"device_name": "QUALCOMM Adreno(TM)"' in identity


def test_limited_storage(phone_lab: PhoneLab, start_phone: Start, tmp_path: Path) -> None:
    phone = start_phone("small", "mali", storage="8M")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(9 << 20))
    pushed = phone_lab.run_adb("-s", phone.serial, "push", str(big), "/data/local/tmp/big")
    assert pushed.returncode != 0
    assert "No space left on device" in pushed.stdout + pushed.stderr
    written = phone_lab.shell(phone, "dd if=/dev/zero of=/sdcard/zeros bs=65536 count=200")
    assert "No space left on device" in written.stderr
    phone_lab.output(phone, "rm /sdcard/zeros; echo kept > /sdcard/small; truncate -s 1T /sdcard/t")
    phone_lab.output(phone, "rm /sdcard/t")
    manager.stop_phone("small")
    again = start_phone("small")
    assert phone_lab.output(again, "cat /sdcard/small") == "kept"
    assert phone_lab.output(again, "df /data | tail -n 1").split()[1] == "8192"
    again.reboot()
    assert phone_lab.output(again, "cat /sdcard/small") == "kept"


def test_odd_files_do_not_keep_limited_storage_from_being_saved(
    phone_lab: PhoneLab, start_phone: Start
) -> None:
    phone = start_phone("odd", driver="none", storage="8M")
    program = "import socket; socket.socket(socket.AF_UNIX).bind('socket')"
    make = f"""cd /data/local/tmp && mkdir -p shut/in && echo kept > shut/in/file && mkfifo fifo &&
        chmod 000 shut/in/file shut/in shut && /vendor/bin/python3 -c "{program}" """
    phone_lab.output(phone, make)
    manager.stop_phone("odd")
    start_phone("odd")
    assert phone_lab.output(phone, "cat /data/local/tmp/shut/in/file") == "kept"
    assert phone_lab.output(phone, "ls /data/local/tmp").split() == ["fifo", "shut"]


def test_limited_storage_that_cannot_be_saved_is_no_clean_stop(
    phone_lab: PhoneLab, start_phone: Start
) -> None:
    phone = start_phone("unsaved", driver="none", storage="8M")
    phone_lab.output(phone, "echo first > /sdcard/file")
    manager.stop_phone("unsaved")
    # A host's disk that gets full looks like this to the phone: writing its archive fails.
    limited = f"ulimit -f 2000; exec {sys.executable} -m droidmace phone start unsaved"
    subprocess.run(["bash", "-c", limited], check=True, stdout=subprocess.DEVNULL)
    fill = "for n in 1 2 3 4 5; do head -c 1000000 /dev/urandom > /sdcard/$n; done"
    phone_lab.output(phone, f"echo second > /sdcard/file; {fill}")
    with pytest.raises(EmulatorError, match="could not be saved"):
        manager.stop_phone("unsaved")
    assert manager.get_phone("unsaved").state is PhoneState.STOPPED
    start_phone("unsaved")
    assert phone_lab.output(phone, "cat /sdcard/file") == "first"


def test_nothing_is_left_after_stop(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone()
    phone_lab.output(phone, "(setsid sleep 99 >/dev/null 2>&1 &)")
    processes = [phone.pid, *children_of(phone.pid)]
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes]
    assert any(b"sleep" in command for command in commands)
    manager.stop_phone(phone.name)
    assert [pid for pid in processes if is_alive(pid)] == []
    assert not (phone.folder / "run.json").exists()
    assert phone.serial not in phone_lab.run_adb("devices").stdout
    manager.stop_phone(phone.name)  # a second time is fine


@pytest.mark.parametrize("victim", ["supervisor", "daemon"])
def test_a_crash_is_told_and_cleaned_up(start_phone: Start, victim: str) -> None:
    phone = start_phone()
    processes = [phone.pid, *children_of(phone.pid)]
    if victim == "supervisor":
        phone.crash()
    else:
        supervisor = os.pidfd_open(phone.pid)
        os.kill(processes[-1], signal.SIGKILL)  # started last: the daemon
        assert select.select([supervisor], [], [], 20.0)[0]
        os.close(supervisor)
    assert [pid for pid in processes if is_alive(pid)] == []
    assert manager.get_phone(phone.name).state is PhoneState.CRASHED
    with pytest.raises(EmulatorError, match="cannot be reached"):
        phone.ping()
    again = start_phone(phone.name)
    assert again.state is PhoneState.RUNNING
    assert again.serial == phone.serial


def test_a_folder_that_is_removed_takes_its_phone_along(start_phone: Start) -> None:
    phone = start_phone(driver="none")
    processes = [phone.pid, *children_of(phone.pid)]
    supervisor = os.pidfd_open(phone.pid)
    shutil.rmtree(phone.folder)
    assert select.select([supervisor], [], [], 30.0)[0]
    os.close(supervisor)
    assert [pid for pid in processes if is_alive(pid)] == []


def test_a_phone_whose_starter_was_killed_ends(start_phone: Start) -> None:
    phone = start_phone("orphan", driver="none")
    manager.stop_phone("orphan")
    ready_read, ready_write = os.pipe()
    os.close(ready_read)
    command = [sys.executable, "-m", "droidmace.emulator.supervisor", str(phone.folder)]
    # The pipe of its output ends with the last process of the phone.
    ended = subprocess.run(
        [*command, str(ready_write)],
        pass_fds=[ready_write], capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    os.close(ready_write)
    assert "serving on" in ended.stderr
    assert "nobody waited for us" in ended.stderr
    assert manager.get_phone("orphan").state is PhoneState.STOPPED


def test_a_phones_stale_process_numbers_are_not_trusted(start_phone: Start) -> None:
    """After a crash, another process may have the supervisor's number."""
    phone = start_phone("stale", driver="none")
    phone.crash()
    run = json.loads((phone.folder / "run.json").read_text())
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (phone.folder / "run.json").write_text(json.dumps(run | {"pid": bystander.pid}))
        with pytest.raises(EmulatorError):
            start_phone("stale", driver="/nowhere/lib.so")
        manager.stop_phone("stale")
        assert bystander.poll() is None
        bystander.kill()


def test_whatever_a_phone_left_can_be_deleted(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone("deep", driver="none")
    program = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')"
    phone_lab.output(phone, f'cd /data/local/tmp; /vendor/bin/python3 -c "{program}"')
    manager.delete_phone("deep")
    assert not phone.folder.exists()
    assert [path.name for path in phone_lab.root.glob(".removed*")] == []


def test_a_phone_that_closed_its_own_folders_starts_again(
    phone_lab: PhoneLab, start_phone: Start
) -> None:
    phone = start_phone("closed", driver="none")
    phone_lab.output(phone, "chmod 000 /data/local /data/media /data")
    manager.stop_phone("closed")
    start_phone("closed")
    assert phone_lab.output(phone, "echo back > /data/local/tmp/x; cat /data/local/tmp/x") == "back"


def test_a_damaged_phone_disturbs_no_other(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone("damaged", driver="none")
    (phone.folder / "phone.json").write_text("{")
    states = {each.name: each.state for each in manager.list_phones()}
    assert states["damaged"] is PhoneState.DAMAGED
    manager.delete_phone("damaged")
    assert not is_alive(phone.pid)
    assert "damaged" not in [each.name for each in manager.list_phones()]


def test_starting_twice(adreno_phone: Phone) -> None:
    with pytest.raises(EmulatorError, match="running already") as caught:
        manager.start_phone(adreno_phone.name)
    assert caught.value.hint == f"droidmace phone stop {adreno_phone.name}"


def test_faults_and_stats(phone_lab: PhoneLab, start_phone: Start, tmp_path: Path) -> None:
    phone = start_phone(overrides={"link_mib_per_s": 50})
    content = tmp_path / "content"
    content.write_bytes(bytes(5000))
    for target in ("/data/local/tmp/a/one", "/sdcard/two"):
        phone_lab.run_adb("-s", phone.serial, "push", str(content), target)
    stats = phone.stats("/data/local/tmp")
    assert stats["pushed_bytes"] == 10_000
    assert stats["prefixes"] == {"/data/local/tmp": {"pushed_bytes": 5000, "pulled_bytes": 0}}
    with pytest.raises(EmulatorError, match="unknown kind of fault 'rain'"):
        phone.fault({"kind": "rain"})
    phone.fault({"kind": "unplug", "now": True, "refuse": True})
    phone_lab.run_adb("-s", phone.serial, "wait-for-disconnect")  # it stays away: no race
    assert phone_lab.run_adb("devices").stdout.count(f"{phone.serial}\tdevice") == 0
    phone.clear_faults()
    phone.wait_for_adb()
    assert phone_lab.output(phone, "echo back") == "back"


def test_the_profiles_link_speed_is_the_daemons(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone(overrides={"link_mib_per_s": 2}, driver="none")
    config = phone_lab.output(phone, "cat /system/etc/adbd.json")
    assert json.loads(config)["link_bytes_per_s"] == 2 << 20


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "x" * 40, "-x"])
def test_bad_names(phone_lab: PhoneLab, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a phone"):
        manager.start_phone(name)
    with pytest.raises(EmulatorError, match="there is no emulated phone"):
        manager.stop_phone(name)


def test_a_folder_that_cannot_be_written(
    phone_lab: PhoneLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(manager.ROOT_VARIABLE, str(tmp_path / "file" / "phones"))
    with pytest.raises(EmulatorError, match="Not a directory") as caught:
        manager.start_phone()
    assert manager.ROOT_VARIABLE in str(caught.value.hint)


def test_where_phones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(manager.ROOT_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert manager.phones_root() == tmp_path / ".local/state/droidmace/phones"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert manager.phones_root() == tmp_path / "state/droidmace/phones"


def test_missing_driver(phone_lab: PhoneLab, tmp_path: Path) -> None:
    with pytest.raises(EmulatorError, match="no OpenCL driver 'quantum'") as caught:
        manager.start_phone("driverless", driver="quantum")
    assert "droidmace[emulator]" in str(caught.value.hint)
    with pytest.raises(EmulatorError, match="no OpenCL driver at"):
        manager.start_phone("driverless", driver=str(tmp_path / "libOpenCL.so"))
    assert "driverless" not in [phone.name for phone in manager.list_phones()]


def test_a_missing_package_is_named(phone_lab: PhoneLab, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python takes for "there is no such module", whatever is installed.
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    with pytest.raises(MissingExtraError, match="pyopencl") as caught:
        manager.start_phone("without", "adreno")
    assert caught.value.hint == "pip install 'droidmace[emulator]'"
    assert "without" not in [phone.name for phone in manager.list_phones()]


def test_phone_without_opencl(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone(driver="none")
    assert phone_lab.shell(phone, "ls /system/vendor/lib64/libOpenCL.so").returncode != 0
    assert phone_lab.output(phone, "ls $OCL_ICD_VENDORS") == ""


def test_one_abi(phone_lab: PhoneLab, start_phone: Start) -> None:
    phone = start_phone(abi="armeabi-v7a", driver="none")
    assert phone_lab.output(phone, "getprop ro.product.cpu.abilist") == "armeabi-v7a"
    assert phone_lab.output(phone, "getprop ro.product.cpu.abi") == "armeabi-v7a"


def test_missing_tools_are_named(
    phone_lab: PhoneLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mksh").symlink_to(str(shutil.which("mksh")))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulatorError) as caught:
        manager.start_phone()
    assert caught.value.hint == "apt-get install bubblewrap toybox"


def test_a_sandbox_that_fails_is_reported(
    phone_lab: PhoneLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho bwrap: no namespaces here >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(EmulatorError, match="went down while booting") as caught:
        manager.start_phone("unbooted")
    assert "no namespaces here" in str(caught.value.details)
    assert "must be allowed to make user namespaces" in str(caught.value.hint)
    assert not (phone_lab.root / "unbooted").exists()


def test_the_adb_server_goes_with_the_last_phone(
    phone_lab: PhoneLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv(manager.ROOT_VARIABLE, str(tmp_path / ("deep" * 40) / "phones"))
    monkeypatch.setenv("DROIDMACE_PHONE_ADB_PORT", str(port))
    first, second = manager.start_phone(driver="none"), manager.start_phone(driver="none")
    try:
        assert first.adb_server.is_running()
        manager.stop_phone(first.name)
        assert second.adb_server.states() == {second.serial: "device"}
    finally:
        manager.stop_phone(second.name)
    assert not second.adb_server.is_running()


def test_a_damaged_state_file_is_named(start_phone: Start) -> None:
    phone = start_phone(driver="none")
    manager.stop_phone(phone.name)
    record = phone.folder / "phone.json"
    content = record.read_bytes()
    record.write_bytes(content[: len(content) // 2])
    try:
        with pytest.raises(EmulatorError, match="damaged state file") as caught:
            manager.start_phone(phone.name)
        assert caught.value.where == str(record)
    finally:
        record.write_bytes(content)


def test_real_elf_runs(phone_lab: PhoneLab, adreno_phone: Phone, tmp_path: Path) -> None:
    program = str(shutil.which("true"))
    target = "/data/local/tmp/program"
    assert phone_lab.run_adb("-s", adreno_phone.serial, "push", program, target).returncode == 0
    phone_lab.output(adreno_phone, f"chmod 755 {target} && {target} && rm {target}")
