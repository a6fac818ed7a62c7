"""A run in a comparison ends when it has nothing more to show, and not before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from factories import round_row

from motley.comparison.settled import Settled


def ended_in(accuracy_of: Callable[[int], float | None], good_enough: float, rounds: int = 3000) -> int | None:
    """The round after which it says so; rounds of a second each."""
    settled = Settled(good_enough)
    for number in range(1, rounds + 1):
        row = round_row(number, started_s=number - 1.0, duration_s=1.0, accuracy=accuracy_of(number))
        if settled(row, []):
            return number
    return None


@pytest.mark.parametrize(
    ("best", "good_enough", "ends"), [(50, 0.9, 150), (400, 0.9, 800), (50, 0.99, 450), (1000, 0.99, 2000)]
)
def test_it_ends_when_its_best_is_old_and_later_where_it_is_not_good_enough(
    best: int, good_enough: float, ends: int
) -> None:
    assert ended_in(lambda number: 0.95 * min(1.0, number / best), good_enough) == pytest.approx(ends, abs=3)


def test_it_does_not_end_while_it_improves() -> None:
    assert ended_in(lambda number: 0.3 + 0.008 * (number // 40), 0.6, 2900) is None


def test_rounds_that_were_not_judged_do_not_count() -> None:
    assert ended_in(lambda number: None, 0.9) is None
