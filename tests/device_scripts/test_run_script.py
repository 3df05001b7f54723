"""run.sh under mksh and dash with toybox: what it passes on, and what it says itself."""

from __future__ import annotations

import shlex

import pytest

END = "\x1edroidmace end"


@pytest.fixture
def run_script(shell_device, scripts, tmp_path):
    def call(*arguments: str, folder: str | None = None, options: tuple[str, ...] = ()):
        line = shlex.join([str(scripts / "run.sh"), *options, folder or str(tmp_path), *arguments])
        return shell_device.run(f'"$SHELL_UNDER_TEST" {line}', timeout_s=20.0)

    return call


def test_passes_output_and_status_through(run_script):
    result = run_script("--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert result.stdout == b"out\n"
    assert result.error_text == f"err\n{END} 3\n"
    assert result.exit_code == 3


def test_tells_a_signal_as_128_plus_its_number(run_script):
    assert run_script("--", "sh", "-c", "kill -ABRT $$").error_text.endswith(f"{END} 134\n")


def test_arguments_and_environment_arrive_unchanged(run_script):
    odd = "a b'c\"d$HOME;*|&\\=x"
    program = ["sh", "-c", 'printf "%s|%s|%s" "$1" "$ODD" "$EMPTY"', "x", odd]
    assert run_script(f"ODD={odd}", "EMPTY=", "--", *program).text == f"{odd}|{odd}|"


def test_runs_in_its_folder(run_script, tmp_path):
    (tmp_path / "my folder").mkdir()
    result = run_script("--", "sh", "-c", "pwd", folder=str(tmp_path / "my folder"))
    assert result.text == f"{tmp_path}/my folder\n"


def test_a_folder_that_is_not_there(run_script, tmp_path):
    result = run_script("--", "true", folder=str(tmp_path / "nowhere"))
    assert END in result.error_text
    assert result.exit_code != 0


@pytest.mark.parametrize(("program", "status"), [("./nowhere", 127), ("./plain", 126)])
def test_a_program_that_cannot_be_started(run_script, tmp_path, program, status):
    (tmp_path / "plain").write_text("hello")
    assert run_script("--", program).error_text.endswith(f"{END} {status}\n")


def test_says_that_a_quiet_program_lives(run_script):
    # Longer than two of its beats.
    assert "droidmace alive" in run_script("--", "sleep", "4.5").error_text


def test_ends_a_program_whose_time_is_up(run_script):
    result = run_script("--", "sleep", "60", options=("-t", "1"))
    assert result.error_text.endswith(f"{END} 137\n")
    assert "its time on the phone is up" in result.error_text


def test_shows_the_phones_log_of_a_crash(run_script, shell_device, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "logcat").write_text('#!/bin/sh\necho "log asked: $*"\n')
    (tools / "logcat").chmod(0o755)
    shell_device._environment["PATH"] += f":{tools}"
    crash = run_script("--", "sh", "-c", "echo pid $$; kill -ABRT $$")
    pid = crash.text.split()[1]
    assert f"log asked: -d -t 40 --pid={pid}\n" in crash.error_text
    assert crash.error_text.endswith(f"{END} 134\n")
    assert "log asked" not in run_script("--", "sh", "-c", "exit 1").error_text
