"""Laws that every selection policy keeps, and what each promises of its own."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motley import spec
from motley.selection import SELECTIONS, Candidate

candidate_lists = st.lists(
    st.builds(
        Candidate,
        device=st.integers(1, 500).map("client-{}".format),
        expected_s=st.none() | st.floats(0.01, 1000),
        gflops=st.floats(0, 100),
        examples=st.integers(0, 5000),
        selected=st.integers(0, 50),
    ),
    max_size=30,
    unique_by=lambda each: each.device,
)


def _some(count: int, **changes: object) -> list[Candidate]:
    known = {"expected_s": None, "gflops": 10.0, "examples": 100, "selected": 0}
    return [Candidate(device=f"client-{index}", **{**known, **changes}) for index in range(count)]  # type: ignore[arg-type]


def test_the_table_holds_what_a_fleet_file_may_name() -> None:
    assert tuple(SELECTIONS) == spec.POLICIES
    assert spec.Training.model_fields["policy"].annotation.__args__ == spec.POLICIES  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", SELECTIONS)
@given(candidates=candidate_lists, data=st.data())
def test_picks_are_the_right_number_of_known_devices_each_with_a_reason(
    policy: str, candidates: list[Candidate], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(candidates)))
    picks = SELECTIONS[policy](candidates, count, random.Random(1))
    assert len(picks) == count
    assert picks.keys() <= {each.device for each in candidates}
    assert all(picks.values())


@pytest.mark.parametrize("policy", SELECTIONS)
@given(candidates=candidate_lists, seed=st.integers(0, 99))
def test_the_same_seed_picks_the_same(policy: str, candidates: list[Candidate], seed: int) -> None:
    pick, count = SELECTIONS[policy], len(candidates) // 2
    assert pick(candidates, count, random.Random(seed)) == pick(list(candidates), count, random.Random(seed))


@pytest.mark.parametrize("policy", ["random", "fair"])
@given(candidates=candidate_lists, shuffler=st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(
    policy: str, candidates: list[Candidate], shuffler: random.Random
) -> None:
    shuffled = list(candidates)
    shuffler.shuffle(shuffled)
    count = len(candidates) // 2
    assert SELECTIONS[policy](candidates, count, random.Random(5)) == SELECTIONS[policy](
        shuffled, count, random.Random(5)
    )


@pytest.mark.parametrize("policy", ["random", "fair"])
def test_ties_are_broken_differently_by_different_seeds(policy: str) -> None:
    seen = {frozenset(SELECTIONS[policy](_some(10), 3, random.Random(seed))) for seed in range(20)}
    assert len(seen) > 5


@given(st.integers(1, 12), st.data())
def test_fair_keeps_turns_within_one_of_each_other(devices: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, devices))
    turns: Counter[str] = Counter({f"client-{index}": 0 for index in range(devices)})
    for number in range(40):
        candidates = [Candidate(device, None, 1.0, 1, taken) for device, taken in turns.items()]
        turns.update(SELECTIONS["fair"](candidates, count, random.Random(number)).keys())
        assert max(turns.values()) - min(turns.values()) <= 1


def test_random_gives_everyone_a_turn() -> None:
    turns: Counter[str] = Counter()
    for seed in range(400):
        turns.update(SELECTIONS["random"](_some(8), 2, random.Random(seed)).keys())
    assert len(turns) == 8
    assert all(60 <= count <= 140 for count in turns.values()), turns  # 100 expected each


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=20), st.data())
def test_fastest_takes_the_smallest_expected_durations(durations: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(durations)))
    candidates = [Candidate(f"client-{index}", each, 1.0, 1, 0) for index, each in enumerate(durations)]
    picks = SELECTIONS["fastest"](candidates, count, random.Random(0))
    taken = sorted(each.expected_s or 0 for each in candidates if each.device in picks)
    assert taken == sorted(durations)[:count]


def test_fastest_judges_newcomers_by_work_over_speed() -> None:
    slow = Candidate("slow", None, gflops=1.0, examples=100, selected=0)
    fast = Candidate("fast", None, gflops=10.0, examples=100, selected=0)
    light = Candidate("light", None, gflops=1.0, examples=5, selected=0)
    assert list(SELECTIONS["fastest"]([slow, fast, light], 2, random.Random(0))) == ["light", "fast"]


def test_fastest_puts_newcomers_on_the_scale_of_those_it_knows() -> None:
    known = Candidate("known", 10.0, gflops=10.0, examples=100, selected=3)
    twice = Candidate("twice", None, gflops=5.0, examples=100, selected=0)
    half = Candidate("half", None, gflops=20.0, examples=100, selected=0)
    picks = SELECTIONS["fastest"]([known, twice, half], 3, random.Random(0))
    assert list(picks) == ["half", "known", "twice"]
    assert picks["half"] == "rank 1 by expected 5.00 s"
    assert picks["twice"] == "rank 3 by expected 20.00 s"
