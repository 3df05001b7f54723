"""Commands through real adb programs."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys

import pytest
from wire_harness import Host, running_daemon, wait_until


def test_listed_with_its_properties(adb, phone):
    listing = adb.run("devices", "-l").stdout.decode()
    (line,) = [line for line in listing.splitlines() if phone.serial in line]
    assert "product:test model:Test_Phone device:test1" in line
    features = adb.run("features").stdout.decode()
    assert "shell_v2" in features


@pytest.mark.parametrize("code", [0, 3, 127, 255])
def test_exit_codes(adb, phone, code):
    assert adb.run("shell", f"exit {code}").returncode == code


def test_a_signal_as_an_exit_code(adb, phone):
    assert adb.run("shell", "kill -9 $$").returncode == 137


def test_output_and_errors_are_separate(adb, phone):
    result = adb.run("shell", "echo out; echo err >&2; exit 1")
    assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 1)


def test_environment_and_folder(adb, phone):
    result = adb.run("shell", "echo $PHONE; pwd; echo $HOME$ANDROID_ADB_SERVER_PORT")
    assert result.stdout.decode().splitlines() == ["yes", str(phone.root.parent), ""]


def test_quoting_reaches_the_shell_as_it_is(adb, phone):
    text = """a "b" 'c' $((1+2)) `echo d` \\ * é"""
    assert adb.run("shell", f"printf %s {_quoted(text)}").stdout.decode() == text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_stdin_to_its_end(adb, phone):
    data = os.urandom(3_000_000)
    result = adb.run("shell", "sha256sum", input=data)
    assert result.stdout.decode().split()[0] == hashlib.sha256(data).hexdigest()


def test_a_command_that_does_not_read_its_input(adb, phone):
    result = adb.run("shell", "exec <&-; echo done; exit 4", input=bytes(5_000_000))
    assert (result.stdout, result.returncode) == (b"done\n", 4)


def test_a_script_as_input_of_the_shell(adb, phone):
    result = adb.run("shell", input=b"echo one\nexit 9\n")
    assert (result.stdout, result.returncode) == (b"one\n", 9)


def test_exec_out_is_clean_for_bytes(adb, phone):
    data = bytes(range(256)) * 1000
    (phone.root / "bytes").write_bytes(data)
    assert adb.run("exec-out", f"cat {phone.root}/bytes").stdout == data


def test_exec_in_delivers_all_before_it_ends(adb, phone):
    data = os.urandom(2_500_000)
    target = phone.root / "in"
    assert adb.run("exec-in", f"cat > {target}.part; mv {target}.part {target}", input=data)
    assert _content_once_there(target) == data


def _content_once_there(path):
    wait_until(path.exists, str(path))
    return path.read_bytes()


def test_a_terminal(adb, phone):
    result = adb.run("shell", "-t", "-t", "tty; test -t 0 && test -t 1 && echo yes >&2; exit 5")
    assert re.fullmatch(rb"/dev/pts/\d+\r\nyes\r\n", result.stdout)
    assert (result.stderr, result.returncode) == (b"", 5)


def test_the_terminal_controls_its_shell(adb, phone):
    script = "trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.05; done"
    with adb.start("shell", "-t", "-t", script) as process:
        assert b"ready" in process.stdout.readline()
        process.stdin.write(b"\x03")
        process.stdin.flush()
        assert b"interrupted" in process.stdout.read()
    assert process.returncode == 6


def test_an_interactive_terminal(adb, phone):
    with adb.start("shell", "-t", "-t") as process:
        output, _ = process.communicate(b"stty size; echo $((40+2))\nexit 7\n", timeout=30)
    assert b"\r\n42\r\n" in output
    assert process.returncode == 7


def test_without_the_v2_protocol(adb, phone):
    result = adb.run("shell", "-x", "echo out; echo err >&2; exit 3")
    assert (sorted(result.stdout.split()), result.returncode) == ([b"err", b"out"], 0)


def test_fifty_megabytes_of_output(adb, phone):
    result = adb.run("shell", "head -c 52428800 /dev/zero")
    assert result.returncode == 0
    assert result.stdout == bytes(52_428_800)


def test_parallel_streams(adb, phone):
    script = "read line; echo $line; head -c 3000000 /dev/zero; exit {}"
    running = [adb.start("shell", script.format(code)) for code in range(12)]
    assert all(process.poll() is None for process in running)
    for code, process in reversed(list(enumerate(running))):
        output, _ = process.communicate(b"from %d\n" % code, timeout=60)
        assert output == b"from %d\n" % code + bytes(3_000_000)
        assert process.returncode == code


def test_a_host_that_stops_reading_does_not_stop_the_others(adb, phone):
    with adb.start("shell", "head -c 50000000 /dev/zero") as stuck:
        assert stuck.stdout.read(1) == b"\0"
        assert adb.run("shell", "echo alive").stdout == b"alive\n"
        stuck.kill()
        stuck.communicate()


def test_a_shell_is_told_that_its_host_went_away(adb, phone):
    marker = phone.root / "pids"
    command = f"sleep 60 & echo $$ $! > {marker}; echo started; wait"
    with adb.start("shell", command) as process:
        assert process.stdout.readline() == b"started\n"
        process.kill()
        process.communicate()
    shell, pid = map(int, marker.read_text().split())
    _wait_for_end(shell)
    # What the shell started is told nothing and lives on.
    assert adb.run("shell", f"kill -0 {pid}").returncode == 0
    assert adb.run("shell", f"kill {pid}").returncode == 0
    _wait_for_end(pid)


def test_a_command_on_a_terminal_ends_with_its_host(adb, phone):
    marker = phone.root / "pid"
    command = f"trap '' HUP; echo $$ > {marker}; echo started; while :; do sleep 0.1; done"
    with adb.start("shell", "-t", "-t", command) as process:
        assert process.stdout.readline() == b"started\r\n"
        process.kill()
        process.communicate()
    _wait_for_end(int(marker.read_text()))


def _wait_for_end(pid: int) -> None:
    def ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(ended, f"the end of process {pid}")


def test_output_after_the_shell_ended_still_arrives(adb, phone):
    result = adb.run("shell", "(sleep 0.3; echo late) & echo early; exit 8")
    assert (result.stdout, result.returncode) == (b"early\nlate\n", 8)


def test_commands_inherit_nothing_of_the_daemon(adb, phone):
    result = adb.run("shell", "for fd in /proc/self/fd/*; do readlink $fd; done")
    assert b"socket" not in result.stdout
    assert len(result.stdout.splitlines()) <= 4


def test_services_a_phone_refuses(adb, phone):
    assert b"cannot run as root" in adb.run("root").stdout
    reverse = adb.run("reverse", "tcp:5000", "tcp:5000")
    assert reverse.returncode != 0
    assert b"not available" in reverse.stderr
    forwarded = adb.run("forward", "tcp:0", "tcp:5000").stdout.strip()
    with socket.create_connection(("127.0.0.1", int(forwarded)), timeout=10) as channel:
        assert channel.recv(1) == b""
    assert adb.run("forward", "--remove-all").returncode == 0
    assert adb.run("jdwp").stdout == b""


def test_the_shell_does_not_exist(tmp_path, new_host):
    wrapper = ("sh", "-c", 'set -- "$@" --shell=/no/such/shell; exec "$@"', "sh")
    with running_daemon(tmp_path, wrapper=wrapper) as daemon:
        host = Host(daemon.port)
        answer = host.converse("shell,v2,raw:ls")
        assert b"/no/such/shell" in answer
        assert answer.endswith(b"\x03\x01\0\0\0\x7f")
        host.close()


def test_stopped_by_a_signal_takes_its_commands_along(lonely_daemon):
    host = Host(lonely_daemon.port)
    stream_id = host.open("shell,v2,raw:echo $$; exec sleep 60")
    event = host.next_event()
    assert stream_id is not None
    pid = int(bytes(event.data)[5:])
    lonely_daemon.process.terminate()
    assert lonely_daemon.process.wait(timeout=30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    host.close()


def test_refuses_to_start_without_a_listening_socket(tmp_path):
    config = tmp_path / "phone.json"
    config.write_text("{}")
    command = [sys.executable, "-m", "droidmace.emulator.adbd", "--config", str(config)]
    result = subprocess.run(
        [*command, "--listen-fd", "0"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert result.returncode == 2
    assert b"descriptor 0 is not a socket" in result.stderr
