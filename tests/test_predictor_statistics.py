"""Statistics, intervals and the choice of a tier: formulas and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motley.predictor import intervals
from motley.predictor.intervals import Band, Usual, adapted, band
from motley.predictor.scoring import Averages, Error, Score, Tier, chosen, relative, score
from motley.predictor.statistics import HALF_LIFE, fit, non_negative, recency

ALL = (Tier.HEURISTIC, Tier.STATISTICS, Tier.FOREST)


def test_of_an_exact_law_the_factors_are_found_and_it_goes_on_beyond_what_was_seen() -> None:
    rng = np.random.default_rng(1)
    terms = rng.uniform(0.5, 2.0, (60, 3))
    devices = [f"d{row % 3}" for row in range(60)]
    speed = {"d0": 1.0, "d1": 2.0, "d2": 0.5}
    values = terms @ np.array([0.4, 1.5, 3.0]) * [speed[each] for each in devices]
    factors, _ = fit(terms, values, devices, ["phone"] * 60, (1.0, 1.0, 1.0))
    far = np.array([[10.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 10.0]])
    expected = factors.expect(far, ["d1"] * 3, ["phone"] * 3)
    np.testing.assert_allclose(expected, [8.0, 30.0, 60.0], rtol=0.02)


def test_a_new_device_is_as_its_class_and_one_of_a_new_class_as_the_fleet() -> None:
    terms = np.ones((40, 1))
    devices = [f"d{row % 10}" for row in range(40)]
    classes = ["slow" if row % 10 < 5 else "fast" for row in range(40)]
    values = np.where(np.array(classes) == "slow", 4.0, 1.0)
    factors, _ = fit(terms, values, devices, classes, (1.0,))
    slow, fast, other = factors.expect(np.ones((3, 1)), ["new"] * 3, ["slow", "fast", "odd"])
    assert slow > 2 * fast
    assert fast < other < slow


def test_a_device_with_one_odd_sample_stays_nearer_to_its_class_than_one_with_many() -> None:
    devices = ["once"] + ["often"] * 20 + [f"d{row % 10}" for row in range(60)]
    rng = np.random.default_rng(3)
    noise = np.concatenate([[0.0], rng.permutation(np.linspace(-0.5, 0.5, 20)), rng.normal(0, 0.3, 60)])
    values = np.concatenate([np.full(21, 3.0), np.ones(60)]) * np.exp(noise)
    factors, _ = fit(np.ones((81, 1)), values, devices, ["phone"] * 81, (1.0,))
    once, often, usual = factors.expect(np.ones((3, 1)), ["once", "often", "d1"], ["phone"] * 3)
    assert usual < once < often
    assert often == pytest.approx(3.0, rel=0.25)


def test_one_wild_sample_changes_little() -> None:
    values = np.concatenate([np.linspace(0.98, 1.02, 30), [50.0], np.linspace(0.98, 1.02, 10)])
    factors, _ = fit(np.ones((41, 1)), values, ["d"] * 41, ["phone"] * 41, (1.0,))
    assert factors.expect(np.ones((1, 1)), ["d"], ["phone"])[0] == pytest.approx(1.0, rel=0.02)


def test_what_is_expected_of_a_sample_without_itself_is_farther_from_it() -> None:
    rng = np.random.default_rng(2)
    values = np.exp(rng.normal(0, 0.2, 30))
    devices = [f"d{row % 6}" for row in range(30)]
    factors, left_out = fit(np.ones((30, 1)), values, devices, ["phone"] * 30, (1.0,))
    fitted = factors.expect(np.ones((30, 1)), devices, ["phone"] * 30)
    assert (np.abs(values - left_out) >= np.abs(values - fitted)).all()


def test_recency_halves_with_each_half_life_of_the_same_group() -> None:
    count = int(HALF_LIFE) + 1
    weights = recency(np.array([0, 1] * count))
    assert weights[-2:] == pytest.approx([1.0, 1.0])
    assert weights[:2] == pytest.approx([0.5, 0.5])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_no_other_point_above_zero_is_better(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    root, right = rng.normal(size=(1, count + 2, count)), rng.normal(size=(1, count))
    gram = np.einsum("mij,mik->mjk", root, root) + 0.01 * np.eye(count)

    def cost(point: np.ndarray) -> float:
        return float(point @ gram[0] @ point - 2 * right[0] @ point)

    found = non_negative(gram, right)[0]
    assert (found >= 0).all()
    others = np.abs(found + rng.normal(scale=0.3, size=(50, count)))
    assert all(cost(found) <= cost(each) + 1e-9 for each in others)


def test_the_band_is_the_conformal_quantile_by_hand() -> None:
    """39 errors of one device at a miss rate of 0.1: two beyond each end, (39 + 1)·0.05."""
    errors = np.random.default_rng(1).permutation(np.arange(39.0) - 19) / 100
    low, high = band(errors, ["d"] * 39, 0.1).around(np.ones(1), ["d"])
    assert (low[0], high[0]) == pytest.approx((math.exp(-0.18), math.exp(0.18)))


def test_with_too_few_scores_the_band_says_nothing_and_the_interval_is_a_guess() -> None:
    found = band(np.zeros(intervals.LEAST_SCORES - 1), ["d"] * (intervals.LEAST_SCORES - 1), 0.1)
    assert found.low is None
    low, high = found.around(np.array([8.0]), ["d"])
    assert (low[0], high[0]) == pytest.approx((2.0, 32.0))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_next_error_lies_in_the_band_in_about_nine_of_ten_cases(seed: int) -> None:
    rng, inside = np.random.default_rng(seed), []
    for _ in range(200):
        errors = 0.1 * rng.standard_t(3, size=60)
        low, high = band(errors[:-1], ["d"] * 59, 0.1).around(np.ones(1), ["d"])
        inside.append(low[0] <= math.exp(errors[-1]) <= high[0])
    assert 0.82 <= np.mean(inside) <= 0.97


def test_intervals_of_an_unsteady_device_are_wider() -> None:
    rng = np.random.default_rng(4)
    devices = ["steady", "unsteady"] * 40
    errors = rng.normal(size=80) * np.where(np.array(devices) == "steady", 0.02, 0.2)
    found = Band(Usual.of(errors, devices), -1.6, 1.6)
    low, high = found.around(np.ones(3), ["steady", "unsteady", "new"])
    widths = high - low
    assert widths[0] < widths[2] < widths[1]


def test_misses_widen_and_hits_narrow() -> None:
    assert adapted(0.1, [True]) == pytest.approx(0.091)
    assert adapted(0.1, [False]) == pytest.approx(0.101)
    assert adapted(0.1, [True] * 1000) > 0
    assert adapted(0.1, [False] * 1000) < 0.5


def test_the_peer_knows_a_device_from_its_second_sample_on() -> None:
    averages = Averages()
    assert math.isnan(averages.error("d", 10.0))
    assert averages.error("d", 20.0) == pytest.approx(math.log(2))
    assert averages.error("d", 13.0) == pytest.approx(0.0)


def test_relative_errors_are_against_what_was_measured() -> None:
    np.testing.assert_allclose(relative(np.log([10 / 12, 10 / 8])), [0.2, 0.2])


def errors_of(size: float, count: int = 50, average: float = math.nan) -> list[Error]:
    return [Error("d", size * (-1) ** row, average) for row in range(count)]


def test_a_score_is_the_median_of_the_newest_and_the_peer_counts_where_it_knows_the_device() -> None:
    assert score(errors_of(0.1, count=4)) is None
    found = score([*errors_of(0.3, count=6), *errors_of(0.1, count=5, average=0.4)])
    assert found == Score(11, 0.3, 0.1, 0.4)
    assert score([*errors_of(0.3, count=6), *errors_of(0.1, count=5, average=0.4)], newest=5) == Score(5, 0.1, 0.1, 0.4)
    unknown = score(errors_of(0.2))
    assert unknown is not None
    assert math.isnan(unknown.average_error)


@pytest.mark.parametrize(
    ("forest", "statistics", "heuristic", "average", "expected"),
    [
        (0.05, 0.06, 0.50, 0.20, Tier.FOREST),
        (0.061, 0.06, 0.50, 0.20, Tier.FOREST),
        (0.07, 0.06, 0.50, 0.20, Tier.STATISTICS),
        (0.061, 0.06, 0.50, 0.0605, Tier.STATISTICS),
        (0.30, 0.25, 0.10, 0.20, Tier.HEURISTIC),
        (0.30, 0.25, 0.50, 0.20, Tier.STATISTICS),
        (0.30, 0.40, 0.50, 0.20, Tier.FOREST),
        (0.07, 0.06, 0.50, math.nan, Tier.STATISTICS),
    ],
)
def test_a_tier_steps_down_when_it_is_worse_but_not_onto_a_worse_one(
    forest: float, statistics: float, heuristic: float, average: float, expected: Tier
) -> None:
    sizes = dict(zip(ALL, (heuristic, statistics, forest), strict=True))
    assert chosen(ALL, {tier: errors_of(size, average=average) for tier, size in sizes.items()}) is expected


def test_tiers_are_compared_on_what_both_were_scored_on() -> None:
    statistics = [*errors_of(0.5), *errors_of(0.05, count=10)]
    assert chosen(ALL, {Tier.STATISTICS: statistics, Tier.FOREST: errors_of(0.1, count=10)}) is Tier.STATISTICS


def test_a_forest_must_be_scored_before_it_answers_and_statistics_need_not() -> None:
    few = {Tier.HEURISTIC: errors_of(0.9), Tier.STATISTICS: errors_of(0.1, count=2)}
    assert chosen(ALL, few) is Tier.STATISTICS
    assert chosen(ALL[:1], {}) is Tier.HEURISTIC
