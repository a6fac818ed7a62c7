"""A load that takes real memory and real CPU, to watch a strategy at work; it learns nothing.

A step takes memory in proportion to its batch, page by page, computes for a while on its threads, and
gives everything back. `python -m motley.simulated_load` runs it with or without a strategy and prints
what happens as JSON lines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motley.broker import Broker, Budget
from motley.errors import did_you_mean
from motley.governing import Governed, Listeners
from motley.governor import GOVERNORS, Adjustment, Load
from motley.resource_limits import ResourceLimits
from motley.samples import Sample
from motley.units import parse_bytes

_PAGE = mmap.PAGESIZE
_PIECE_BYTES = 1 << 20
_BLOCK = bytes(1 << 16)
"""Large enough that hashing it lets other threads run."""


@dataclass(frozen=True)
class Appetite:
    """What a step of the load takes."""

    bytes_per_example: int = 1 << 20
    base_bytes: int = 0
    """Held during all steps."""
    growth: float = 0.0
    """Memory of an example grows by this share of its first value with each step."""
    growing_steps: int = 1 << 62
    """After so many steps it stays."""
    step_s: float = 0.1
    """CPU time of a step at the largest batch, over all threads."""

    def step_bytes(self, batch_size: int, step: int) -> int:
        grown = 1 + self.growth * min(step, self.growing_steps)
        return int(batch_size * self.bytes_per_example * grown)


class SimulatedLoad:
    """Runs steps in the calling thread; `start` and `stop` run them in one of its own."""

    def __init__(self, appetite: Appetite, most_batch_size: int) -> None:
        self.appetite, self.most_batch_size, self.steps = appetite, most_batch_size, 0
        self._base = _taken(appetite.base_bytes)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self, batch_size: int, threads: int) -> int:
        """Do one step; returns the bytes that it took."""
        size = self.appetite.step_bytes(batch_size, self.steps)
        memory = _taken(size, pause_s=0.2 * self.appetite.step_s)
        _burn(self.appetite.step_s * batch_size / self.most_batch_size, threads)
        if memory is not None:
            memory.close()
        self.steps += 1
        return size

    def run(
        self, governed: Governed, steps: int | None = None, on_step: Callable[[Load], None] = lambda load: None
    ) -> bool:
        """Do `steps` steps, or go on until stopped; between them obey. Returns whether all were done.

        on_step: told before each step what the load does now.
        """
        while steps is None or self.steps < steps:
            if governed.between_steps().stop or self._done.is_set():
                return False
            load = governed.load
            on_step(load)
            self.step(load.batch_size, load.threads)
        return True

    def start(self, governed: Governed) -> None:
        self._thread = threading.Thread(target=self.run, args=(governed,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the present step. Stop what governs it first, lest it waits."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()


def _taken(size_bytes: int, pause_s: float = 0.0) -> mmap.mmap | None:
    """So much memory, each page touched, over at least `pause_s`; closing it gives it back to the kernel at once."""
    if size_bytes <= 0:
        return None
    memory = mmap.mmap(-1, size_bytes)
    pieces = range(0, size_bytes, _PIECE_BYTES)
    for start in pieces:
        end = min(start + _PIECE_BYTES, size_bytes)
        memory[start:end:_PAGE] = bytes([1]) * len(range(start, end, _PAGE))
        time.sleep(pause_s / len(pieces))
    return memory


def _burn(cpu_s: float, threads: int) -> None:
    """Use so much CPU time, spread over `threads` threads."""
    if threads == 1:
        return _burn_here(cpu_s)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_burn_here, [cpu_s / threads] * threads))


def _burn_here(cpu_s: float) -> None:
    until_s = time.thread_time() + cpu_s
    while time.thread_time() < until_s:
        hashlib.sha256(_BLOCK)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when all steps were done, 3 when the strategy stopped it."""
    options = _parser().parse_args(argv)
    appetite = Appetite(
        options.bytes_per_example, options.base, options.growth, options.growing_steps, options.step_ms / 1000
    )
    load = SimulatedLoad(appetite, options.batch_size)
    _say("start", pid=os.getpid(), strategy=options.strategy)
    done = _ungoverned(load, options) if options.strategy == "none" else _governed(load, options)
    _say("end", steps=load.steps, done=done)
    return 0 if done else 3


def _ungoverned(load: SimulatedLoad, options: argparse.Namespace) -> bool:
    for _ in range(options.steps):
        _say_step(Load(options.batch_size, options.threads, options.batch_size, options.threads, steps=load.steps))
        load.step(options.batch_size, options.threads)
    return True


def _governed(load: SimulatedLoad, options: argparse.Namespace) -> bool:
    first = min(options.first_batch_size or max(1, options.batch_size // 8), options.batch_size)
    limits = ResourceLimits(options.max_memory, options.max_cpu_percent, celsius=options.max_temp)
    broker = Broker(options.budget_dir, Budget(options.budget, options.budget_cores)) if options.budget_dir else None
    with Governed(
        GOVERNORS[options.strategy],
        limits,
        Load(first, options.threads, options.batch_size, options.threads),
        interval_s=options.interval_ms / 1000,
        broker=broker,
        listeners=Listeners(_say_sample, _say_adjustment),
    ) as governed:
        return load.run(governed, options.steps, _say_step)


def _say_step(load: Load) -> None:
    grant = None if load.grant is None else load.grant.memory_bytes
    _say("step", step=load.steps, batch_size=load.batch_size, threads=load.threads, grant_bytes=grant)


def _say_sample(sample: Sample) -> None:
    limit, own = sample.memory_limit_bytes, sample.process_memory_bytes
    _say("sample", memory_bytes=sample.memory_bytes, process_memory_bytes=own, memory_limit_bytes=limit)


def _say_adjustment(adjustment: Adjustment, load: Load) -> None:
    _say("adjustment", step=load.steps, was=asdict(load), **asdict(adjustment))


def _say(kind: str, **fields: Any) -> None:
    """One line at once, whole even when several threads speak: the next thing may be a SIGKILL."""
    sys.stdout.write(json.dumps({"kind": kind, "at_s": time.time(), **fields}) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m motley.simulated_load", description=__doc__)
    add = parser.add_argument
    add("--strategy", default="none", type=_strategy, help=f"none, {', '.join(GOVERNORS)}")
    add("--steps", type=int, default=50)
    add("--batch-size", type=int, default=32, help="the largest, and that of a load without a strategy")
    add("--first-batch-size", type=int, help="under a strategy; an eighth of the largest")
    add("--threads", type=int, default=1)
    add("--bytes-per-example", type=parse_bytes, default="1m")
    add("--base", type=parse_bytes, default="0b", help="memory held during all steps")
    add("--growth", type=float, default=0.0, help="of the memory of an example, each step; a share of the first")
    add("--growing-steps", type=int, default=1 << 62, help="how long it grows")
    add("--step-ms", type=float, default=100, help="CPU time of a step at the largest batch")
    add("--interval-ms", type=float, default=25, help="between samples")
    add("--max-memory", type=parse_bytes)
    add("--max-cpu-percent", type=float)
    add("--max-temp", type=float, metavar="CELSIUS")
    add("--budget-dir", type=Path, help="share a budget with all that name the same directory")
    add("--budget", type=parse_bytes, help="of memory, with --budget-dir")
    add("--budget-cores", type=float)
    return parser


def _strategy(name: str) -> str:
    if name != "none" and name not in GOVERNORS:
        raise argparse.ArgumentTypeError(f"unknown strategy '{name}'{did_you_mean(name, ['none', *GOVERNORS])}")
    return name


if __name__ == "__main__":
    sys.exit(main())
