from __future__ import annotations

import pytest
from landscapes import Landscape, net

from droidmace.tuning.consensus import Vote, consensus
from droidmace.tuning.loop import Budget, run_search
from droidmace.tuning.search import Choice, History
from droidmace.tuning.strategies.plain import RandomSearch

GROUPS = net(1)
GROUP = GROUPS[0]
KEY = GROUP.keys[0].key
A, B, C = ((params,) for params in GROUP.keys[0].candidates[:3])


def vote(choice: Choice, times: dict[Choice, list[float]]) -> Vote:
    history = History(GROUPS)
    history.groups[GROUP.name].samples.update({GROUP.default: [10.0] * 5, **times})
    return Vote(history, {GROUP.name: choice})


def test_a_vote_alone_is_its_own_choice() -> None:
    found = consensus([vote(A, {A: [8.0] * 5})])
    assert found.plan == {GROUP.name: A}
    (row,) = found.winners
    assert (row.key, row.params, row.default_ms, row.best_ms) == (KEY, A[0], 10.0, 8.0)
    assert (row.stability, row.votes, row.origin) == (None, 1, "search")


def test_the_evidence_of_all_outweighs_the_number_of_votes() -> None:
    votes = [
        vote(A, {A: [7.9] * 5, B: [7.92]}),
        vote(A, {A: [9.5] * 5}),
        vote(B, {A: [9.6] * 5, B: [6.0] * 5}),
        vote(C, {B: [6.02] * 5, C: [6.0] * 5}),
    ]
    assert B[0] is not None
    found = consensus(votes, {KEY: B[0]})
    assert found.plan == {GROUP.name: B}
    (row,) = found.winners
    assert row.origin == "phone"
    assert row.votes == 4
    # the first cannot tell A from B, the fourth B from C; the second never saw it
    assert row.stability == pytest.approx(0.75)


def test_of_equals_the_one_with_most_votes_wins() -> None:
    votes = [
        vote(A, {A: [8.0] * 5, B: [8.02] * 5}),
        vote(B, {A: [8.0] * 5, B: [7.99] * 5}),
        vote(A, {A: [8.0] * 5, B: [8.0] * 5}),
    ]
    assert consensus(votes).plan == {GROUP.name: A}
    assert consensus(votes).winners[0].stability == 1.0


def test_what_one_phone_refuses_does_not_win() -> None:
    votes = [vote(A, {A: [5.0] * 5}), vote(A, {A: [5.0] * 5}), vote(B, {B: [8.0] * 5})]
    votes[2].history.groups[GROUP.name].refused.add(A)
    assert consensus(votes).plan == {GROUP.name: B}


def test_without_measurements_the_majority_decides() -> None:
    votes = [Vote(History(GROUPS), {GROUP.name: one}) for one in (A, B, B)]
    found = consensus(votes)
    assert found.plan == {GROUP.name: B}
    assert found.winners[0].stability == pytest.approx(2 / 3)
    assert consensus([Vote.of(History(GROUPS))]).plan == {GROUP.name: GROUP.default}


def test_there_must_be_a_vote() -> None:
    with pytest.raises(ValueError, match="at least one"):
        consensus([])


def test_searches_under_noise_agree_on_something_as_good_as_each_alone() -> None:
    votes, alone = [], []
    for seed in range(5):
        phone = Landscape(net(4), noise=0.05, seed=seed)
        history = History(phone.groups)
        outcome = run_search(RandomSearch(seed), phone, Budget(evaluations=160), history)
        votes.append(Vote(history, outcome.plan))
        alone.append(phone.total_ms(outcome.plan))
    found = consensus(votes)
    assert phone.total_ms(found.plan) <= sorted(alone)[2] * 1.001
    assert all(0.2 <= (row.stability or 0.0) <= 1.0 for row in found.winners)
