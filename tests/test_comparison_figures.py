"""The figures of a run, worked out by hand, and many runs summed up."""

from __future__ import annotations

import math
from typing import Any

import pytest
from factories import fleet, outcome, profile, round_row, run_row
from hypothesis import given
from hypothesis import strategies as st

from motley.comparison import figures, usage
from motley.comparison.bars import MOST_BARS, Bar, Trace, bar, inside, order, trace, window
from motley.comparison.figures import Point, RunFigures, failed_run, run_figures
from motley.comparison.summary import Spread, best_peer, find, sentences, spread, summarise
from motley.device import Outcome, RoundOutcome
from motley.page.words import seconds
from motley.records import RoundRow, RunRecord


def work(device: str, start_s: float, end_s: float, used: bool = True, **changes: Any) -> RoundOutcome:
    kind = Outcome.FINISHED if used else Outcome.LATE
    return outcome(device, kind, round_trip_s=end_s - start_s, known_s=end_s, used=used, **changes)


def rounds(*ends_and_accuracies: tuple[float, float | None]) -> list[RoundRow]:
    starts = [0.0, *(end for end, _ in ends_and_accuracies)]
    return [
        round_row(index + 1, started_s=starts[index], duration_s=end - starts[index], accuracy=accuracy)
        for index, (end, accuracy) in enumerate(ends_and_accuracies)
    ]


def record(rows: list[RoundRow], outcomes: list[RoundOutcome], **changes: Any) -> RunRecord:
    run = run_row(status="completed", started_s=0.0, **changes)
    return RunRecord(run, rows, [(1, each) for each in outcomes], [], {})


ROWS = rounds((10.0, 0.2), (20.0, None), (30.0, 0.6), (40.0, 0.5))
"""Four rounds of 10 s, the second not evaluated."""

WORK = [
    work("client-1", 0, 10, energy_wh=0.5),
    work("client-2", 0, 6),
    work("client-1", 10, 20),
    work("client-3", 12, 20, used=False, energy_wh=0.25),
    work("client-1", 20, 30),
    work("client-2", 30, 40),
]


def test_the_figures_of_a_run_by_hand() -> None:
    got = run_figures(record(ROWS, WORK), 0.55, concurrency=2, devices=4, wall_s=1.5)
    assert (got.workload, got.policy, got.seed, got.target) == ("laptop", "random", 1, 0.55)
    assert (got.tta_s, got.rounds, got.virtual_s, got.wall_s) == (30.0, 4, 40.0, 1.5)
    assert got.final_accuracy == pytest.approx((0.2 + 0.6 + 0.5) / 3)
    assert got.best_accuracy == 0.6
    assert got.jain == pytest.approx((3 + 2) ** 2 / (4 * (9 + 4)))  # used 3, 2, 0 and 0 times
    assert got.useful_share == pytest.approx((10 + 6 + 10 + 10 + 10) / (2 * 40))
    assert got.steady_useful_share == pytest.approx((20 - 40 / 3 + 10 + 10) / (2 * 40 * 2 / 3))
    assert (got.used_device_s, got.wasted_device_s) == (46.0, 8.0)
    assert got.energy_j == pytest.approx(0.75 * 3600)
    assert (got.used_updates, got.unused_updates, got.participants, got.devices) == (5, 1, 2, 4)


def test_without_a_target_a_run_aims_at_95_percent_of_its_best() -> None:
    got = run_figures(record(ROWS, WORK), None, concurrency=2, devices=4)
    assert got.target == pytest.approx(0.57)
    assert got.tta_s == 30.0


@pytest.mark.parametrize(("target", "tta_s"), [(0.2, 10.0), (0.2001, 30.0), (0.6, 30.0), (0.61, None)])
def test_a_target_is_reached_at_the_end_of_the_first_round_that_has_it(target: float, tta_s: float | None) -> None:
    assert run_figures(record(ROWS, []), target, concurrency=2, devices=4).tta_s == tta_s


def test_rounds_past_the_horizon_do_not_count() -> None:
    got = run_figures(record(ROWS, WORK), 0.55, concurrency=2, devices=4, horizon_s=29.9)
    assert (got.rounds, got.virtual_s, got.tta_s, got.final_accuracy) == (2, 20.0, None, 0.2)
    at_the_edge = run_figures(record(ROWS, WORK), 0.55, concurrency=2, devices=4, horizon_s=30.0)
    assert at_the_edge.tta_s == 30.0


def test_work_for_a_round_past_the_horizon_does_not_count_unless_nothing_else_was_done() -> None:
    outcomes = [(1, work("client-1", 0, 10)), (2, work("client-2", 10, 25, used=False)), (3, work("client-3", 20, 30))]
    run = RunRecord(run_row(), ROWS, outcomes, [], {})
    cut = run_figures(run, 0.5, concurrency=2, devices=4, horizon_s=29.0)
    assert (cut.used_updates, cut.unused_updates, cut.wasted_device_s) == (1, 1, 15.0)
    assert cut.useful_share == pytest.approx(10 / (2 * 20))
    in_vain = run_figures(run, 0.5, concurrency=2, devices=4, horizon_s=5.0)
    assert (in_vain.rounds, in_vain.wasted_device_s) == (0, 15.0)
    assert run_figures(run, 0.5, concurrency=2, devices=4).used_updates == 2


def test_the_final_accuracy_is_the_mean_of_the_last_five() -> None:
    rows = rounds(*[(float(index), index / 10) for index in range(1, 8)])
    assert run_figures(record(rows, []), 0.9, concurrency=2, devices=4).final_accuracy == pytest.approx(0.5)


def test_a_run_of_no_rounds_has_no_figures() -> None:
    under_way = round_row(1, started_s=0.0, duration_s=None, accuracy=None)
    got = run_figures(record([under_way], [], policy="oort"), 0.5, concurrency=2, devices=4)
    assert (got.tta_s, got.final_accuracy, got.best_accuracy, got.jain, got.useful_share) == (None,) * 5
    assert (got.rounds, got.virtual_s, got.policy) == (0, 0.0, "oort")


def test_a_failed_run_says_why() -> None:
    failed = record(ROWS, [])
    failed = RunRecord(run_row(status="failed", detail="no device left"), failed.rounds, [], [], {})
    assert run_figures(failed, 0.5, concurrency=2, devices=4).reason == "no device left"


def test_concurrency_is_what_the_fleet_allows() -> None:
    assert figures.concurrency(fleet()) == 3  # devices_per_round: all
    assert figures.concurrency(fleet(training={"devices_per_round": 2})) == 2


def test_asking_more_than_the_concurrency_makes_more_available() -> None:
    spans = usage.spans([work("a", 0, 10), work("b", 0, 4), work("c", 2, 4, used=False)])
    assert usage.available_s(spans, 1, 0, 10) == 2 * 2 + 2 * 3 + 6 * 1  # 2 at work, then 3, then 1
    assert usage.available_s(spans, 2, 0, 10) == 2 * 2 + 2 * 3 + 6 * 2
    assert usage.available_s(spans, 2, 3, 3) == 0.0
    assert usage.useful_s(spans, 0, 10) == 14.0
    assert usage.useful_s(spans, 3, 5) == 2 + 1


SPANS = st.lists(
    st.builds(
        lambda start, length, used: usage.Span(start, start + length, used),
        st.floats(-10, 100),
        st.floats(0, 50),
        st.booleans(),
    ),
    max_size=12,
)


@given(spans=SPANS, concurrency=st.integers(1, 5), start=st.floats(0, 50), length=st.floats(0, 50))
def test_no_more_is_useful_than_available(
    spans: list[usage.Span], concurrency: int, start: float, length: float
) -> None:
    end = start + length
    available = usage.available_s(spans, concurrency, start, end)
    assert usage.useful_s(spans, start, end) <= available + 1e-6
    assert available >= concurrency * length - 1e-6


@given(spans=SPANS, concurrency=st.integers(1, 5), cut=st.floats(0, 100))
def test_what_is_available_adds_up(spans: list[usage.Span], concurrency: int, cut: float) -> None:
    whole = usage.available_s(spans, concurrency, 0, 100)
    parts = usage.available_s(spans, concurrency, 0, cut) + usage.available_s(spans, concurrency, cut, 100)
    assert parts == pytest.approx(whole)


def run(policy: str, seed: int = 1, **changes: Any) -> RunFigures:
    known = failed_run("digits", policy, seed, 10, 1.0, "").as_mapping() | {
        "status": "completed",
        "target": 0.9,
        "tta_s": 100.0,
        "final_accuracy": 0.95,
        "jain": 0.9,
        "useful_share": 0.5,
    }
    return RunFigures(**{**known, **changes})


RUNS = [
    run("random", 1, tta_s=200.0, target=0.90),
    run("random", 2, tta_s=300.0, target=0.92),
    run("random", 3, tta_s=400.0, target=0.91),
    run("adaptive", 1, tta_s=100.0, target=0.90, final_accuracy=0.97),
    run("adaptive", 2, tta_s=60.0, target=0.92, final_accuracy=0.96),
    run("adaptive", 3, tta_s=50.0, target=0.91, final_accuracy=0.99),
    run("oort", 1, tta_s=None, final_accuracy=0.8),
    run("oort", 2, tta_s=150.0, final_accuracy=0.9),
    run("oort", 3, tta_s=90.0, final_accuracy=0.9),
]


def test_policies_are_summed_up_over_seeds_and_the_soonest_comes_first() -> None:
    rows = summarise(RUNS)
    assert [row.policy for row in rows] == ["adaptive", "oort", "random"]
    ours, oort, baseline = rows
    assert (ours.runs, ours.arrived, ours.failed, ours.target) == (3, 3, 0, 0.91)
    assert ours.tta_s == Spread(60.0, 50.0, 100.0)
    assert ours.speedup == 5.0  # of 2, 5 and 8
    assert ours.final_accuracy is not None
    assert ours.final_accuracy.half_range == pytest.approx(0.015)
    assert (oort.arrived, oort.tta_s, oort.speedup) == (2, Spread(150.0, 90.0, math.inf), 2.0)  # of 0, 2 and 4.4
    assert baseline.speedup == 1.0


def test_workloads_keep_their_order_and_failed_runs_their_reason() -> None:
    rows = summarise([run("random", workload="b"), failed_run("a", "oort", 1, 10, 1.0, "out of paper")])
    assert [(row.workload, row.policy) for row in rows] == [("b", "random"), ("a", "oort")]
    assert (rows[1].runs, rows[1].failed, rows[1].reason, rows[1].tta_s) == (1, 1, "out of paper", None)


def test_half_of_the_runs_lost_is_never() -> None:
    assert spread([1.0, math.inf]) == Spread(math.inf, 1.0, math.inf)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)
    assert spread([None]) is None


def test_a_seed_on_which_neither_arrives_does_not_count() -> None:
    runs = [run("random", 1, tta_s=None), run("oort", 1, tta_s=None), run("random", 2), run("oort", 2, tta_s=50.0)]
    row = find(summarise(runs), "digits", "oort")
    assert row is not None
    assert row.speedup == 2.0
    alone = find(summarise([run("oort", 1)]), "digits", "oort")
    assert alone is not None
    assert alone.speedup is None


def test_the_best_peer_is_the_soonest_that_is_not_ours() -> None:
    peer = best_peer(summarise(RUNS), "digits")
    assert peer is not None
    assert peer.policy == "oort"


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (
            RUNS,
            "adaptive reaches 0.910 in 60 s of virtual time, 5.0× sooner than random (300 s), "
            "and ends at 0.970 (random 0.950)",
        ),
        (
            [run("random", tta_s=8.0), run("adaptive", tta_s=16.0)],
            "adaptive reaches 0.900 in 16 s of virtual time, 2.0× later than random (8.0 s), "
            "and ends at 0.950 (random 0.950)",
        ),
        (
            [run("random"), run("adaptive", tta_s=102.0)],
            "adaptive reaches 0.900 in 102 s of virtual time, as soon as random (100 s), "
            "and ends at 0.950 (random 0.950)",
        ),
        (
            [run("random"), run("adaptive", tta_s=None, final_accuracy=0.7)],
            "adaptive does not reach 0.900 in most runs (0 of 1 runs arrive), and ends at 0.700 (random 0.950)",
        ),
        (
            [run("random", tta_s=None), run("adaptive")],
            "adaptive reaches 0.900 in 100 s of virtual time, where random does not arrive, "
            "and ends at 0.950 (random 0.950)",
        ),
        (
            [run("random"), run("fair", tta_s=50.0)],
            "fair reaches 0.900 in 50 s of virtual time, 2.0× sooner than random (100 s), "
            "and ends at 0.950 (random 0.950)",
        ),
        ([run("random")], "random reaches 0.900 in 100 s of virtual time"),
        (
            [run("random"), failed_run("digits", "adaptive", 1, 10, 1.0, "broken")],
            "adaptive has no result: broken",
        ),
    ],
)
def test_the_outcome_in_words(runs: list[RunFigures], text: str) -> None:
    assert sentences(summarise(runs)) == [text]


def test_several_workloads_are_named() -> None:
    said = sentences(summarise([run("random", workload="a"), run("random", workload="b")]))
    assert [text.split(":")[0] for text in said] == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.2 s"), (61.4, "61 s"), (3599, "3599 s"), (5100, "1 h 25 min"), (7199, "2 h 00 min")]
)
def test_times_for_people(value: float, text: str) -> None:
    assert seconds(value) == text


def test_a_bar_has_half_of_its_transfer_on_each_side() -> None:
    got = bar(work("client-1", 10, 20, wall_s=6.0, staleness=2))
    assert got == Bar("client-1", 10.0, 12.0, 18.0, 20.0, True, "used 2 versions late", Outcome.FINISHED)
    assert bar(work("client-1", 10, 20, used=False, wall_s=60.0, reason="no reply")) == Bar(
        "client-1", 10.0, 10.0, 20.0, 20.0, False, "late: no reply", Outcome.LATE
    )


def traced(ends: list[float], bars: list[RoundOutcome], policy: str = "random") -> Trace:
    points = [Point(index + 1, end, None, None) for index, end in enumerate(ends)]
    profiles = [
        profile("client-1", device_class="slow", gflops=1.0),
        profile("client-2", device_class="fast", gflops=9.0),
        profile("client-3", device_class="slow", gflops=0.5),
    ]
    return trace(policy, bars, points, profiles)


def test_the_stretch_is_three_rounds_a_third_into_the_run() -> None:
    assert window(traced([10.0 * index for index in range(1, 13)], []), []) == (40.0, 70.0)
    assert window(traced([10.0, 20.0], []), []) == (0.0, 20.0)
    assert window(traced([], []), []) is None


def test_the_stretch_shrinks_where_bars_get_too_many() -> None:
    crowd = [work("client-1", 40 + index / 100, 41 + index / 100) for index in range(MOST_BARS - 100)]
    later = [work("client-1", 55, 56)] * 200
    baseline = traced([10.0 * index for index in range(1, 13)], [])
    assert window(baseline, [traced([], crowd + later)]) == (40.0, 50.0)
    assert len(inside(traced([], crowd * 2), (40.0, 50.0))) == MOST_BARS


def test_slow_classes_and_slow_devices_stand_first() -> None:
    assert order([traced([], [])], ["client-2", "client-1", "client-3", "client-1"]) == [
        "client-3",
        "client-1",
        "client-2",
    ]
