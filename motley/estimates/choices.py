"""Which numbers of devices to compare."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product


def count_choices(sizes: Mapping[str, int], limit: int, most: int) -> list[dict[str, int]]:
    """Up to `limit` ways to take none, some or all devices of each class, no more than `most` together.

    Each class is taken whole, by half, by a quarter and so on, as finely as the limit allows. Where even all
    or nothing of each class is too much, one class at a time is left out, and one taken alone.
    """
    levels = next((each for each in range(20, 1, -1) if each ** len(sizes) <= limit + 1), 0)
    if levels:
        steps = [[0, *sorted({max(1, size >> halved) for halved in range(levels - 1)})] for size in sizes.values()]
        made = [dict(zip(sizes, counts, strict=True)) for counts in product(*steps)]
    else:
        made = [{**sizes, name: 0} for name in sizes]
        made += [{**dict.fromkeys(sizes, 0), name: size} for name, size in sizes.items()]
    return [each for each in made if 0 < sum(each.values()) <= most][:limit]
