"""What became of the orders, by outcome and reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from motley.device import Outcome, RoundOutcome
from motley.reporting.choices import pattern

USED, USED_LATE, NOT_USED = "used", "used, though late", "finished, not used"


@dataclass(frozen=True)
class OutcomeFacts:
    """Orders that ended alike."""

    kind: str
    """Of `kind_of`."""
    reason: str
    orders: int
    devices: int
    at_work_s: float
    energy_wh: float


def kind_of(outcome: RoundOutcome) -> str:
    """The outcome in words, but for those that finished or were used, of which there are three kinds."""
    if outcome.used:
        return USED_LATE if outcome.outcome is Outcome.LATE else USED
    return NOT_USED if outcome.outcome is Outcome.FINISHED else in_words(outcome.outcome)


def in_words(outcome: Outcome) -> str:
    return outcome.value.replace("_", " ")


def outcome_facts(outcomes: Sequence[RoundOutcome]) -> list[OutcomeFacts]:
    """One row for each kind and reason: the kinds with the most orders first, and in each the same of reasons."""
    groups: dict[tuple[str, str], list[RoundOutcome]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    for each in outcomes:
        kind = kind_of(each)
        groups[kind, pattern(each.reason)].append(each)
        sizes[kind] += 1
    rows = [_facts(kind, reason, alike) for (kind, reason), alike in groups.items()]
    return sorted(rows, key=lambda row: (-sizes[row.kind], row.kind, -row.orders, row.reason))


def _facts(kind: str, reason: str, alike: Sequence[RoundOutcome]) -> OutcomeFacts:
    texts = {each.reason for each in alike}
    return OutcomeFacts(
        kind=kind,
        reason=texts.pop() if len(texts) == 1 else reason,
        orders=len(alike),
        devices=len({each.device for each in alike}),
        at_work_s=sum(each.round_trip_s for each in alike),
        energy_wh=sum(each.energy_wh for each in alike),
    )
