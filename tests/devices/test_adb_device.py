"""AdbDevice through a real adb server against the emulated phone's daemon."""

from __future__ import annotations

import hashlib
import os
import shlex
import threading
import time

import pytest
from bare_phone import is_running, wait_until

from droidmace.devices.base import MAX_OUTPUT_BYTES
from droidmace.errors import (
    DeviceError,
    DeviceLostError,
    DeviceStorageError,
    DeviceTimeoutError,
    InputError,
)
from droidmace.macerun.invocation import Invocation, TensorArg
from droidmace.macerun.session import MaceRunSession, WatchLimits
from droidmace.resources import device_scripts_dir


@pytest.fixture
def device(shared_phone):
    return shared_phone.device


class TestRun:
    def test_gives_exit_code_and_both_streams(self, device):
        result = device.run("echo out; echo err >&2; exit 3")
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")

    def test_a_signal_is_128_plus_its_number(self, device):
        assert device.run("sh -c 'kill -ABRT $$'").exit_code == 134

    def test_output_is_byte_for_byte(self, device, tmp_path):
        blob = os.urandom(3_000_001)
        (tmp_path / "blob").write_bytes(blob)
        assert device.run(f"cat {shlex.quote(str(tmp_path / 'blob'))}").stdout == blob

    def test_no_newline_is_added(self, device):
        assert device.run("printf x").stdout == b"x"
        assert device.run("true").stdout == b""

    def test_stdin_arrives_and_ends(self, device):
        blob = os.urandom(1_000_000)
        result = device.run("sha256sum", stdin=blob)
        assert result.text.split()[0] == hashlib.sha256(blob).hexdigest()

    def test_stdin_and_output_larger_than_all_buffers(self, device):
        blob = bytes(20_000_000)
        assert device.run("cat", stdin=blob).stdout == blob

    def test_without_stdin_a_reader_sees_the_end(self, device):
        assert device.run("cat; echo done", timeout_s=10).stdout == b"done\n"

    def test_a_terminal_merges_the_streams(self, device):
        result = device.run("tty; echo err >&2; exit 4", pty=True)
        assert result.exit_code == 4
        assert result.stderr == b""
        assert result.stdout.startswith(b"/dev/")
        assert result.stdout.endswith(b"\r\nerr\r\n")

    def test_a_syntax_error_is_a_result(self, device):
        result = device.run("echo 'unclosed")
        assert result.exit_code != 0
        assert result.stderr != b""

    def test_quotes_survive(self, device):
        odd = "a'b\"c$HOME`id`\\ \n*"
        assert device.run(f"printf %s {shlex.quote(odd)}").text == odd

    def test_deadline_holds_for_trickling_output(self, device):
        with pytest.raises(DeviceTimeoutError, match="within 1 s"):
            device.run("while :; do echo x; sleep 0.1; done", timeout_s=1)

    def test_output_is_bounded(self, device, monkeypatch):
        monkeypatch.setattr("droidmace.devices.adb.MAX_OUTPUT_BYTES", 1 << 20)
        with pytest.raises(DeviceError, match="printed more than"):
            device.run("while :; do echo yes yes yes yes yes yes yes yes; done")
        assert MAX_OUTPUT_BYTES > 1 << 20

    def test_a_command_line_too_long_for_adb_is_refused(self, device):
        with pytest.raises(DeviceError, match="too long"):
            device.run("echo " + "x" * 70_000)


class TestStart:
    @pytest.mark.parametrize("error", [ValueError("closed"), OSError("disk"), InputError("spool")])
    def test_what_the_input_raises_is_raised_where_the_output_is_read(
        self, device, tmp_path, error
    ):
        came = threading.Event()

        def pieces():
            yield b"some"
            came.wait(20)
            raise error

        pids = tmp_path / "pids"
        command = f"echo $$ > {pids}; cat; sleep 61"
        with device.start(command, timeout_s=50, stdin=pieces()) as process:
            chunks = process.chunks()
            assert next(chunks).data == b"some"
            came.set()
            with pytest.raises(type(error)) as caught:
                list(chunks)
        assert caught.value is error
        pid = pids.read_text().strip()
        wait_until(lambda: not is_running(pid), "the command ends")

    def test_streams_while_the_commandis_running(self, device, tmp_path):
        go = tmp_path / "go"
        command = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo second"
        with device.start(command, timeout_s=20) as process:
            chunks = process.chunks()
            assert next(chunks).data == b"first\n"
            go.touch()
            assert b"".join(chunk.data for chunk in chunks) == b"second\n"
            assert process.exit_code == 0

    def test_the_deadline_counts_from_when_output_is_read(self, device):
        began_s = time.monotonic()
        with device.start("echo x", timeout_s=0.5) as process:
            wait_until(lambda: time.monotonic() > began_s + 0.6, "the time is up")
            assert b"".join(chunk.data for chunk in process.chunks()) == b"x\n"

    @pytest.mark.parametrize("pty", [False, True], ids=["raw", "pty"])
    def test_leaving_early_stops_the_command_and_its_children(self, device, tmp_path, pty):
        pids = tmp_path / "pids"
        command = f"sleep 61 & echo $! > {pids}; sh -c 'echo $$ >> {pids}; echo up; exec sleep 62'"
        with device.start(command, timeout_s=60, pty=pty) as process:
            assert next(process.chunks()).data.startswith(b"up")
        for pid in pids.read_text().split():
            wait_until(lambda pid=pid: not is_running(pid), f"process {pid} ends")

    def test_a_command_that_ignores_term_is_killed(self, device, tmp_path):
        pid_file = tmp_path / "pid"
        command = (
            f"sh -c 'trap \"\" TERM HUP; echo $$ > {pid_file}; echo up; while :; do sleep 1; done'"
        )
        with device.start(command, timeout_s=60) as process:
            assert next(process.chunks()).data == b"up\n"
        assert not is_running(pid_file.read_text().strip())

    def test_a_command_past_its_deadline_is_stopped(self, device, tmp_path):
        pid_file = tmp_path / "pid"
        with (
            pytest.raises(DeviceTimeoutError),
            device.start(f"echo $$ > {pid_file}; exec sleep 63", timeout_s=1) as process,
        ):
            list(process.chunks())
        assert not is_running(pid_file.read_text().strip())

    def test_a_vanished_host_stops_the_command(self, device, tmp_path):
        pid_file = tmp_path / "pid"
        process = device.start(f"echo $$ > {pid_file}; echo up; exec sleep 64", timeout_s=60)
        next(process.chunks())
        process._wire.close()  # As if this process had been killed.
        wait_until(lambda: not is_running(pid_file.read_text().strip()), "the command ends")
        process.close()

    def test_the_exit_code_is_known_only_at_the_end(self, device):
        with device.start("echo up; exec sleep 66", timeout_s=60) as process:
            next(process.chunks())
            with pytest.raises(DeviceError, match="not ended"):
                _ = process.exit_code
        process.close()


def supervised_shell_of(command):
    script = (device_scripts_dir() / "run.sh").read_text()
    return shlex.join(["sh", "-c", script, "run.sh", "/", "--", *command.split()])


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
    def test_push_and_pull_give_the_same_bytes(self, device, shared_phone, tmp_path, size):
        blob = os.urandom(size)
        target = f"{shared_phone.folder}/deep/er/a file"
        assert device.push(blob, target, mode=0o755) == size
        found = device.stat(target)
        assert found is not None
        assert (found.size_bytes, found.mode & 0o777) == (size, 0o755)
        assert device.pull(target, tmp_path / "back") == size
        assert (tmp_path / "back").read_bytes() == blob
        device.remove(f"{shared_phone.folder}/deep")
        assert device.stat(target) is None

    def test_push_tells_its_progress(self, device, shared_phone, tmp_path):
        source = tmp_path / "source"
        source.write_bytes(bytes(200_000))
        seen = []
        device.push(source, f"{shared_phone.folder}/x", progress=lambda *at: seen.append(at))
        assert seen[-1] == (200_000, 200_000)
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})

    def test_push_replaces_a_file_as_a_whole(self, device, shared_phone):
        target = shared_phone.folder / "replaced"
        target.write_bytes(b"old")
        before = target.stat().st_ino
        device.push(b"new", str(target))
        assert target.read_bytes() == b"new"
        assert target.stat().st_ino != before

    def test_sizes_beyond_32_bits_are_told(self, device, shared_phone):
        big = shared_phone.folder / "big"
        with big.open("wb") as stream:
            stream.truncate(5 << 30)
        found = device.stat(str(big))
        big.unlink()
        assert found is not None
        assert found.size_bytes == 5 << 30

    def test_stat_without_the_daemons_help(self, shared_phone):
        device = shared_phone.device
        device._features = frozenset({"shell_v2"})
        big = shared_phone.folder / "big file"
        with big.open("wb") as stream:
            stream.truncate(5 << 30)
        found = device.stat(str(big))
        assert found is not None
        assert found == shared_phone.device.stat(str(big))
        assert device.stat(str(big) + "x") is None
        big.unlink()

    def test_pull_refuses_what_is_too_big(self, device, shared_phone, tmp_path):
        device.push(bytes(1000), f"{shared_phone.folder}/thousand")
        with pytest.raises(DeviceError, match="at most 999"):
            device.pull(f"{shared_phone.folder}/thousand", tmp_path / "x", max_bytes=999)
        assert list(tmp_path.iterdir()) == []

    def test_pull_of_nothing_or_a_folder(self, device, shared_phone, tmp_path):
        with pytest.raises(DeviceError, match="there is no file"):
            device.pull(f"{shared_phone.folder}/missing", tmp_path / "x")
        with pytest.raises(DeviceError, match="is a folder"):
            device.pull(str(shared_phone.folder), tmp_path / "x")
        assert list(tmp_path.iterdir()) == []

    def test_pull_to_where_nothing_can_be_written(self, device, shared_phone, tmp_path):
        device.push(b"x", f"{shared_phone.folder}/x")
        with pytest.raises(InputError, match="cannot be written"):
            device.pull(f"{shared_phone.folder}/x", tmp_path / "missing" / "x")

    def test_push_of_nothing(self, device, shared_phone, tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            device.push(tmp_path / "missing", f"{shared_phone.folder}/x")

    def test_push_onto_a_folder(self, device, shared_phone):
        folder = shared_phone.folder / "folder"
        folder.mkdir()
        with pytest.raises(DeviceStorageError, match="Is a directory"):
            device.push(b"x", str(folder))
        assert list(folder.iterdir()) == []
        assert [path.name for path in folder.parent.glob("*.part*")] == []

    def test_no_space_says_what_is_needed_and_free(self, device, shared_phone):
        folder = shared_phone.small_disk
        with pytest.raises(DeviceStorageError, match="No space left") as caught:
            device.push(bytes(3_000_000), f"{folder}/big")
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("3,000,000 bytes are needed and 1,0")
        assert device.run(f"ls -A {folder}").text == ""

    def test_a_folder_that_cannot_be_written(self, device):
        with pytest.raises(DeviceStorageError, match="Read-only file system") as caught:
            device.push(b"x", "/usr/share/droidmace-test")
        assert caught.value.hint == "check that the shell user may write /usr/share/droidmace-test"

    @pytest.mark.parametrize("path", ["relative", "/a\nb", "/a\x00b", "/" + "x" * 2000])
    def test_odd_paths_are_refused(self, device, path):
        with pytest.raises(InputError):
            device.stat(path)
        with pytest.raises(InputError):
            device.push(b"", path)

    @pytest.mark.parametrize(
        "path", ["/", "/data", "/etc/passwd", "{root}", "{root}/..", "{root}x"]
    )
    def test_remove_keeps_to_its_folder(self, device, shared_phone, path):
        with pytest.raises(InputError, match="outside"):
            device.remove(path.format(root=shared_phone.folder))

    def test_remove_of_nothing_is_fine(self, device, shared_phone):
        device.remove(f"{shared_phone.folder}/never-was")


def test_properties(shared_phone):
    shared_phone.tool("getprop", "echo '[a.b]: [one]'; echo '[c]: [two'; echo 'lines]'")
    assert shared_phone.device.properties() == {"a.b": "one", "c": "two\nlines"}


class TestWhenThePhoneFails:
    def test_killed_during_a_command(self, bare_phone):
        with bare_phone.device.start("echo up; sleep 67", timeout_s=60) as process:
            chunks = process.chunks()
            next(chunks)
            bare_phone.kill()
            with pytest.raises(DeviceLostError, match="went away while running"):
                list(chunks)

    def test_unplugged_during_a_push(self, bare_phone):
        bare_phone.fault(kind="unplug", after_bytes=1_000_000, refuse=True)
        with pytest.raises(DeviceLostError, match="went away while writing"):
            bare_phone.device.push(bytes(8_000_000), f"{bare_phone.folder}/big")
        assert not (bare_phone.folder / "big").exists()

    def test_what_an_unplugged_cable_left_is_no_sample(self, bare_phone):
        bare_phone.fault(kind="unplug", after_bytes=1_000_000)
        with pytest.raises(DeviceLostError):
            bare_phone.device.push(bytes(8_000_000), f"{bare_phone.folder}/image_000000")
        assert not list(bare_phone.folder.glob("image*"))

    def test_unplugged_during_a_pull(self, bare_phone, tmp_path):
        bare_phone.device.push(bytes(8_000_000), f"{bare_phone.folder}/big")
        bare_phone.fault(kind="unplug", after_bytes=1_000_000, refuse=True)
        target = tmp_path / "back"
        with pytest.raises(DeviceLostError, match="went away while reading"):
            bare_phone.device.pull(f"{bare_phone.folder}/big", target)
        assert not target.exists()
        assert not list(tmp_path.glob(".back*"))

    def test_frozen_before_a_command(self, bare_phone):
        device = bare_phone.device
        device.run("true")
        with bare_phone.frozen(), pytest.raises(DeviceTimeoutError, match="does not answer"):
            device.run("true", timeout_s=1)

    def test_frozen_during_a_command(self, bare_phone):
        device = bare_phone.device
        with device.start("echo up; while :; do sleep 0.1; done", timeout_s=2) as process:
            chunks = process.chunks()
            next(chunks)
            with bare_phone.frozen(), pytest.raises(DeviceTimeoutError, match="did not end"):
                list(chunks)

    def test_frozen_during_mace_run(self, bare_phone):
        # Minutes before the deadline: the beats of run.sh stay away.
        binary = bare_phone.folder / "mace_run"
        binary.write_text("#!/bin/sh\necho 'I mace_run.cc:1] hello'\nexec sleep 69\n")
        binary.chmod(0o755)
        tensor = TensorArg("x", (1,))
        folder = str(bare_phone.folder)
        invocation = Invocation(
            cwd=folder,
            model_name="net",
            model_file="net.pb",
            model_data_file="net.data",
            inputs=(tensor,),
            outputs=(tensor,),
            input_file="in",
            output_file="out",
        )
        session = MaceRunSession(bare_phone.device, folder, limits=WatchLimits(heartbeat_s=4.0))
        try:
            with pytest.raises(DeviceLostError, match="fell silent: nothing came from it for 4 s"):
                session.run(invocation, timeout_s=300, on_line=lambda _: bare_phone.freeze())
        finally:
            bare_phone.thaw()

    def test_a_quiet_mace_run_on_a_phone_that_lives_is_waited_for(self, bare_phone):
        command = supervised_shell_of("sleep 3")
        with bare_phone.device.start(command, timeout_s=60, silence_s=2.7) as process:
            list(process.chunks())
            assert process.exit_code == 0

    def test_frozen_during_a_push(self, bare_phone):
        device = bare_phone.device
        sent = 0

        def freeze(done, _total):
            nonlocal sent
            if sent == 0:
                bare_phone.freeze()
            sent = done

        with pytest.raises(DeviceTimeoutError, match="stands still"):
            device.push(bytes(64 << 20), f"{bare_phone.folder}/big", progress=freeze)
        bare_phone.thaw()
        assert not (bare_phone.folder / "big").exists()

    def test_adb_server_killed_during_a_command(self, adb, bare_phone):
        with bare_phone.device.start("echo up; sleep 68", timeout_s=60) as process:
            chunks = process.chunks()
            next(chunks)
            adb("kill-server")
            with pytest.raises(DeviceLostError, match="adb server went away"):
                list(chunks)
        adb.start()

    def test_gone_before_the_call(self, bare_phone):
        device = bare_phone.device
        device.run("true")
        bare_phone.kill()
        wait_until(lambda: bare_phone.state != "device", "adb notices")
        for call in (lambda: device.run("true"), lambda: device.push(b"", "/x")):
            with pytest.raises(DeviceLostError):
                call()
