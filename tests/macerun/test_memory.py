"""Lines of memory.sh among a process's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from droidmace.macerun.events import OutputLine
from droidmace.macerun.memory import MemoryReader


def peak(texts):
    reader = MemoryReader()
    for text in texts:
        reader(OutputLine(text))
    return reader.peak_kib


def test_the_largest_counts():
    assert peak(["droidmace memory 900", "I a.cc:1] text", "droidmace memory 1200\r"]) == 1200


def test_nothing_seen():
    assert peak(["I a.cc:1] droidmace memory 5", "droidmace memory", "droidmace memory -1"]) is None


@given(
    st.lists(st.text(max_size=40) | st.integers(0, 10**12 - 1).map("droidmace memory {}".format))
)
def test_any_lines(texts):
    numbers = [int(text.split()[-1]) for text in texts if text.startswith("droidmace memory ")]
    assert peak(texts) == max(numbers, default=None)
