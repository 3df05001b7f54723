"""Marker lines are written whole: what another process writes meanwhile falls between two lines.

The scripts' standard error is a socket here that keeps every write apart. The program runs for
longer than two seconds, so that there are lines of both the script and its beat.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess

import pytest

SCRIPTS = {
    "run.sh": "run.sh {folder} -- {program}",
    "batch.sh": "batch.sh run {folder}/base 1 {folder} -- {program}",
    "series.sh": "series.sh {folder} parameters 0 0 -- {program}",
}


@pytest.fixture(params=["mksh", "dash"])
def shell(request):
    return request.param


def writes_to_stderr(command: list[str], path: str) -> list[bytes]:
    """What the command wrote to its standard error, one entry for each write."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=theirs, env={"PATH": path}
            )
        ours.settimeout(30)
        with process, contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            return list(iter(lambda: ours.recv(4096), b""))


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_marker_is_one_write(shell, script, scripts, toybox_path, tmp_path):
    (tmp_path / "base").mkdir()
    line = SCRIPTS[script].format(folder=shlex.quote(str(tmp_path)), program="sleep 2.5")
    words = shlex.split(line)
    written = writes_to_stderr(
        [f"/bin/{shell}", str(scripts / words[0]), *words[1:]], str(toybox_path)
    )
    assert b"\x1edroidmace alive\n" in written
    for one in written:
        assert one.startswith(b"\x1edroidmace ")
        assert one.endswith(b"\n")
    assert written[-1].startswith(b"\x1edroidmace end 0")
