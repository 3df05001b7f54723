"""memory.sh under mksh and dash: what it sees, and that the program does not notice."""

from __future__ import annotations

import shlex
import sys

import pytest

from droidmace.macerun.events import OutputLine
from droidmace.macerun.memory import MemoryReader

# Takes so many MiB, says so, and gives them back before it ends.
TAKES = """
import sys, time
block = bytearray(int(sys.argv[1]) << 20)
for at in range(0, len(block), 4096):
    block[at] = 1
print("taken", flush=True)
time.sleep(0.5)
del block
"""


@pytest.fixture
def watched(shell_device, scripts):
    """Runs a program under the script; its result, and the peak in KiB."""

    def call(*words: str):
        line = shlex.join([str(scripts / "memory.sh"), *words])
        result = shell_device.run(f'"$SHELL_UNDER_TEST" {line}', timeout_s=30)
        reader = MemoryReader()
        for text in result.error_text.splitlines():
            reader(OutputLine(text))
        return result, reader.peak_kib

    return call


def test_what_was_taken_and_given_back_is_seen(watched):
    small, small_kib = watched(sys.executable, "-c", TAKES, "1")
    large, large_kib = watched(sys.executable, "-c", TAKES, "101")
    assert (small.text, large.text) == ("taken\n",) * 2
    assert 95 << 10 <= large_kib - small_kib <= 105 << 10


def test_the_program_ends_as_it_does_alone(watched):
    result, _ = watched("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.exit_code, result.text) == (7, "out\n")
    assert "err" in result.error_text.splitlines()


def test_a_signal_to_it_reaches_the_program(watched):
    result, _ = watched("sh", "-c", "kill -s TERM $$; sleep 5")
    assert result.exit_code != 0


def test_a_program_that_is_not_there(watched):
    result, _ = watched("/nowhere/mace_run")
    assert result.exit_code == 127
