"""Who was asked and who was left out, how often and why."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

from motley.records import DecisionRow

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class ReasonFacts:
    """One reason, for asking devices or for leaving them out."""

    selected: bool
    reason: str
    rounds: int
    """In which it was given."""
    times: int
    """How often, counting each device once a round."""
    devices: int
    most: str
    """The device that it was given for most often."""


@dataclass(frozen=True)
class Choices:
    """All decisions of a run. A device that any plan of a round asked was not left out of that round."""

    reasons: Sequence[ReasonFacts]
    """Those for leaving out first, the most frequent first."""
    left_out: Mapping[str, int]
    """Rounds, by device."""
    main_reason: Mapping[str, str]
    """Why each device was left out most often."""


def choices_of(rows: Iterable[DecisionRow]) -> Choices:
    """Count decisions that come in order of rounds."""
    seen: dict[tuple[bool, str], Counter[str]] = defaultdict(Counter)
    rounds: Counter[tuple[bool, str]] = Counter()
    texts: dict[tuple[bool, str], str] = {}
    for _, decided in groupby(rows, key=lambda row: row.round):
        given = _of_round(decided)
        for key in {(selected, pattern(reason)) for selected, reason in given}:
            rounds[key] += 1
        for (selected, reason), devices in given.items():
            key = selected, pattern(reason)
            texts[key] = reason if texts.get(key, reason) == reason else key[1]
            seen[key].update(devices)
    reasons = [_facts(key, texts[key], rounds[key], counts) for key, counts in seen.items()]
    out = sorted(((texts[key], counts) for key, counts in seen.items() if not key[0]), key=itemgetter(0))
    return Choices(
        reasons=sorted(reasons, key=lambda each: (each.selected, -each.times, each.reason)),
        left_out=sum((counts for _, counts in out), Counter()),
        main_reason=_main(out),
    )


@lru_cache(maxsize=4096)
def pattern(reason: str) -> str:
    """The reason without its numbers, which differ from round to round."""
    return _NUMBER.sub("…", reason)


def _of_round(rows: Iterable[DecisionRow]) -> dict[tuple[bool, str], list[str]]:
    """The devices of a round by whether they were asked, and why: the first plan that asked counts, else the last."""
    decisions: dict[str, tuple[bool, str]] = {}
    for row in rows:
        decision = row.selected, row.reason
        decisions |= {device: decision for device in row.devices if not decisions.get(device, (False,))[0]}
    found: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for device, decision in decisions.items():
        found[decision].append(device)
    return found


def _facts(key: tuple[bool, str], text: str, rounds: int, counts: Counter[str]) -> ReasonFacts:
    most = min(counts, key=lambda device: (-counts[device], len(device), device))
    return ReasonFacts(key[0], text, rounds, counts.total(), len(counts), most)


def _main(out: Sequence[tuple[str, Counter[str]]]) -> dict[str, str]:
    """For each device the reason with the most rounds; of equals, the one that comes first."""
    best: dict[str, tuple[int, str]] = {}
    for reason, counts in out:
        for device, times in counts.items():
            if device not in best or times > best[device][0]:
                best[device] = times, reason
    return {device: reason for device, (_, reason) in best.items()}
