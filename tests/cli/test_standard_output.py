"""What a user's code prints does not end up in a JSON document."""

from __future__ import annotations

import sys

import pytest

from droidmace.cli.standard_output import kept_for_document


def test_with_json_what_is_printed_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with kept_for_document(as_json=True):
        sys.stdout.write("from a data set\n")
        assert sys.stdout is not sys.stderr
    sys.stdout.write("{}\n")
    said = capsys.readouterr()
    assert said.out == "{}\n"
    assert said.err == "from a data set\n"


def test_without_json_it_stays_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    with kept_for_document(as_json=False):
        sys.stdout.write("from a data set\n")
    assert capsys.readouterr().out == "from a data set\n"
