"""Errors travel from the process of one phone to another's and stay what they are."""

from __future__ import annotations

import pickle

import pytest

from droidmace import errors
from droidmace.errors import DeviceError, DroidmaceError, FormatError, MissingExtraError

WITH_MORE = [
    MissingExtraError("optuna", "search", "the strategy tpe"),
    FormatError("too short", offset=12, where="a.bin", hint="download it again"),
    DeviceError("it failed", serial="1a2b", command="ls", exit_code=3, stderr="no such file"),
]
PLAIN = [
    kind("what", where="where", hint="fix", details="more")
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DroidmaceError) and kind is not MissingExtraError
]


@pytest.mark.parametrize("error", WITH_MORE + PLAIN, ids=lambda error: type(error).__name__)
def test_pickled_error_is_the_same(error: DroidmaceError) -> None:
    error.phase = "search"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error)
    assert again.args == error.args
