"""The two paces of a run: rounds that end for all at once, and a buffer that fills while nobody waits."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from motley.policies import buffer_size
from motley.spec import ALL, Training
from server.mailbox import Sent
from server.rounds import Round


class Pacing(Protocol):
    """When devices are asked, when a round has enough, and which replies are late."""

    refills: bool
    """Whether a device that is done is followed by another within the round."""

    def is_full(self, current: Round) -> bool:
        """Whether nobody more is to be asked in this round."""

    def vacancies(self, wanted: int, at_work: int) -> int:
        """How many devices may be asked now, where `at_work` are."""

    def is_over(self, current: Round, under_way: Collection[Sent], now_s: float) -> bool:
        """Whether the round has what it needs, or can't get any more."""

    def dues_s(self, current: Round, at_work: Iterable[Sent]) -> list[float]:
        """Times at which something is due whether or not a reply comes."""

    def is_late(self, sent: Sent, current: Round, now_s: float) -> bool:
        """Whether a reply that comes in this round is too late for its order."""


class InRounds:
    """All are asked at the start; a round ends when enough have answered, or at its deadline."""

    refills = False

    def is_full(self, current: Round) -> bool:
        return bool(current.plans)

    def vacancies(self, wanted: int, at_work: int) -> int:
        return wanted

    def is_over(self, current: Round, under_way: Collection[Sent], now_s: float) -> bool:
        if current.sound() >= current.quorum or now_s >= current.started_s + current.deadline_s:
            return True
        return len(current.answered()) >= current.asked

    def dues_s(self, current: Round, at_work: Iterable[Sent]) -> list[float]:
        return [current.started_s + current.deadline_s]

    def is_late(self, sent: Sent, current: Round, now_s: float) -> bool:
        return current.closed or sent.round != current.number


@dataclass(frozen=True)
class Buffered:
    """A device that is done is followed by another at once, and each `size` arrivals make a round."""

    size: int
    refills = True

    def is_full(self, current: Round) -> bool:
        return len(current.arrivals) >= self.size

    def vacancies(self, wanted: int, at_work: int) -> int:
        return max(0, wanted - at_work)

    def is_over(self, current: Round, under_way: Collection[Sent], now_s: float) -> bool:
        return self.is_full(current) or not under_way

    def dues_s(self, current: Round, at_work: Iterable[Sent]) -> list[float]:
        return [sent.due_s for sent in at_work]

    def is_late(self, sent: Sent, current: Round, now_s: float) -> bool:
        return now_s > sent.due_s


def pacing_of(training: Training, devices: int) -> Pacing:
    """The pace that the policy goes with, in a fleet of so many devices."""
    if training.chosen.pacing == "rounds":
        return InRounds()
    wanted = training.devices_per_round
    return Buffered(buffer_size(training.policy_options, devices if wanted == ALL else wanted))
