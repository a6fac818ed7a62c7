"""The registry against a plain model in memory, over any sequence of calls, restarts and lapses of time."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from motley.clock import ManualClock
from motley.registry import Amounts, Capacity, Quota, Refusal, Registry, Request, Reservation, Short

QUOTAS = {"small": Quota(devices=0.5, cores=0.6)}
CLASSES = {"a1": "small", "a2": "small", "a3": "small", "a4": "small", "b1": "large", "b2": "large"}
CAPACITY = Capacity(2.0, 8, 1, 4, disk_bytes=6, bits_per_s=10.0)
LONGEST_S = 40

devices = st.sampled_from(sorted(CLASSES))
tasks = st.sampled_from("xy")
amounts = st.builds(
    Amounts,
    cpus=st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.0]),
    memory_bytes=st.integers(0, 9),
    accelerators=st.just(1),
    accelerator_memory_bytes=st.sampled_from([0, 3, 5]),
) | st.builds(
    Amounts,
    cpus=st.sampled_from([0.0, 0.1, 0.3, 0.9]),
    disk_bytes=st.integers(0, 3),
    bits_per_s=st.integers(0, 6),
)
requests = st.builds(Request, devices, tasks, amounts, st.integers(1, LONGEST_S))


@dataclass(frozen=True)
class Held:
    """A reservation in the model; the class is that of its device."""

    device: str
    task: str
    needs: Amounts
    expires_s: float


class Model:
    """What the registry should do, in the most direct way."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.online: dict[str, bool] = {}
        self.all_held: dict[int, Held] = {}

    def held(self) -> dict[int, Held]:
        return {number: each for number, each in self.all_held.items() if each.expires_s > self.now_s}

    def of(self, device: str, what: str) -> float:
        """Summed over what is held on a device; cores in tenths, so that sums are exact."""
        on_device = [each.needs for each in self.held().values() if each.device == device]
        return sum(round(10 * each.cpus) if what == "cpus" else getattr(each, what) for each in on_device)

    def short(self, device: str, task: str, needs: Amounts) -> list[Short]:
        if device not in self.online:
            return [Short.NOT_REGISTERED]
        if not self.online[device]:
            return [Short.NOT_CONNECTED]
        limits = {
            "cpus": (round(10 * needs.cpus), 20, Short.CORES),
            "memory_bytes": (needs.memory_bytes, 8, Short.MEMORY),
            "accelerators": (needs.accelerators, 1, Short.ACCELERATORS),
            "disk_bytes": (needs.disk_bytes, 6, Short.DISK),
            "bits_per_s": (needs.bits_per_s, 10, Short.NETWORK),
        }
        short = [what for name, (new, limit, what) in limits.items() if new and new + self.of(device, name) > limit]
        if needs.accelerators and needs.accelerator_memory_bytes > 4:
            short.append(Short.ACCELERATOR_MEMORY)
        return short + self.over_quota(device, task, needs)

    def over_quota(self, device: str, task: str, needs: Amounts) -> list[Short]:
        if CLASSES[device] != "small":
            return []
        peers = [name for name, there in self.online.items() if CLASSES[name] == "small" and there]
        mine = [each for each in self.held().values() if each.task == task and CLASSES[each.device] == "small"]
        names = {each.device for each in mine} | {device}
        if len(names) == 1:
            return []
        tenths = sum(round(10 * each.needs.cpus) for each in mine) + round(10 * needs.cpus)
        short = []
        if device not in {each.device for each in mine} and len(names) > int(0.5 * len(peers)):
            short.append(Short.DEVICE_QUOTA)
        if needs.cpus and tenths > 0.6 * 20 * len(peers) + 1e-9:
            short.append(Short.CORE_QUOTA)
        return short


class Comparison(RuleBasedStateMachine):
    """Every answer of the registry is the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.model = Model()
        self.ended: list[int] = []
        self.registry = self.open()

    def open(self) -> Registry:
        return Registry(self.folder / "store.db", self.clock, QUOTAS)

    @initialize(names=st.sets(devices, min_size=3))
    def start(self, names: set[str]) -> None:
        for name in sorted(names):
            self.register(name)

    @rule(name=devices)
    def register(self, name: str) -> None:
        self.registry.register(name, CLASSES[name], CAPACITY)
        self.model.online[name] = True

    @rule(name=devices)
    def depart(self, name: str) -> None:
        self.registry.depart([name])
        if name in self.model.online:
            self.model.online[name] = False

    @rule(name=devices, cores=st.none() | st.floats(0, 3))
    def hear(self, name: str, cores: float | None) -> None:
        if name in self.model.online:
            self.registry.update(name, busy_cpus=cores)
            self.model.online[name] = True

    @rule(wanted=st.lists(requests, min_size=1, max_size=6))
    def reserve(self, wanted: list[Request]) -> None:
        for each, answer in zip(wanted, self.registry.reserve_many(wanted), strict=True):
            expected = self.model.short(each.device, each.task, each.needs)
            if isinstance(answer, Refusal):
                assert [shortage.what for shortage in answer.shortages] == expected
                continue
            assert not expected, f"granted, though short of {expected}"
            assert answer.reservation_id not in self.model.all_held
            self.model.all_held[answer.reservation_id] = Held(each.device, each.task, each.needs, answer.expires_s)

    @rule(numbers=st.lists(st.integers(1, 60), max_size=5))
    def release(self, numbers: list[int]) -> None:
        held = self.model.held()
        assert self.registry.release_many(numbers) == len(held.keys() & set(numbers))
        for number in numbers:
            self.model.all_held.pop(number, None) if number in held else None

    @rule(task=tasks)
    def release_task(self, task: str) -> None:
        mine = [number for number, each in self.model.held().items() if each.task == task]
        assert self.registry.release_task(task) == len(mine)
        for number in mine:
            del self.model.all_held[number]

    @rule(number=st.integers(1, 60), lease_s=st.integers(1, LONGEST_S))
    def renew(self, number: int, lease_s: int) -> None:
        held = self.model.held().get(number)
        assert self.registry.renew(number, lease_s) == (held is not None)
        if held is not None:
            expires_s = self.model.now_s + lease_s
            self.model.all_held[number] = Held(held.device, held.task, held.needs, expires_s)

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        self.clock.sleep(seconds)
        self.model.now_s += seconds

    @rule()
    def restart(self) -> None:
        self.registry.close()
        self.registry = self.open()

    @invariant()
    def its_books_are_right(self) -> None:
        assert self.registry.audit() == []

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        held = {each.reservation_id: _held(each) for each in self.registry.reservations()}
        assert held == self.model.held()

    @invariant()
    def nobody_uses_more_than_there_is(self) -> None:
        for each in self.registry.snapshot().classes.values():
            assert 0 <= each.reserved_cpus <= each.cpus
            assert 0 <= each.utilisation <= 1 + 1e-9

    def teardown(self) -> None:
        """Once all leases are over everything is free, whatever went before."""
        self.clock.sleep(LONGEST_S)
        assert self.registry.reservations() == []
        for each in self.registry.snapshot().classes.values():
            assert (each.reserved_cpus, each.reserved_memory_bytes, each.states["reserved"]) == (0, 0, 0)
        assert self.registry.audit() == []
        self.registry.close()
        shutil.rmtree(self.folder)


def _held(each: Reservation) -> Held:
    return Held(each.device, each.task, each.needs, each.expires_s)


TestRegistry = Comparison.TestCase
TestRegistry.settings = settings(max_examples=40, stateful_step_count=25, phases=[Phase.generate])
