"""The loop that carries out what `motley.scaling` recommends: it launches and ends devices, and says why.

As in dask's adaptive core, three sets are kept apart: the devices planned, those requested of a provider
and not gone, and those observed to have joined. Whatever fails is tried again later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from motley.clock import Clock
from motley.errors import MotleyError
from motley.scaling import Candidate, Cause, Kind, Load, Recommendation, kept, recommend
from motley.scaling_spec import Scaling

LISTED_AFTER_S = 60.0
"""How long after its launch a device may be missing from a provider's list without being lost."""


@dataclass(frozen=True)
class Launched:
    """What came of asking for devices: those launched, and why there are not more."""

    names: Sequence[str] = ()
    refusal: str = ""


class Crew(Protocol):
    """The devices of a run, as far as scaling goes. Methods may raise MotleyError; then they are called again later."""

    def launch(self, count: int) -> Launched:
        """Start up to `count` devices. A refusal, such as of a budget, is no error."""

    def terminate(self, names: Sequence[str]) -> None:
        """End these; no error where one is gone already."""

    def requested(self) -> Collection[str]:
        """All that were launched for this run and are not gone, joined or not."""

    def observed(self) -> Collection[str]:
        """All that have joined and are there, launched or of the fleet file."""


@dataclass(frozen=True)
class Facts:
    """What is known of a device that may be ended; see `motley.scaling.Candidate`."""

    busy: bool = False
    usefulness: float = 1.0
    usd_per_hour: float = 0.0


@dataclass(frozen=True)
class Measured:
    """What the loop is told at each look."""

    used: float
    """Devices at work."""
    queued: float = 0.0
    """Devices wanted for the round that are not there."""
    facts: Mapping[str, Facts] = field(default_factory=dict)
    """By device; one that is missing is idle, useful and free."""


@dataclass(frozen=True)
class Step:
    """What was recommended at one look, and what was done."""

    advice: Recommendation
    launched: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """Launched ones that are gone without having been ended."""


class Scaler:
    """Keeps a fleet within its load. For one thread; counters may be read from others.

    say: takes each line that is worth a line of the log; on_step: is given every step, for metrics and history.
    """

    def __init__(
        self,
        rules: Scaling,
        crew: Crew,
        clock: Clock,
        say: Callable[[str], None] = print,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        self._rules, self._crew, self._clock = rules, crew, clock
        self._say, self._on_step = say, on_step
        self.planned: frozenset[str] = frozenset()
        self.requested: frozenset[str] = frozenset()
        self.observed: frozenset[str] = frozenset()
        self.loads: list[Load] = []
        self.counts: Counter[tuple[Kind, Cause]] = Counter()
        """Steps so far, by what was recommended and why."""
        self._launched_s: dict[str, float] = {}
        self._ending: frozenset[str] = frozenset()
        self._changed_s: float | None = None
        self._refused: tuple[float, str] | None = None
        self._said: tuple[Kind, Cause] | None = None

    def run(self, measure: Callable[[], Measured], is_over: Callable[[], bool]) -> None:
        """Look and act every `interval` until it is over."""
        while not is_over():
            self.step(measure())
            self._clock.sleep(self._rules.interval)

    def step(self, measured: Measured) -> Step:
        """One look: take in who is there, get a recommendation, carry it out."""
        now_s = self._clock.now_s()
        try:
            lost = self._take_stock(now_s)
        except MotleyError as error:
            return self._done(Step(self._hold(now_s, Cause.FAILED, f"can't see who is there: {error}")))
        self.loads.append(Load(now_s, measured.used, len(self.observed), measured.queued))
        self.loads = kept(self.loads, now_s, self._rules.retention)
        overdue = self._overdue(now_s)
        if overdue:
            return self._done(replace(self._give_up(overdue, now_s), lost=lost))
        count, candidates = self._count(), self._candidates(measured.facts)
        advice = recommend(self._rules, self.loads, count, candidates, self._changed_s, now_s)
        return self._done(replace(self._act(advice), lost=lost))

    def end_all(self) -> None:
        """End everything that was launched. Raises MotleyError where that fails."""
        names = self.planned | frozenset(self._crew.requested())
        self._ending |= names
        self.planned = frozenset()
        if names:
            self._crew.terminate(sorted(names))

    def state(self) -> dict[str, Any]:
        """What a server that starts again should know, as plain data; who was launched it sees for itself."""
        return {"changed_s": self._changed_s, "refused": self._refused, "launched_s": dict(self._launched_s)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._changed_s, self._launched_s = state["changed_s"], dict(state["launched_s"])
        self._refused = None if state["refused"] is None else (state["refused"][0], state["refused"][1])

    def _take_stock(self, now_s: float) -> tuple[str, ...]:
        """Renew the three sets, and try again to end what should have ended; who was lost."""
        fresh = {name for name in self.planned if now_s < self._launched_s[name] + LISTED_AFTER_S}
        requested, observed = frozenset(self._crew.requested()) | fresh, frozenset(self._crew.observed())
        self._ending &= requested | observed
        lost = tuple(sorted(self.planned - requested))
        self.requested, self.observed = requested, observed
        self.planned = requested - self._ending
        self._launched_s = {name: self._launched_s.get(name, now_s) for name in requested}
        if self._ending & requested:
            self._terminate(self._ending & requested)
        return lost

    def _count(self) -> int:
        """Devices there or on their way, without those that go."""
        return len((self.observed | self.planned) - self._ending)

    def _candidates(self, facts: Mapping[str, Facts]) -> list[Candidate]:
        known = {name: facts.get(name, Facts()) for name in self.planned}
        return [
            Candidate(name, name in self.observed, each.busy, each.usefulness, each.usd_per_hour)
            for name, each in known.items()
        ]

    def _overdue(self, now_s: float) -> list[str]:
        """Those that have not joined long after their launch."""
        before_s = now_s - self._rules.start_timeout
        return sorted(name for name in self.planned - self.observed if self._launched_s[name] <= before_s)

    def _give_up(self, names: Sequence[str], now_s: float) -> Step:
        self._refused = (now_s, "devices that were launched did not join")
        self._stop(names, now_s)
        text = f"{', '.join(names)} did not join within {self._rules.start_timeout:g} s of the launch: given up"
        advice = Recommendation(now_s, Kind.DOWN, Cause.OVERDUE, text, self._count(), stop=tuple(names))
        return Step(advice, stopped=tuple(names))

    def _act(self, advice: Recommendation) -> Step:
        if advice.kind is Kind.DOWN:
            self._stop(advice.stop, advice.at_s)
            return Step(advice, stopped=advice.stop)
        if advice.kind is Kind.HOLD:
            return Step(advice)
        if self._refused is not None and (wait_s := self._refused[0] + self._rules.cool_down_up - advice.at_s) > 0:
            text = f"{advice.text}; refused before ({self._refused[1]}), next try in {wait_s:.0f} s"
            return Step(self._hold(advice.at_s, Cause.REFUSED, text))
        return self._launch(advice)

    def _launch(self, advice: Recommendation) -> Step:
        try:
            launched = self._crew.launch(advice.add)
        except MotleyError as error:
            launched = Launched(refusal=str(error))
        self._refused = (advice.at_s, launched.refusal) if launched.refusal else None
        if not launched.names:
            text = f"{advice.text}; refused: {launched.refusal or 'nothing was launched'}"
            return Step(self._hold(advice.at_s, Cause.REFUSED, text))
        self._changed_s = advice.at_s
        self.planned |= frozenset(launched.names)
        self._launched_s |= dict.fromkeys(launched.names, advice.at_s)
        if launched.refusal:
            advice = replace(advice, text=f"{advice.text}; no more than {len(launched.names)}: {launched.refusal}")
        return Step(advice, launched=tuple(launched.names))

    def _stop(self, names: Sequence[str], now_s: float) -> None:
        self._changed_s = now_s
        self._ending |= frozenset(names)
        self.planned -= self._ending
        self._terminate(names)

    def _terminate(self, names: Collection[str]) -> None:
        try:
            self._crew.terminate(sorted(names))
        except MotleyError as error:
            self._say(f"scaling: can't end {', '.join(sorted(names))}, will try again: {error}")

    def _hold(self, now_s: float, cause: Cause, text: str) -> Recommendation:
        return Recommendation(now_s, Kind.HOLD, cause, text, self._count())

    def _done(self, step: Step) -> Step:
        """Count it, and say it where it is news."""
        advice = step.advice
        self.counts[advice.kind, advice.cause] += 1
        if step.lost:
            self._say(f"scaling: {', '.join(step.lost)} is gone and was not ended by Motley")
        if advice.kind is not Kind.HOLD or (advice.kind, advice.cause) != self._said:
            self._say(f"scaling: {advice.text}")
        self._said = (advice.kind, advice.cause)
        if self._on_step is not None:
            self._on_step(step)
        return step
