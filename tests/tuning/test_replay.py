from __future__ import annotations

import math
from pathlib import Path

import pytest
from landscapes import Landscape, convolution

from droidmace.errors import FormatError, InputError
from droidmace.tuning.journal import GroupFacts, Journal, KeyFacts, read_journal
from droidmace.tuning.loop import Budget, run_search
from droidmace.tuning.replay import RecordedTable, Replayer, replay
from droidmace.tuning.search import History, RunStatus
from droidmace.tuning.space import build_groups
from droidmace.tuning.strategies.guided import Guided
from droidmace.tuning.strategies.plain import Exhaustive, RandomSearch
from droidmace.workflows.replay import replay_journal

SMALL = KeyFacts("reduce_hw_opencl_kernel_4_2_16", kwg_size=128)


def record(
    path: Path, facts: list[GroupFacts], largest: int = 1 << 20, noise: float = 0.02
) -> Path:
    """An exhaustive search of kernels that are not there, as a journal."""
    phone = Landscape(build_groups(facts), noise=noise, seed=1, largest=largest)
    with Journal.create(path, {"phone": "none"}) as journal:
        journal.set_groups(facts)
        run_search(
            Exhaustive(),
            phone,
            Budget(),
            History(phone.groups),
            on_record=lambda run, _: journal.append(run),
        )
    return path


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts = [
        GroupFacts(f"op{i}", (convolution(28, 28, 32 * (i + 1), 128),), (f"op{i}",))
        for i in range(4)
    ]
    return record(tmp_path_factory.mktemp("replay") / "search.journal", facts)


def test_only_what_was_recorded_is_measured(journal: Path) -> None:
    table = RecordedTable.of(read_journal(journal))
    measure = Replayer(table, 3)
    (one, *_) = table.groups
    for params in one.keys[0].candidates[:20]:
        (run,) = measure([{one.name: (params,)}])
        assert run.group_ms[one.name] in table.samples[one.name][(params,)]
        assert run.group_ms.keys() == {group.name for group in table.groups}
    (run,) = measure([{one.name: ((3, 3, 3, 0),)}])
    assert one.name not in run.group_ms


def test_choices_that_were_not_recorded_leave_the_space(tmp_path: Path) -> None:
    facts = [GroupFacts("a", (SMALL,), ("a",)), GroupFacts("never", (SMALL,), ("b",))]
    (space,) = build_groups(facts)[0].keys
    with Journal.create(tmp_path / "j", {}) as journal:
        journal.set_groups(facts)
        for params in (None, *space.candidates[5:9]):
            (run,) = Landscape(build_groups(facts)[:1])([{"a": (params,)}])
            journal.append(run)
    table = RecordedTable.of(read_journal(tmp_path / "j"))
    assert [one.name for one in table.groups] == ["a"]
    assert table.groups[0].keys[0].candidates == space.candidates[5:9]
    assert table.size == 5


def test_refused_choices_are_refused_again(tmp_path: Path) -> None:
    path = record(tmp_path / "j", [GroupFacts("a", (SMALL,), ("a",))], largest=32)
    table = RecordedTable.of(read_journal(path))
    assert table.refused["a"]
    bad = next(iter(table.refused["a"]))
    first, second = Replayer(table, 0)([{"a": bad}])
    assert (first.status, first.guilty) == (RunStatus.REFUSED, "a")
    assert second.plan["a"] == (None,)
    assert second.group_ms["a"] in table.samples["a"][(None,)]
    report = replay(table, "guided", Guided, 40, repeats=2)
    assert all(math.isfinite(one.total_ms) for one in report.searches)


def test_of_several_keys_the_best_recorded_one_varies(tmp_path: Path) -> None:
    facts = [GroupFacts("a", (SMALL, convolution(7, 7, 16, 64)), ("a",))]
    (one,) = build_groups(facts)
    with Journal.create(tmp_path / "j", {}) as journal:
        journal.set_groups(facts)
        choices = [one.default, *((params, None) for params in one.keys[0].candidates[:4])]
        choices.append((None, one.keys[1].candidates[0]))
        choices.append((one.keys[0].candidates[6], one.keys[1].candidates[1]))
        for choice in choices:
            (run,) = Landscape((one,))([{"a": choice}])
            journal.append(run)
    (group,) = RecordedTable.of(read_journal(tmp_path / "j")).groups
    assert group.keys[0].candidates == one.keys[0].candidates[:4]
    assert group.keys[1].candidates == ()


def test_a_report_tells_how_soon_a_search_came_near_the_best(journal: Path) -> None:
    report = replay_journal(journal, "random", evaluations=200, seed=4, repeats=3)
    assert [one.seed for one in report.searches] == [4, 5, 6]
    assert report.best_ms < report.totals_ms.median < report.untuned_ms
    near, far = report.evaluations_within(0.0), report.evaluations_within(10.0)
    assert near == [None] * 3
    assert far == [4, 4, 4]
    document = report.as_document()
    assert document["budget"] == 200
    assert document["evaluations_within"]


def test_the_same_seed_replays_the_same_search(journal: Path) -> None:
    first, again = (replay_journal(journal, "guided", evaluations=100, seed=2) for _ in range(2))
    assert first.searches[0].plan == again.searches[0].plan
    assert first.searches[0].curve == again.searches[0].curve


def test_guided_needs_fewer_evaluations_than_random(journal: Path) -> None:
    table = RecordedTable.of(read_journal(journal))
    budget = table.size // 20
    totals = [
        replay(table, "", make, budget, repeats=5).totals_ms.median
        for make in (Guided, RandomSearch)
    ]
    assert totals[0] < totals[1]


def test_what_cannot_be_replayed_is_told(tmp_path: Path, journal: Path) -> None:
    with pytest.raises(InputError, match="no search strategy"):
        replay_journal(tmp_path / "not read", "wrong")
    with pytest.raises(InputError, match="cannot read"):
        replay_journal(tmp_path / "not there")
    with pytest.raises(InputError, match="0 repeats"):
        replay_journal(journal, repeats=0)
    Journal.create(tmp_path / "empty", {}).close()
    with pytest.raises(InputError, match="nothing to replay") as caught:
        replay_journal(tmp_path / "empty")
    assert caught.value.where == str(tmp_path / "empty")
    assert "--search" in str(caught.value.hint)
    (tmp_path / "other").write_text("{}\n")
    with pytest.raises(FormatError):
        replay_journal(tmp_path / "other")
