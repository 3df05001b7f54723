"""series.sh under mksh and dash with toybox: each run has its file, its markers and its status."""

from __future__ import annotations

import io
import re
import shlex
import tarfile

import pytest

UPTIME = re.compile(r"[0-9]+\.[0-9]+")


@pytest.fixture
def run_series(shell_device, scripts, tmp_path):
    def call(first: int, last: int, *arguments: str, folder: str | None = None):
        words = [str(scripts / "series.sh"), folder or str(tmp_path), f"{tmp_path}/files"]
        line = shlex.join([*words, str(first), str(last), *arguments])
        return shell_device.run(f'"$SHELL_UNDER_TEST" {line}', timeout_s=20.0)

    return call


@pytest.fixture
def files(tmp_path):
    with tarfile.open(tmp_path / "files.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, text in ((0, b"zero"), (2, b"two")):
            member = tarfile.TarInfo(str(number))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))


def plain(text: str) -> list[str]:
    return UPTIME.sub("UP", text).replace("\x1edroidmace ", "# ").splitlines()


@pytest.mark.usefixtures("files")
def test_each_run_lies_between_its_markers(run_series, tmp_path):
    show = 'for last; do :; done; case $last in --*) cat "${last#*=}"; echo;; *) echo none;; esac'
    result = run_series(0, 2, "ODD=a b'c", "--", "sh", "-c", f'{show}; echo "$ODD" >&2', "x", "y")
    assert plain(result.text) == [
        "# begin 0 UP", "zero", "# end 0 0 UP",
        "# begin 1 UP", "none", "# end 1 0 UP",
        "# begin 2 UP", "two", "# end 2 0 UP",
    ]  # fmt: skip
    assert plain(result.error_text)[:3] == ["# begin 0 UP", "a b'c", "# end 0 0 UP"]
    assert result.exit_code == 0
    assert not (tmp_path / "files.tar").exists()


def test_it_begins_where_it_is_told(run_series, tmp_path):
    (tmp_path / "files").mkdir()
    result = run_series(7, 7, "--", "sh", "-c", "exit 3")
    assert plain(result.text) == ["# begin 7 UP", "# end 7 3 UP"]


def test_a_signal_does_not_end_the_series(run_series):
    result = run_series(0, 1, "--", "sh", "-c", "kill -ABRT $$")
    assert plain(result.text)[1::2] == ["# end 0 134 UP", "# end 1 134 UP"]


def test_broken_archive(run_series, tmp_path):
    (tmp_path / "files.tar").write_bytes(b"no archive")
    result = run_series(0, 1, "--", "true")
    assert plain(result.text) == ["# failed parameters"]
    assert result.exit_code == 1


def test_a_folder_that_is_not_there(run_series, tmp_path):
    result = run_series(0, 1, "--", "true", folder=str(tmp_path / "nowhere"))
    assert plain(result.text) == ["# failed folder"]


def test_says_that_a_quiet_program_lives(run_series):
    result = run_series(0, 0, "--", "sleep", "4.5")
    assert result.error_text.count("droidmace alive") >= 1
    assert "alive" not in result.text
