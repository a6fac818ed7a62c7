"""A strategy at work on a running load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from factories import MIB, ROOT

from motley.broker import Broker, Budget, Wish
from motley.governing import Governed, Listeners
from motley.governor import Adjustment, Cooperative, Governor, Load
from motley.governor.dynamic import Dynamic
from motley.resource_limits import ResourceLimits
from motley.samples import Sample
from motley.simulated_load import Appetite, SimulatedLoad, main

NO_LIMITS = ResourceLimits()
LOAD = Load(batch_size=8, threads=1, most_batch_size=16, most_threads=1)


class FakeMonitor:
    """Takes no samples of its own; the test hands them over."""

    def __init__(self, interval_s: float, limits: ResourceLimits, on_sample: Callable[[Sample], None]) -> None:
        self.on_sample, self.running = on_sample, False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


class Scripted:
    """A strategy that says what the test wants, one answer a sample, and keeps the loads that it saw."""

    def __init__(self, *adjustments: Adjustment) -> None:
        self.adjustments, self.loads = list(adjustments), list[Load]()

    def start(self, limits: ResourceLimits, load: Load) -> None:
        return None

    def adjust(self, state: Any, sample: Sample, load: Load) -> tuple[Any, Adjustment]:
        self.loads.append(load)
        return None, self.adjustments.pop(0) if self.adjustments else Adjustment()


def governed_by(governor: Governor, **options: Any) -> Governed:
    return Governed(governor, NO_LIMITS, LOAD, make_monitor=FakeMonitor, **options)


def test_the_load_is_taken_to_obey_when_it_asks() -> None:
    governor = Scripted(Adjustment(batch_size=4, threads=1, reason="tight"))
    governed = governed_by(governor)
    governed.observe(Sample(0))
    assert governed.load.batch_size == 8
    assert governed.adjustment().batch_size == 4
    assert governed.load.batch_size == 4
    assert governed.adjustment() == Adjustment()


def test_a_size_that_was_not_asked_for_yet_is_not_forgotten() -> None:
    governed = governed_by(Scripted(Adjustment(batch_size=4, reason="tight"), Adjustment(pause_s=1.0)))
    governed.observe(Sample(0))
    governed.observe(Sample(1))
    assert governed.adjustment() == Adjustment(batch_size=4, pause_s=1.0, reason="tight")


def test_steps_are_counted_and_timed_without_their_pauses() -> None:
    now_s = iter([0.0, 3.0, 10.0])
    governed = governed_by(Scripted(), now_s=lambda: next(now_s))
    for _ in range(3):
        governed.adjustment()
    assert (governed.load.steps, governed.load.step_s) == (2, 7.0)


def test_a_pause_that_the_load_keeps_by_itself_is_no_part_of_its_step() -> None:
    now_s = iter([0.0, 3.0, 10.0])
    governed = governed_by(Scripted(Adjustment(pause_s=2.0)), now_s=lambda: next(now_s))
    governed.adjustment()
    governed.observe(Sample(0))
    assert governed.adjustment().pause_s == 2.0
    governed.adjustment()
    assert (governed.load.steps, governed.load.step_s) == (2, 5.0)


def test_a_load_that_asks_again_while_it_waits_has_done_no_step() -> None:
    now_s = iter([0.0, 3.0, 10.0, 20.0, 21.0])
    governed = governed_by(Scripted(Adjustment(wait=True), Adjustment()), now_s=lambda: next(now_s))
    governed.adjustment()
    governed.observe(Sample(0))
    assert [governed.adjustment().wait for _ in range(2)] == [True, True]
    governed.observe(Sample(1))
    assert not governed.adjustment().wait
    governed.adjustment()
    assert (governed.load.steps, governed.load.step_s) == (2, 1.0)


def test_the_load_may_say_what_it_really_does() -> None:
    governor = Scripted()
    governed = governed_by(governor)
    governed.adopt(batch_size=5)
    governed.observe(Sample(0))
    assert governor.loads[0].batch_size == 5


@pytest.mark.parametrize("release", [lambda governed: governed.observe(Sample(1)), lambda governed: governed.stop()])
def test_a_load_that_waits_goes_on_when_it_may(release: Callable[[Governed], None]) -> None:
    governed = governed_by(Scripted(Adjustment(wait=True, pause_s=60.0)))
    governed.observe(Sample(0))
    told: list[Adjustment] = []
    asking = threading.Thread(target=lambda: told.append(governed.between_steps()), daemon=True)
    asking.start()
    asking.join(0.05)
    assert asking.is_alive()
    release(governed)
    asking.join(30)
    assert len(told) == 1


def test_to_stop_ends_every_pause() -> None:
    governed = governed_by(Scripted(Adjustment(wait=True, stop=True, pause_s=60.0)))
    governed.observe(Sample(0))
    assert governed.between_steps().stop


def test_a_pause_is_made() -> None:
    governed = governed_by(Scripted(Adjustment(pause_s=0.05)))
    governed.observe(Sample(0))
    began_s = time.monotonic()
    governed.between_steps()
    assert time.monotonic() - began_s >= 0.05


def test_cpu_use_is_a_mean_over_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bursts and pauses of a tenth of a second each come to a half."""
    seen: list[float | None] = []
    governor = Scripted()
    monkeypatch.setattr(
        governor, "adjust", lambda state, sample, load: (None, seen.append(sample.cpu_share) or Adjustment())
    )
    governed = governed_by(governor)
    for number in range(30):
        governed.observe(Sample(100 + number / 10, cpu_share=float(number % 2)))
    governed.observe(Sample(200.0))
    assert seen[0] == 0.0
    assert seen[9:-1] == pytest.approx([0.5] * 21, abs=0.06)
    assert seen[-1] is None


def test_listeners_hear_of_changes_only() -> None:
    seen: list[Sample] = []
    said: list[tuple[int | None, int]] = []
    listeners = Listeners(seen.append, lambda adjustment, load: said.append((adjustment.batch_size, load.batch_size)))
    cut = Adjustment(batch_size=4, reason="tight")
    governed = governed_by(Scripted(Adjustment(), cut, cut, Adjustment(reason="other words")), listeners=listeners)
    for at_s in range(4):
        governed.observe(Sample(at_s))
    assert [sample.at_s for sample in seen] == [0, 1, 2, 3]
    assert said == [(4, 8)]


def test_a_share_of_the_budget_reaches_the_strategy(tmp_path: Path) -> None:
    governor = Scripted()
    with Broker(tmp_path, Budget(90)).join(Wish(30)):
        with governed_by(governor, broker=Broker(tmp_path, Budget(90))) as governed:
            governed.observe(Sample(0))
        assert governor.loads[0].grant is not None
        assert governor.loads[0].grant.memory_bytes == 60
        assert len(Broker(tmp_path, Budget(90)).holders()) == 1


def test_the_broker_hears_what_was_learned(tmp_path: Path) -> None:
    """10 at rest and 10 more at a batch of 8: 30 at 16, over the share that is filled in the end."""
    broker = Broker(tmp_path, Budget(90))
    with governed_by(Cooperative(Dynamic(), filled=0.5), broker=broker) as governed:
        for used in (10, 20):
            governed.observe(Sample(0, process_memory_bytes=used))
        for _ in range(2):
            governed.adjustment()
            governed.observe(Sample(0, process_memory_bytes=10))
        governed.observe(Sample(0, process_memory_bytes=10))
        (holder,) = broker.holders().values()
    assert holder.wish == Wish(60, 1.0)


# A real load


def test_a_step_takes_real_memory_and_gives_it_back() -> None:
    """Read from the kernel while the step computes."""
    process, seen = psutil.Process(), []
    load = SimulatedLoad(Appetite(bytes_per_example=4 * MIB, step_s=0.2), most_batch_size=16)
    before = process.memory_info().rss
    stepping = threading.Thread(target=load.step, args=(16, 1))
    stepping.start()
    while stepping.is_alive():
        seen.append(process.memory_info().rss)
        time.sleep(0.002)
    stepping.join()
    assert max(seen) - before >= 60 * MIB
    assert process.memory_info().rss - before <= 16 * MIB


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_takes_real_cpu_time(threads: int) -> None:
    load = SimulatedLoad(Appetite(bytes_per_example=4096, step_s=0.1), most_batch_size=4)
    before = time.process_time()
    load.step(4, threads)
    assert time.process_time() - before >= 0.09


def test_memory_of_a_step_grows_as_told() -> None:
    appetite = Appetite(bytes_per_example=100, growth=0.1, growing_steps=5)
    assert [appetite.step_bytes(8, step) for step in (0, 1, 5, 50)] == [800, 880, 1200, 1200]


def test_a_load_in_its_own_thread_can_be_stopped() -> None:
    load = SimulatedLoad(Appetite(bytes_per_example=4096, step_s=0.001), most_batch_size=16)
    governed = governed_by(Scripted())
    load.start(governed)
    until = time.monotonic() + 30
    while load.steps < 2:
        assert time.monotonic() < until
        time.sleep(0.001)
    governed.stop()
    load.stop()
    done = load.steps
    time.sleep(0.02)
    assert load.steps == done


def test_a_governed_process_keeps_to_its_budget(tmp_path: Path) -> None:
    """64 examples of 2 MiB would take 128 MiB; a budget of 100 MiB includes the interpreter itself."""
    options = "--strategy cooperative --batch-size 64 --bytes-per-example 2m --budget 100m --steps 30 --step-ms 20"
    argv = [sys.executable, "-m", "motley.simulated_load", *options.split(), "--budget-dir", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT, env=_one_thread())
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    batches = [line["batch_size"] for line in lines if line["kind"] == "adjustment" and line["batch_size"]]
    assert lines[-1] | {"at_s": 0} == {"kind": "end", "at_s": 0, "steps": 30, "done": True}
    assert max(line["process_memory_bytes"] for line in lines if line["kind"] == "sample") <= 100 * MIB
    assert 8 < max(batches) < 64


def test_an_unknown_strategy_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--strategy", "dinamic"])
    assert "unknown strategy 'dinamic'; did you mean 'dynamic'?" in capsys.readouterr().err


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
