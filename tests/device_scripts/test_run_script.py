"""run.sh under mksh and dash with toybox."""

from __future__ import annotations

import shlex
import time

import pytest

from droidmace.errors import DeviceTimeoutError


@pytest.fixture
def run_script(shell_device, scripts, tmp_path):
    """Runs run.sh with options and a program; returns (its last line, its whole result)."""

    def call(*arguments: str, timeout_s: float = 20.0):
        line = shlex.join([str(scripts / "run.sh"), "-d", str(tmp_path), *arguments])
        result = shell_device.run(f'"$SHELL_UNDER_TEST" {line}', timeout_s=timeout_s)
        return result.text.splitlines()[-1], result

    return call


@pytest.fixture
def start_script(shell_device, scripts, tmp_path):
    def call(*arguments: str, timeout_s: float = 20.0):
        line = shlex.join([str(scripts / "run.sh"), "-d", str(tmp_path), *arguments])
        return shell_device.start(f'exec "$SHELL_UNDER_TEST" {line}', timeout_s=timeout_s)

    return call


def wait_for(path):
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_passes_output_and_status_through(run_script):
    last, result = run_script("--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert last == "@@droidmace-run exited 3"
    assert result.exit_code == 3
    assert result.stdout.startswith(b"out\n")
    assert b"err\n" in result.stderr


def test_tells_a_signal_as_128_plus_its_number(run_script):
    last, result = run_script("--", "sh", "-c", "kill -ABRT $$")
    assert last == "@@droidmace-run exited 134"
    assert result.exit_code == 134


def test_arguments_and_environment_arrive_unchanged(run_script):
    odd = "a b'c\"d$HOME;*|&\\"
    program = ["sh", "-c", 'printf "%s|%s|%s" "$1" "$ODD" "$EMPTY"', "x", odd]
    _, result = run_script("-e", f"ODD={odd}", "-e", "EMPTY=", "--", *program)
    assert result.text.startswith(f"{odd}|{odd}|")


def test_works_in_its_folder(run_script, tmp_path):
    _, result = run_script("--", "sh", "-c", "pwd -P")
    assert result.text.splitlines()[0] == str(tmp_path.resolve())


@pytest.mark.parametrize("option", ["1A=x", "=x", "A-B=x", "A", "A;id=x", "$(id)=x"])
def test_refuses_what_is_not_a_variable(run_script, option):
    last, result = run_script("-e", option, "--", "echo", "started")
    assert last == "@@droidmace-run unusable 126"
    assert result.exit_code == 126
    assert "started" not in result.text


@pytest.mark.parametrize(
    "arguments", [(), ("-t", "soon", "--", "true"), ("-d", "/nowhere", "true")]
)
def test_refuses_bad_options(run_script, arguments):
    last, result = run_script(*arguments)
    assert last == "@@droidmace-run unusable 126"
    assert "run.sh: " in result.error_text


def test_a_program_that_is_not_there_is_127(run_script):
    last, _ = run_script("--", "./not-there")
    assert last == "@@droidmace-run exited 127"


def test_its_watchdog_stops_a_program_that_runs_too_long(run_script):
    last, result = run_script("-t", "1", "--", "sh", "-c", "echo begun; exec sleep 60")
    assert last == "@@droidmace-run timeout 143"
    assert result.text.startswith("begun\n")


def test_its_watchdog_kills_a_program_that_ignores_term(run_script):
    stubborn = "trap '' TERM; while :; do sleep 1; done"
    last, _ = run_script("-t", "1", "--", "sh", "-c", stubborn)
    assert last == "@@droidmace-run timeout 137"


def test_told_to_end_it_stops_the_program(start_script, tmp_path):
    process = start_script("--", "sh", "-c", "echo $$ > child-pid; exec sleep 60")
    with process:
        wait_for(tmp_path / "child-pid")
        wait_for(tmp_path / ".run" / "child")
        import os
        import signal

        os.kill(int((tmp_path / ".run" / "pid").read_text()), signal.SIGTERM)
        text = b"".join(chunk.data for chunk in process.chunks()).decode()
    assert text.splitlines()[-1] == "@@droidmace-run stopped 143"
    assert not (tmp_path / ".run").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "child-pid").read_text()), 0)


def test_only_one_runs_in_a_folder(start_script, run_script, tmp_path):
    with start_script("--", "sh", "-c", "echo up; exec sleep 60") as process:
        assert next(process.chunks()).data == b"up\n"
        holder = (tmp_path / ".run" / "pid").read_text().strip()
        last, result = run_script("--", "echo", "second")
        assert last == f"@@droidmace-run busy {holder}"
        assert result.exit_code == 75
        assert "second" not in result.text


def test_the_mark_of_a_dead_run_is_replaced(run_script, tmp_path):
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run" / "pid").write_text("2147483646\n")
    last, _ = run_script("--", "true")
    assert last == "@@droidmace-run exited 0"
    assert not (tmp_path / ".run").exists()


def test_nothing_of_it_stays_behind(run_script, tmp_path):
    run_script("-t", "600", "--", "true")
    # The watchdog's sleep would hold our output open: then this would be a timeout.
    with pytest.raises(DeviceTimeoutError):
        run_script("--", "sleep", "60", timeout_s=0.5)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".run"] == []
