"""The registry as a running server keeps it: who is there, and what each order holds of whom.

A device is registered with its profile, holds what an order needs from the sending until its reply, and is
updated with each reply. Who does not answer gives it back when its lease ends, which is when nobody would
take the reply any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from motley.device import REPLY_GRACE_S, DeviceProfile, Outcome, RoundOutcome, RoundPlan, WorkOrder
from motley.registry import Amounts, News, Refusal, Registry, Request, Reservation, registration_of

Needs = Callable[[float], int]
"""Memory to train the model at a share of its channels, in bytes."""


class Resources(Protocol):
    """What the strategy tells of its devices, and asks before it sends an order."""

    def join(self, profile: DeviceProfile) -> None:
        """A device has said what it is."""

    def see(self, connected: Collection[str]) -> None:
        """Those devices are connected now, and no others."""

    def due_for_profile(self) -> Collection[str]:
        """Devices that should say anew what they are, and measure their speed anew."""

    def admit(self, plan: RoundPlan) -> RoundPlan:
        """The plan without the orders that nothing was left for; the rest holds what it needs from now on."""

    def settle(self, device: str, outcome: RoundOutcome) -> None:
        """A reply has come: its order holds nothing any more."""


class Unlimited:
    """Nothing is kept, everything admitted: on the virtual clock, where a device has no other masters."""

    def join(self, profile: DeviceProfile) -> None: ...

    def see(self, connected: Collection[str]) -> None: ...

    def due_for_profile(self) -> Collection[str]:
        return ()

    def admit(self, plan: RoundPlan) -> RoundPlan:
        return plan

    def settle(self, device: str, outcome: RoundOutcome) -> None: ...


class Registered:
    """Keeps the registry. A run that starts again takes back what it held before.

    run_id: for whom devices are reserved; needs: of memory, for a model of some width.
    """

    def __init__(self, registry: Registry, run_id: str, needs: Needs) -> None:
        self._registry, self._run_id, self._needs = registry, run_id, needs
        self._held: dict[str, int] = {}
        self._profiles: dict[str, DeviceProfile] = {}
        self._connected: set[str] = set()
        registry.release_task(run_id)

    def join(self, profile: DeviceProfile) -> None:
        self._give_back(profile.device)
        self._registry.register_many([registration_of(profile)])
        self._profiles[profile.device] = profile
        self._connected.add(profile.device)

    def see(self, connected: Collection[str]) -> None:
        known = self._profiles.keys() & connected
        if gone := self._connected - known:
            self._registry.depart(gone)
        if come := known - self._connected:
            self._registry.update_many(News(device) for device in sorted(come))
        self._connected = set(known)

    def due_for_profile(self) -> Collection[str]:
        return [device for device in self._registry.due_for_profile() if device in self._connected]

    def admit(self, plan: RoundPlan) -> RoundPlan:
        answers = self._registry.reserve_many([self._request(order) for order in plan.orders])
        granted = [answer for answer in answers if isinstance(answer, Reservation)]
        self._held |= {each.device: each.reservation_id for each in granted}
        return _without(plan, [answer for answer in answers if isinstance(answer, Refusal)])

    def settle(self, device: str, outcome: RoundOutcome) -> None:
        self._give_back(device)
        self._registry.update(device, speed=_speed(outcome), succeeded=outcome.outcome is Outcome.FINISHED)

    def _give_back(self, device: str) -> None:
        if device in self._held:
            self._registry.release(self._held.pop(device))

    def _request(self, order: WorkOrder) -> Request:
        """All of its cores, since a device trains one order at a time, and as much memory as the model needs."""
        profile = self._profiles[order.device]
        memory_bytes = min(profile.memory_bytes, self._needs(order.width))
        lease_s = order.deadline_s + REPLY_GRACE_S
        return Request(order.device, self._run_id, Amounts(profile.cpus, memory_bytes), lease_s)


def _speed(outcome: RoundOutcome) -> float | None:
    """Examples a second of the whole model, pauses left out; None where that is not known."""
    worked_s = outcome.wall_s - outcome.paused_s
    return outcome.examples / worked_s if outcome.examples and worked_s > 0 and outcome.width == 1 else None


def _without(plan: RoundPlan, refusals: Sequence[Refusal]) -> RoundPlan:
    if not refusals:
        return plan
    why = {each.device: "; ".join(map(str, each.shortages)) for each in refusals}
    left_out = {reason: list(devices) for reason, devices in plan.left_out.items()}
    for device, reason in why.items():
        left_out.setdefault(f"reserved by others: {reason}", []).append(device)
    orders = tuple(order for order in plan.orders if order.device not in why)
    return replace(
        plan,
        orders=orders,
        quorum=min(plan.quorum, len(orders)),
        reasons=_kept(plan.reasons.items(), why.keys()),
        left_out=left_out,
    )


def _kept(reasons: Iterable[tuple[str, str]], refused: Collection[str]) -> dict[str, str]:
    return {device: reason for device, reason in reasons if device not in refused}
