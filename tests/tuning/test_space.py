from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.engine.opencl import local_size
from droidmace.tuning.journal import GroupFacts, KeyFacts
from droidmace.tuning.search import Group, GroupHistory, KeySpace
from droidmace.tuning.space import (
    ASSUMED_KWG_SIZE,
    Legal,
    Limits,
    block_of,
    build_groups,
    key_space,
    mace_candidates,
    mace_part,
)

sizes = st.integers(1, 600)
gws_3d = st.tuples(sizes, sizes, sizes)
gws_2d = st.tuples(sizes, sizes)
kwg_sizes = st.integers(1, 2048)


def facts(gws: tuple[int, ...], kwg_size: int | None = 256, **more: object) -> KeyFacts:
    key = "relu_opencl_kernel_x" if len(gws) == 3 else "some_kernel"
    return KeyFacts(key, "relu", gws, kwg_size, **more)  # type: ignore[arg-type]


def legal_sizes(size: int) -> set[int]:
    top = 1 << (size - 1).bit_length()
    return {i for i in range(1, top + 1) if size % i == 0 or i & (i - 1) == 0}


@settings(deadline=None)
@given(gws_3d | gws_2d, kwg_sizes, st.none() | st.tuples(sizes, sizes, sizes))
def test_every_candidate_is_legal(
    gws: tuple[int, ...], kwg_size: int, max_lws: tuple[int, ...] | None
) -> None:
    space = key_space(facts(gws, kwg_size, max_lws=max_lws))
    own = set(mace_part(space))
    allowed = [legal_sizes(size) for size in gws]
    assert len(set(space.candidates)) == len(space.candidates)
    for params in space.candidates:
        *lws, block = params
        assert len(lws) == len(gws)
        assert block == 0
        assert 1 <= math.prod(lws) <= kwg_size
        assert all(1 <= size <= most for size, most in zip(lws, max_lws or lws, strict=False))
        if params not in own:
            assert all(one in along for one, along in zip(lws, allowed, strict=True))


@settings(deadline=None)
@given(gws_3d, kwg_sizes)
def test_the_space_has_every_power_and_divisor_that_fits(
    gws: tuple[int, int, int], kwg_size: int
) -> None:
    candidates = set(key_space(facts(gws, kwg_size)).candidates)
    for axis, size in enumerate(gws):
        for one in legal_sizes(size):
            lws = [1, 1, 1]
            lws[axis] = one
            assert ((*lws, 0) in candidates) == (one <= kwg_size)


@given(gws_3d, kwg_sizes)
def test_3d_candidates_of_mace_are_the_engines_and_come_first(
    gws: tuple[int, int, int], kwg_size: int
) -> None:
    own = local_size.candidates_3d(gws, kwg_size)
    assert mace_candidates(gws, Limits(kwg_size), 3) == own
    assert list(key_space(facts(gws, kwg_size)).candidates[: len(own)]) == own


@given(gws_2d, kwg_sizes)
def test_2d_candidates_of_mace_are_the_engines_and_come_first(
    gws: tuple[int, int], kwg_size: int
) -> None:
    own = local_size.candidates_2d(kwg_size)
    assert mace_candidates(gws, Limits(kwg_size), 2) == own
    space = key_space(facts(gws, kwg_size))
    assert list(space.candidates[: len(own)]) == own
    assert mace_part(space) == own


def test_a_key_tells_its_own_global_size() -> None:
    space = key_space(KeyFacts("conv2d_1x1_opencl_kernel_1_56_56_128"))
    assert space.gws == (32, 14, 56)
    assert space.kernel == "conv2d_1x1"
    assert max(math.prod(one[:-1]) for one in space.candidates) == ASSUMED_KWG_SIZE


def test_a_kernel_that_nothing_is_known_of_stays_as_it_is() -> None:
    assert key_space(KeyFacts("of_a_vendor_7_7")).candidates == ()


def test_a_known_value_tells_the_axes_and_is_a_candidate() -> None:
    space = key_space(KeyFacts("of_a_vendor_7_7"), known=[(3, 5, 0)])
    assert (3, 5, 0) in space.candidates
    assert all(len(one) == 3 for one in space.candidates)
    larger = key_space(KeyFacts("of_a_vendor_7_7"), known=[(4096, 1, 1, 0)])
    assert (4096, 1, 1, 0) in larger.candidates


def test_absurd_global_sizes_cost_nothing() -> None:
    space = key_space(facts((1 << 60, 1 << 60, 3)))
    assert space.gws == ()
    assert len(key_space(facts((1 << 30, 720720, 1), 1 << 40)).candidates) <= 4096


@settings(deadline=None)
@given(gws_3d, st.floats(0.001, 1000))
def test_limited_kernel_time_gives_blocks_as_mace_rounds_them(
    gws: tuple[int, int, int], time_ms: float
) -> None:
    slices = min(int(time_ms) + 1, gws[2])
    for *lws, block in key_space(facts(gws, block=True), time_ms=time_ms).candidates:
        assert block % lws[2] == 0
        assert block == local_size.round_up(gws[2] // slices, lws[2])
    assert block_of(gws, (1, 1, 1), 0) == 0


def group_history(*candidates: tuple[int, ...], keys: int = 1) -> GroupHistory:
    spaces = tuple(KeySpace(f"k{i}", "k", (64, 64, 64), candidates) for i in range(keys))
    return GroupHistory(Group("g", spaces, ("op",)))


def test_a_refused_size_refuses_what_is_as_large() -> None:
    history = group_history()
    history.samples[((4, 4, 4, 0),)] = [1.0]
    history.refused.add(((8, 8, 4, 0),))
    legal = Legal(history)
    assert not legal(((8, 8, 4, 0),))
    assert not legal(((256, 1, 1, 0),))
    assert legal(((128, 1, 1, 0),))
    assert legal((None,))


def test_where_as_many_items_ran_the_longest_axis_is_to_blame() -> None:
    history = group_history()
    history.samples[((16, 16, 1, 0),)] = [1.0]
    history.refused.add(((1, 2, 128, 0),))
    legal = Legal(history)
    assert legal(((32, 8, 1, 0),))
    assert legal(((1, 1, 64, 0),))
    assert not legal(((1, 1, 128, 0),))
    assert not legal(((1, 1, 256, 0),))


def test_beside_other_values_only_what_is_new_is_to_blame() -> None:
    history = group_history(keys=2)
    good, bad = (64, 1, 1, 0), (256, 1, 1, 0)
    history.samples[(good, None)] = [1.0]
    history.refused.add((good, bad))
    legal = Legal(history)
    assert legal((good, None))
    assert legal((bad, None))
    assert not legal((None, bad))
    unclear = group_history(keys=2)
    unclear.refused.add((bad, bad))
    assert not Legal(unclear)((bad, bad))
    assert Legal(unclear)((bad, None))


def test_groups_are_built_from_a_journals_facts() -> None:
    (group,) = build_groups([GroupFacts("g", (facts((4, 4, 4)), facts((2, 2))), ("a", "b"))])
    assert group.ops == ("a", "b")
    assert [len(space.candidates[0]) for space in group.keys] == [4, 3]
