"""The loop: look, recommend, launch or end, leave word; until the run is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from motley.clock import Clock
from motley.environment import device_environment
from motley.errors import RunFailed
from motley.growing.link import Link, NoServer, Seen
from motley.growing.targets import write_targets
from motley.launched_crew import LaunchedCrew
from motley.launcher import Launcher, Order
from motley.launches import LIVE, BudgetExceeded, LaunchRow
from motley.providers.base import Needs, ProviderError
from motley.scaler import Scaler, Step
from motley.scaling_log import ScalingStep
from motley.scaling_spec import Scaling
from motley.spec import Fleet
from motley.sweeping import reconcile

SERVER_PATIENCE_S = 300.0
"""How long a server may be silent, as while it starts again, before its devices are ended."""
TEND_S, RECONCILE_S = 60.0, 600.0
_RENEW_SHARE = 0.25
"""Of its lease, what is left of it when a device that still works gets a longer one."""


@dataclass(frozen=True)
class Growth:
    """All that the loop needs."""

    fleet: Fleet
    launcher: Launcher
    link: Link
    targets: Path
    """Directory of Prometheus's targets."""
    superlink: str
    """host:port of the server, as the devices see it."""
    clock: Clock
    say: Callable[[str], None]

    @property
    def rules(self) -> Scaling:
        """Raises RunFailed for a fleet that has none."""
        if self.fleet.scaling is None or not self.fleet.scaling.enabled:
            raise RunFailed(
                "the fleet has no section 'scaling' that is enabled; add one and write the compose file anew"
            )
        return self.fleet.scaling

    def order_of(self, run_id: str, number: int) -> Order:
        """The order of the `number`-th device that a run launches; the same one whenever it is asked for."""
        rules, device = self.rules, self.fleet.newcomer(number)
        spec = device.spec
        return Order(
            token=f"run{run_id}-{device.name}",
            needs=Needs(spec.cpus, spec.memory, spec.accelerators),
            run_id=run_id,
            device=device.name,
            environment=device_environment(device),
            superlink=self.superlink,
            hours=rules.lease / 3600,
            spot=rules.spot,
            provider=rules.provider,
            account=rules.account or "",
        )

    def run(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Grow and shrink the fleet until its run has ended, or `is_over`; then end what was launched.

        Raises RunFailed where the server is silent for `SERVER_PATIENCE_S`, after its devices have been ended.
        """
        seen = self._await_run(is_over)
        if seen is None:
            return
        loop = _Loop(self, seen)
        try:
            loop.go_on(is_over)
        finally:
            loop.end()

    def _await_run(self, is_over: Callable[[], bool]) -> Seen | None:
        """The first look at a run that goes on; None where it is over before there is one."""
        silent_since_s, said = self.clock.now_s(), ""
        while not is_over():
            try:
                seen = self.link.look(self.rules.interval, None)
                silent_since_s, why = self.clock.now_s(), "no run is under way"
                if seen.run_id and seen.active:
                    return seen
            except NoServer as error:
                if self.clock.now_s() > silent_since_s + SERVER_PATIENCE_S:
                    raise RunFailed(str(error)) from None
                why = str(error)
            if why != said:
                self.say(f"scaling: {why}; waiting")
                said = why
            self.clock.sleep(self.rules.interval)
        return None


class _Loop:
    """The loop of one run."""

    def __init__(self, growth: Growth, seen: Seen) -> None:
        self._growth, self._run_id, self._seen = growth, seen.run_id, seen
        crew = LaunchedCrew(
            growth.launcher, self._run_id, lambda number: growth.order_of(self._run_id, number), self._present
        )
        self._scaler = Scaler(growth.rules, crew, growth.clock, growth.say, self._note)
        self._last: ScalingStep | None = None
        self._busy_s: dict[str, float] = {}
        self._tended_s = self._reconciled_s = float("-inf")

    def go_on(self, is_over: Callable[[], bool]) -> None:
        growth = self._growth
        answered_s = growth.clock.now_s()
        while not is_over() and self._seen.active and self._seen.run_id == self._run_id:
            self._busy_s |= dict.fromkeys(self._seen.busy, growth.clock.now_s())
            self._take_care()
            self._scaler.step(self._seen.measured(self._prices()))
            write_targets(growth.targets, self._launched())
            growth.clock.sleep(growth.rules.interval)
            try:
                self._seen = growth.link.look(growth.rules.interval, self._last)
                answered_s = growth.clock.now_s()
            except NoServer as error:
                if growth.clock.now_s() > answered_s + SERVER_PATIENCE_S:
                    raise RunFailed(f"{error}, for {SERVER_PATIENCE_S:.0f} s; its devices are ended") from None

    def end(self) -> None:
        """End all that was launched; what can't be ended now is left to a sweep, which is told that the run is over."""
        growth = self._growth
        try:
            self._scaler.end_all()
        except ProviderError as error:
            growth.say(f"scaling: {error}; end the rest with: motley providers sweep --yes")
        growth.launcher.launches.end_run(self._run_id)
        write_targets(growth.targets, self._launched())

    def _present(self) -> list[str]:
        return list(self._seen.fitness)

    def _rows(self) -> list[LaunchRow]:
        live = self._growth.launcher.launches.live()
        return [row for row in live if row.run_id == self._run_id]

    def _prices(self) -> Mapping[str, float]:
        return {row.device: row.quote.usd_per_hour for row in self._rows()}

    def _launched(self) -> Mapping[str, str]:
        return {row.device: self._growth.rules.device_class for row in self._rows()}

    def _take_care(self) -> None:
        """Let those who still work run longer, end what is due, and bring the journal together with what there is."""
        growth, now_s = self._growth, self._growth.clock.now_s()
        if now_s >= self._reconciled_s + RECONCILE_S:
            self._reconciled_s = now_s
            for settled in reconcile(growth.launcher, now_s)[0]:
                growth.say(f"scaling: {settled.token}: {settled.what}")
        if now_s >= self._tended_s + TEND_S:
            self._tended_s = now_s
            self._extend(now_s)
            for due in growth.launcher.tend(self._run_id, self._busy_s):
                growth.say(f"scaling: {due.row.device} ended: {due.reason}")

    def _extend(self, now_s: float) -> None:
        lease_s = self._growth.rules.lease
        for row in self._rows():
            if row.state in LIVE and row.due_s - now_s < _RENEW_SHARE * lease_s:
                try:
                    self._growth.launcher.extend(row.token, lease_s / 3600)
                except BudgetExceeded as error:
                    self._growth.say(f"scaling: {row.device} is ended when its time is over: {error}")

    def _note(self, step: Step) -> None:
        advice, scaler = step.advice, self._scaler
        self._last = ScalingStep(
            run_id=self._run_id,
            at_s=advice.at_s,
            kind=advice.kind.value,
            cause=advice.cause.value,
            text=advice.text,
            utilisation=advice.utilisation,
            planned=len(scaler.planned),
            requested=len(scaler.requested),
            observed=len(scaler.observed),
            launched=step.launched,
            stopped=step.stopped,
            lost=step.lost,
            usd_per_hour=sum(self._prices().values()),
        )
