"""How many operations a second the registry does over a large fleet, with its store on disk, against two peers.

Single operations are one transaction each; batches are what a round of training does, which reserves hundreds
of devices at once. `naive` is SQLite as one writes it at first, with the same promise that nothing is
over-committed: a commit that waits for the disk each time, no index on the reservations, and what is free summed
from them. Motley's commits do not wait: they outlast a crash of the process, the last ones perhaps not one of the
machine. `naive` slows down with each reservation held, so it is measured over the first few hundred devices only,
in its favour. `memory` is a dict, without restarts or other processes: the bound from above.
The target is over 5,000 operations a second for each of register, reserve and release.

    python benchmarks/registry.py [--devices 10000] [--batch 500] [--naive 300] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from motley.clock import SystemClock
from motley.registry import Amounts, Capacity, News, Registration, Registry, Request, Reservation

TARGET = 5000
LEASE_S = 3600.0
CAPACITY, NEEDS = Capacity(2.0, 2 * 1024**3), Amounts(1.0, 1024**3)
NEEDED = ("register", "reserve", "release")


class Contender(Protocol):
    """Three operations, each on all devices named; `reserve` returns what `release` takes."""

    def register(self, devices: Sequence[str]) -> None: ...

    def reserve(self, devices: Sequence[str]) -> list[int]: ...

    def release(self, numbers: Sequence[int]) -> None: ...


class Motley:
    """The registry, in transactions of `batch` operations."""

    def __init__(self, folder: Path, batch: int) -> None:
        self.registry, self.batch = Registry(folder / "registry.db", SystemClock()), batch

    def register(self, devices: Sequence[str]) -> None:
        for some in in_batches(devices, self.batch):
            self.registry.register_many([Registration(each, device_class(each), CAPACITY, 10.0) for each in some])

    def reserve(self, devices: Sequence[str]) -> list[int]:
        numbers = []
        for some in in_batches(devices, self.batch):
            answers = self.registry.reserve_many([Request(each, "run", NEEDS, LEASE_S) for each in some])
            numbers += [each.reservation_id for each in answers if isinstance(each, Reservation)]
        return numbers

    def update(self, devices: Sequence[str]) -> None:
        for some in in_batches(devices, self.batch):
            self.registry.update_many([News(each, speed=100.0, succeeded=True) for each in some])

    def renew(self, numbers: Sequence[int]) -> None:
        for some in in_batches(numbers, self.batch):
            self.registry.renew_many(some, LEASE_S)

    def release(self, numbers: Sequence[int]) -> None:
        for some in in_batches(numbers, self.batch):
            self.registry.release_many(some)


class Naive:
    """A first attempt with SQLite."""

    def __init__(self, folder: Path) -> None:
        self.db = sqlite3.connect(folder / "naive.db", isolation_level=None)
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("CREATE TABLE devices (device TEXT, class TEXT, cpus REAL, memory INTEGER)")
        self.db.execute("CREATE TABLE held (id INTEGER PRIMARY KEY, device, cpus REAL, memory INTEGER, until REAL)")

    def register(self, devices: Sequence[str]) -> None:
        for each in devices:
            values = (each, device_class(each), CAPACITY.cpus, CAPACITY.memory_bytes)
            self.db.execute("INSERT INTO devices VALUES (?, ?, ?, ?)", values)

    def reserve(self, devices: Sequence[str]) -> list[int]:
        numbers = []
        for each in devices:
            self.db.execute("BEGIN IMMEDIATE")
            has = self.db.execute("SELECT cpus, memory FROM devices WHERE device = ?", (each,)).fetchone()
            used = self.db.execute(
                "SELECT TOTAL(cpus), TOTAL(memory) FROM held WHERE device = ? AND until > ?", (each, time.time())
            ).fetchone()
            if NEEDS.cpus <= has[0] - used[0] and NEEDS.memory_bytes <= has[1] - used[1]:
                values = (each, NEEDS.cpus, NEEDS.memory_bytes, time.time() + LEASE_S)
                numbers.append(self.db.execute("INSERT INTO held VALUES (NULL, ?, ?, ?, ?)", values).lastrowid or 0)
            self.db.execute("COMMIT")
        return numbers

    def release(self, numbers: Sequence[int]) -> None:
        for each in numbers:
            self.db.execute("DELETE FROM held WHERE id = ?", (each,))


class Memory:
    """Dicts that are gone with their process."""

    def __init__(self) -> None:
        self.free: dict[str, tuple[float, int]] = {}
        self.held: dict[int, tuple[str, float]] = {}

    def register(self, devices: Sequence[str]) -> None:
        self.free |= dict.fromkeys(devices, (CAPACITY.cpus, CAPACITY.memory_bytes))

    def reserve(self, devices: Sequence[str]) -> list[int]:
        numbers = []
        for each in devices:
            cpus, memory_bytes = self.free[each]
            if NEEDS.cpus <= cpus and NEEDS.memory_bytes <= memory_bytes:
                self.free[each] = (cpus - NEEDS.cpus, memory_bytes - NEEDS.memory_bytes)
                self.held[len(self.held)] = (each, time.time() + LEASE_S)
                numbers.append(len(self.held) - 1)
        return numbers

    def release(self, numbers: Sequence[int]) -> None:
        for each in numbers:
            device, _ = self.held.pop(each)
            cpus, memory_bytes = self.free[device]
            self.free[device] = (cpus + NEEDS.cpus, memory_bytes + NEEDS.memory_bytes)


def device_class(device: str) -> str:
    """One of four."""
    return f"class-{int(device[-1]) % 4}"


def in_batches(things: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [things[start : start + size] for start in range(0, len(things), size)]


def rate(work: Callable[[Sequence[Any]], Any], on: Sequence[Any]) -> tuple[float, Any]:
    """Operations a second, and what the work returned."""
    started_s = time.perf_counter()
    result = work(on)
    return len(on) / (time.perf_counter() - started_s), result


def measure(contender: Contender, devices: Sequence[str]) -> dict[str, float]:
    """Rates of the operations, each on all devices and in an order unlike that of the names."""
    shuffled = random.Random(1).sample(devices, len(devices))
    rates = {"register": rate(contender.register, devices)[0]}
    rates["reserve"], numbers = rate(contender.reserve, shuffled)
    if len(numbers) != len(devices):
        raise RuntimeError(f"{len(numbers)} of {len(devices)} reservations were granted")
    if isinstance(contender, Motley):
        rates["update"] = rate(contender.update, shuffled)[0]
        rates["renew"] = rate(contender.renew, numbers)[0]
    rates["release"] = rate(contender.release, random.Random(2).sample(numbers, len(numbers)))[0]
    return rates


def questions(registry: Registry) -> dict[str, float]:
    """Milliseconds of the questions over all devices."""
    asked: dict[str, Callable[[], Any]] = {
        "snapshot": registry.snapshot,
        "due_for_profile": registry.due_for_profile,
        "fitness": lambda: registry.fitness(NEEDS),
        "audit": registry.audit,
    }
    answers_ms = {}
    for name, ask in asked.items():
        started_s = time.perf_counter()
        ask()
        answers_ms[name] = 1000 * (time.perf_counter() - started_s)
    return answers_ms


def table(rates: dict[str, dict[str, float]], batch: int) -> Table:
    shown = Table(title="Operations a second")
    heads = ("operation", "single", f"in batches of {batch}", "naive SQLite", "in memory", "single / naive")
    for name in heads:
        shown.add_column(name, justify="left" if name == "operation" else "right")
    for operation in rates["single"]:
        figures = [rates[name].get(operation) for name in ("single", "batch", "naive", "memory")]
        ratio = f"{rates['single'][operation] / rates['naive'][operation]:.1f}" if operation in NEEDED else ""
        shown.add_row(operation, *(f"{each:,.0f}" if each else "" for each in figures), ratio)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--naive", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the stores are made; not a file system in memory")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    devices = [f"device-{number:05}" for number in range(options.devices)]
    rates = {"memory": measure(Memory(), devices)}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rates["naive"] = measure(Naive(Path(folder)), devices[: options.naive])
    for name, batch in (("batch", options.batch), ("single", 1)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            contender = Motley(Path(folder), batch)
            rates[name] = measure(contender, devices)
            answers_ms = questions(contender.registry)
    console = Console()
    console.print(table(rates, options.batch))
    console.print("; ".join(f"{name} {value:.1f} ms" for name, value in answers_ms.items()), "over all devices")
    figures = {
        "benchmark": "registry",
        "cores": os.cpu_count(),
        "devices": options.devices,
        "batch": options.batch,
        "operations_per_s": rates,
        "ratios": {each: rates["single"][each] / rates["naive"][each] for each in NEEDED},
        "questions_ms": answers_ms,
        "target_per_s": TARGET,
        "meets_target": {name: min(rates[name][each] for each in NEEDED) > TARGET for name in ("single", "batch")},
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
