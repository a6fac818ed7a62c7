"""Estimates of all alternatives for one fleet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motley.device import RoundPlan, WorkOrder
from motley.estimates.choices import count_choices
from motley.estimates.rounds import Resource, Work, buffered, rounds_for, synchronous
from motley.knowledge import Knowledge
from motley.objectives import Cost
from motley.planning import Situation, plan_round
from motley.policies import buffer_size
from motley.selection.base import Bools
from motley.spec import ALL, Training
from motley.workload import processed

MOST_ALTERNATIVES = 360
MOST_DEVICES = 1000
"""In an alternative, unless the file's own plan has more."""


@dataclass(frozen=True)
class Alternative:
    """How many devices of each class take part in a round, and the deadline; None leaves that to the fleet file."""

    counts: Mapping[str, int]
    deadline_s: float | None = None


@dataclass(frozen=True)
class RoundEstimate:
    """One round, or one version of the model where nobody waits for anybody."""

    cost: Cost
    examples: float
    """Processed in it, and used."""
    data_share: float
    """Of all examples, those on devices that may take part and are in time."""


@dataclass(frozen=True)
class RunEstimate:
    """A whole run."""

    alternative: Alternative
    round: RoundEstimate
    rounds: int
    cost: Cost


class Estimator:
    """Estimates alternatives for one fleet: its training and seed, what is known, and what devices cost."""

    def __init__(self, training: Training, seed: int, knowledge: Knowledge, resources: Sequence[Resource]) -> None:
        self._training, self._seed, self._knowledge = training, seed, knowledge
        everybody = np.ones(len(knowledge), bool)
        self._pool = knowledge.pool(everybody, training.local_epochs)
        self._example_s = knowledge.example_s()
        self._by_class: dict[str, list[Resource]] = {each.device_class: [] for each in resources}
        for each in sorted(resources, key=lambda each: (self._pool.duration_s[each.row], each.row)):
            self._by_class[each.device_class].append(each)

    @property
    def sizes(self) -> dict[str, int]:
        """Devices of each class."""
        return {name: len(members) for name, members in self._by_class.items()}

    def own(self) -> Alternative:
        """The file's own plan: each class by its share of the fleet (largest remainder)."""
        sizes, total = self.sizes, sum(self.sizes.values())
        wanted = self._training.devices_per_round
        asked = total if wanted == ALL else min(total, math.ceil(round(wanted * self._over_commit, 9)))
        exact = {name: asked * size / total for name, size in sizes.items()}
        counts = {name: int(each) for name, each in exact.items()}
        for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: asked - sum(counts.values())]:
            counts[name] += 1
        return Alternative(counts)

    def alternatives(self) -> list[Alternative]:
        """The file's own plan first, then others: fewer or more devices of each class, and other deadlines."""
        own = self.own()
        deadlines = self._deadlines(own)
        most = max(MOST_DEVICES, sum(own.counts.values()))
        counts = [each for each in count_choices(self.sizes, MOST_ALTERNATIVES // len(deadlines), most)]
        made = [Alternative(each, deadline_s) for each in [dict(own.counts), *counts] for deadline_s in deadlines]
        return [own, *(each for each in made if each != own)]

    def round(self, alternative: Alternative) -> RoundEstimate | None:
        """One round; None where nobody's work would be used."""
        chosen = self._representatives(alternative.counts)
        training = self._training
        if alternative.deadline_s is not None:
            training = training.model_copy(update={"deadline": alternative.deadline_s})
        free: Bools = np.zeros(len(self._knowledge), bool)
        free[[each.row for each in chosen]] = True
        count = max(1, int(len(chosen) / self._over_commit + 1e-9))
        plan = plan_round(training, self._seed, self._knowledge, Situation(1, count, free))
        works = self._works(plan, chosen)
        if not works:
            return None
        if training.chosen.pacing == "buffered":
            there = sum(len(self._by_class[name]) for name, count in alternative.counts.items() if count)
            buffer = buffer_size(training.policy_options, len(works))
            cost, used, examples = buffered(works, buffer, rotates=len(works) < there)
        else:
            cost, used, examples = synchronous(works, plan, training.chosen.uses_stale)
        return RoundEstimate(cost, examples, self._data_share(alternative.counts, chosen, used)) if examples else None

    def runs(self, rounds: int, examples: float) -> list[RunEstimate]:
        """Every alternative that works, the file's own plan first, as equals of so many rounds of `examples` each.

        A deadline that changes nothing makes no alternative.
        """
        found: dict[tuple[tuple[int, ...], Cost], RunEstimate] = {}
        for alternative in self.alternatives():
            estimate = self.round(alternative)
            if estimate is not None:
                needed = rounds_for(rounds, examples, estimate.examples)
                run = RunEstimate(alternative, estimate, needed, estimate.cost.times(needed))
                found.setdefault((tuple(alternative.counts[name] for name in self.sizes), run.cost), run)
        return list(found.values())

    @property
    def _over_commit(self) -> float:
        return float(getattr(self._training.policy_options, "over_commit", 1.0))

    def _deadlines(self, own: Alternative) -> list[float | None]:
        """Deadlines to try: the file's own, and around what the file's own plan takes."""
        chosen = self._training.chosen
        rows = [each.row for each in self._representatives(own.counts)]
        durations_s = self._pool.duration_s[rows]
        if chosen.local_work != "fixed":
            middle_s = float(np.median(durations_s))
            return [None, middle_s / 2, 2 * middle_s]
        if chosen.pacing == "buffered" or durations_s.min() == durations_s.max():
            return [None]
        return [None, *dict.fromkeys(float(np.quantile(durations_s, share, method="lower")) for share in (0.5, 0.8))]

    def _works(self, plan: RoundPlan, chosen: Sequence[Resource]) -> list[Work]:
        by_name = {self._knowledge.names[each.row]: each for each in chosen}
        return [self._work(order, by_name[order.device]) for order in plan.orders]

    def _work(self, order: WorkOrder, resource: Resource) -> Work:
        """What is expected of an order; one with a stop time is done by then."""
        row = resource.row
        example_s, download_s = float(self._example_s[row]), float(self._pool.download_s[row])
        examples = processed(int(self._pool.examples[row]), order.batch_size, order.steps)
        compute_s = example_s * examples
        expected_s = order.expected_s or 0.0
        if order.stop_after_s is not None:
            left_s = max(example_s * order.batch_size, order.stop_after_s - download_s)
            if left_s < compute_s:
                return Work(resource, expected_s - compute_s + left_s, left_s, int(left_s / example_s))
        return Work(resource, expected_s, compute_s, examples)

    def _representatives(self, counts: Mapping[str, int]) -> list[Resource]:
        return [
            members[int((place + 0.5) * len(members) / counts[name])]
            for name, members in self._by_class.items()
            for place in range(counts.get(name, 0))
        ]

    def _data_share(self, counts: Mapping[str, int], chosen: Sequence[Resource], used: Sequence[Work]) -> float:
        in_time = {each.resource.row for each in used}
        examples, share = self._pool.examples, 0.0
        for name, members in self._by_class.items():
            of_class = [each for each in chosen if each.device_class == name]
            if of_class:
                own = sum(int(examples[each.row]) for each in members)
                share += own * sum(each.row in in_time for each in of_class) / len(of_class)
        return share / float(examples.sum())
