"""Data sets that a Python function gives."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from droidmace.errors import InputError
from droidmace.validation.sources.entry_point import EntryPointSource

GOOD = """\
import numpy as np

class Set:
    classes = ["cat", "dog"]
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return np.full((2, 3), index, np.uint8), index % 2

def load():
    return Set()
"""
_NUMBERS = itertools.count()

Load = Callable[..., EntryPointSource]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def from_text(text: str, *, allow: bool = True) -> EntryPointSource:
        # Modules are imported once in a process: each gets a name of its own.
        module = f"entry_point_data_{next(_NUMBERS)}"
        (tmp_path / f"{module}.py").write_text(text, "utf-8")
        return EntryPointSource(f"{module}:load", tmp_path, allow=allow)

    return from_text


def test_images_and_labels(load: Load, tmp_path: Path) -> None:
    source = load(GOOD)
    assert (source.count, source.classes) == (4, ("cat", "dog"))
    found = list(source.read(1, 4))
    assert [sample.label for sample in found] == [1, 0, 1]
    assert found[0].pixels is not None
    assert found[0].pixels.shape == (2, 3, 1)
    assert found[0].name.endswith(":load[1]")
    assert str(tmp_path) not in sys.path


def test_inputs_that_are_ready(load: Load) -> None:
    source = load(
        GOOD.replace("np.full((2, 3), index, np.uint8), index % 2", "{'a': [[1.5]]}, None")
    )
    (sample,) = source.read(0, 1)
    assert sample.label is None
    assert sample.tensors is not None
    np.testing.assert_array_equal(sample.tensors["a"], [[1.5]])


def test_the_identity_is_its_own_if_it_has_one(load: Load) -> None:
    own = GOOD.replace("    classes", "    identity = 'v1'\n    classes")
    assert load(own).identity != load(own.replace("v1", "v2")).identity
    assert load(GOOD).identity != load(GOOD.replace("return 4", "return 5")).identity


def test_it_runs_only_if_allowed(load: Load, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(InputError, match="with all your rights"):
        load(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n" + GOOD, allow=False)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("def load", "def other", "its import raised AttributeError"),
        ("import numpy as np", "import nowhere", "its import raised ModuleNotFoundError"),
        ("return Set()", "return 1 / 0", "the call raised ZeroDivisionError"),
        ("return Set()", "return iter([])", r"len\(\) raised TypeError"),
        ("return 4", "return 0", "gives 0 samples"),
    ],
)
def test_what_cannot_be_opened(load: Load, old: str, new: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        load(GOOD.replace(old, new))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("[1, 2]", "entry 0 is list, not"),
        ("(1, 2, 3)", "entry 0 is tuple, not"),
        ("(np.zeros((2, 2)), 2)", "entry 0 has the label 2, not 0 to 1"),
        ("(np.zeros((2, 2)), 'cat')", "the label of entry 0 raised ValueError"),
        ("(np.zeros(4), 1)", r"entry 0 has shape \[4\]"),
        ("(np.zeros((0, 4)), 1)", r"entry 0 has shape \[0, 4, 1\]"),
        ("(['cat'], 1)", "entry 0 holds <U3"),
        ("(np.array([{}]), 1)", "entry 0 holds object"),
        ("(1 / 0, 1)", "entry 0 raised ZeroDivisionError"),
    ],
)
def test_entries_that_do_not_fit(load: Load, entry: str, complaint: str) -> None:
    source = load(GOOD.replace("np.full((2, 3), index, np.uint8), index % 2", entry))
    with pytest.raises(InputError, match=complaint):
        list(source.read(0, 4))
