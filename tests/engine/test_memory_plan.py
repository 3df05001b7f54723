"""Images are shared by activations that are never alive together, and only by those."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from droidmace.engine.memory import Lifetime, lifetimes_of, plan_memory


@st.composite
def _lifetimes(draw: st.DrawFn) -> dict[str, Lifetime]:
    count = draw(st.integers(1, 12))
    found = {}
    for index in range(count):
        first = draw(st.integers(0, 10))
        size = (draw(st.integers(1, 50)), draw(st.integers(1, 50)))
        found[f"t{index}"] = Lifetime(first, first + draw(st.integers(0, 4)), size)
    return found


@given(_lifetimes())
def test_living_tensors_have_room_of_their_own(lifetimes: dict[str, Lifetime]) -> None:
    plan = plan_memory(lifetimes)
    assert set(plan.slots) == set(lifetimes)
    for name, life in lifetimes.items():
        width, height = plan.sizes[plan.slots[name]]
        assert width >= life.size[0]
        assert height >= life.size[1]
    for one, other in itertools.combinations(lifetimes, 2):
        a, b = lifetimes[one], lifetimes[other]
        if a.first <= b.last and b.first <= a.last:
            assert plan.slots[one] != plan.slots[other]


def test_a_chain_needs_two_images() -> None:
    size = (8, 8)
    steps = [((), ("x",)), (("x",), ("a",)), (("a",), ("b",)), (("b",), ("c",))]
    lifetimes = lifetimes_of(steps, dict.fromkeys("xabc", size), {}, ["c"])
    assert plan_memory(lifetimes).sizes == (size, size)


def test_an_alias_keeps_its_owner_alive() -> None:
    steps = [((), ("x",)), (("x",), ("a",)), (("a",), ("b",)), (("b", "view"), ("c",))]
    sizes = dict.fromkeys("xabc", (4, 4))
    lifetimes = lifetimes_of(steps, sizes, {"view": "x"}, ["c"])
    assert lifetimes["x"] == Lifetime(0, 3, (4, 4))
    assert "view" not in lifetimes
    assert lifetimes["c"].last == 4, "an output lives on to the end"
