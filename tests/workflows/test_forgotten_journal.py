"""A journal that something else took away meanwhile is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from droidmace.devices.samples import MonitorLog
from droidmace.errors import InputError
from droidmace.workflows.tune import _forget
from droidmace.workflows.tuned_bundle import JOURNAL_NAME, bundle_extras


def test_bundle_needs_its_journal(tmp_path: Path) -> None:
    journal = tmp_path / "a.search.jsonl"
    with pytest.raises(InputError, match="cannot be read any more") as caught:
        bundle_extras(journal, MonitorLog(), None)
    assert caught.value.where == str(journal)
    journal.write_bytes(b"{}\n")
    assert JOURNAL_NAME in bundle_extras(journal, MonitorLog(), None)


def test_journal_that_is_gone_needs_no_removing(tmp_path: Path) -> None:
    journal = tmp_path / "a.search.jsonl"
    _forget(journal)
    journal.write_bytes(b"{}\n")
    _forget(journal)
    assert not journal.exists()


def test_journal_that_cannot_be_removed(tmp_path: Path) -> None:
    journal = tmp_path / "a.search.jsonl"
    journal.mkdir()
    with pytest.raises(InputError, match="cannot be removed") as caught:
        _forget(journal)
    assert caught.value.where == str(journal)
