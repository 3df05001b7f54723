"""batch.sh under mksh and dash with toybox: samples cut to files, outputs packed, all removed."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
import time

import pytest

END = "\x1edroidmace end"
WAIT_S = 20.0


@pytest.fixture
def line(scripts, tmp_path):
    def build(*words: str) -> str:
        script = shlex.join(
            [str(scripts / "batch.sh"), words[0], f"{tmp_path}/batch/my base", *words[1:]]
        )
        return f'"$SHELL_UNDER_TEST" {script}'

    return build


@pytest.fixture
def run_script(shell_device, line):
    def call(*words: str, stdin: bytes = b""):
        return shell_device.run(line(*words), timeout_s=WAIT_S, stdin=stdin)

    return call


@pytest.fixture
def base(tmp_path):
    return tmp_path / "batch" / "my base"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_standard_input_is_cut_into_files(run_script, base):
    result = run_script("take", "in0", "image", "3", "4", stdin=b"aaaabbbbcccc")
    assert (result.exit_code, result.error_text) == (0, f"{END} 0\n")
    assert names(base / "in0") == ["image_aaaa", "image_aaab", "image_aaac"]
    assert [path.read_bytes() for path in sorted((base / "in0").iterdir())] == [
        b"aaaa",
        b"bbbb",
        b"cccc",
    ]
    assert (base / "unused_image").read_bytes() == b""


def test_a_shorter_chunk_takes_the_place_of_a_longer_one(run_script, base):
    run_script("take", "in0", "image", "30", "2", stdin=bytes(60))
    run_script("take", "in0", "mask", "30", "2", stdin=bytes(60))
    assert run_script("take", "in0", "image", "2", "2", stdin=b"xxyy").exit_code == 0
    assert [name for name in names(base / "in0") if "image" in name] == ["image_aaaa", "image_aaab"]
    assert (base / "in0" / "image_aaab").read_bytes() == b"yy"
    assert len(names(base / "in0")) == 32


@pytest.mark.parametrize("data", [b"", b"aaaa", b"aaaabbb"])
def test_samples_that_did_not_arrive_are_missed(run_script, data):
    result = run_script("take", "in0", "image", "2", "4", stdin=data)
    assert result.error_text.endswith(
        f"batch.sh: fewer than 2 samples of 4 bytes arrived\n{END} 1\n"
    )
    assert result.exit_code == 1


@pytest.mark.parametrize("before", [b"aaaabbbb", b"aaaabbbbccccdddd"])
@pytest.mark.parametrize("data", [b"eeeef", b"eeee", b""])
def test_a_stale_file_does_not_pass_for_one_that_did_not_arrive(run_script, before, data):
    count = str(len(before) // 4)
    assert run_script("take", "in0", "image", count, "4", stdin=before).exit_code == 0
    assert run_script("take", "in0", "image", "2", "4", stdin=data).exit_code == 1


def test_outputs_follow_what_the_program_prints(run_script, tmp_path, base):
    odd = "a b'c\"$HOME"
    program = ["sh", "-c", 'pwd; printf "%s" "$ODD" >"$1"/x; : >"$1"/y', "x", f"{base}/out/7"]
    result = run_script("run", "7", str(tmp_path), f"ODD={odd}", "--", *program)
    assert (result.exit_code, result.error_text) == (0, f"{END} 0\n")
    said, _, rest = result.stdout.partition(b"\x1edroidmace ran 0 ")
    times, _, archive = rest.partition(b"\n")
    assert said.decode() == f"{tmp_path}\n"
    began, ended = map(float, times.split())
    assert 0 < began <= ended
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        content = {
            one.name: packed.extractfile(one).read() for one in packed.getmembers() if one.isfile()
        }
    assert content == {"./x": odd.encode(), "./y": b""}
    assert names(base / "out") == []


def test_outputs_can_be_kept(run_script, tmp_path, base):
    program = ["sh", "-c", ': >"$1"/x', "x", f"{base}/out/7"]
    run_script("run", "7", str(tmp_path), "-k", "--", *program)
    assert names(base / "out" / "7") == ["x"]


def test_a_program_that_fails_leaves_all_for_a_second_look(run_script, tmp_path, base):
    result = run_script("run", "7", str(tmp_path), "--", "sh", "-c", "kill -SEGV $$")
    assert b"\x1edroidmace ran 139 " in result.stdout
    assert result.error_text.endswith(f"{END} 139\n")
    assert names(base / "out") == ["7"]


def test_a_folder_that_is_not_there(run_script, tmp_path):
    result = run_script("run", "7", f"{tmp_path}/nowhere", "--", "true")
    assert b"droidmace ran" not in result.stdout
    assert result.exit_code != 0


def test_says_that_a_quiet_program_lives(run_script, tmp_path):
    assert (
        "droidmace alive" in run_script("run", "7", str(tmp_path), "--", "sleep", "2.5").error_text
    )


def wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_told_to_stop_it_leaves_nothing(shell_device, line, tmp_path, base):
    command = line("run", "7", str(tmp_path), "--", "sh", "-c", "echo $$ >me; exec sleep 1000")
    with shell_device.start(command, timeout_s=WAIT_S):
        wait_until((tmp_path / "me").exists)
    wait_until(lambda: not base.parent.exists())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "me").read_text()), 0)


def test_samples_for_nobody_are_removed(shell_device, line, base):
    """They were all under way when the host went."""
    process = subprocess.Popen(
        [shell_device._shell, "-c", line("take", "in0", "image", "2", "4")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=shell_device._environment,
    )
    process.stderr.close()
    process.communicate(b"aaaabbbb", WAIT_S)
    assert process.returncode == 143
    assert not base.parent.exists()


def test_without_a_host_it_leaves_nothing(shell_device, line, tmp_path, base):
    """Nobody tells it: it finds out when its sign of life has no reader."""
    script = line("run", "7", str(tmp_path), "--", "sh", "-c", "echo $$ >me; exec sleep 1000")
    process = subprocess.Popen(
        [shell_device._shell, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=shell_device._environment,
        start_new_session=True,
    )
    wait_until((tmp_path / "me").exists)
    process.stdout.close()
    process.stderr.close()
    assert process.wait(WAIT_S) == 143
    assert not base.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "me").read_text()), 0)
