"""`motley compare`: the same fleets and seeds under many policies, side by side on the virtual clock."""

from __future__ import annotations

import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motley.comparison.bars import Trace, trace
from motley.comparison.export import curves_csv, runs_csv, runs_json
from motley.comparison.figures import Point, RunFigures, concurrency, curve, failed_run, run_figures
from motley.comparison.request import EVERY_POLICY, Comparison, Engine, read_policies, read_seeds
from motley.comparison.settled import Settled
from motley.comparison.summary import BASELINE, OURS, sentences, summarise
from motley.comparison.table import WIDTH, comparison_tables, failures
from motley.errors import InputError, RunFailed
from motley.fleetfile import read_fleet
from motley.limits import host_cores
from motley.pool import Pool
from motley.spec import MAX_ROUNDS, Fleet

if TYPE_CHECKING:
    from rich.console import Console

TRACED = (BASELINE, OURS)
"""Policies of which the page shows who did what when, for the first seed."""

MOST_TIMES_AS_MANY = 20
"""Rounds that a policy may make in random's time, for each of random's."""


@dataclass(frozen=True)
class Job:
    """One run. Without `max_time_s` it is as long as its fleet's rounds; without `target` it sets its own."""

    fleet: Fleet
    directory: Path
    engine: Engine
    traced: bool
    target: float | None = None
    max_time_s: float | None = None
    good_enough: float | None = None
    """Final accuracy of the run that it is held against: once there, it may end early."""

    @property
    def policy(self) -> str:
        return self.fleet.training.policy

    def __getstate__(self) -> dict[str, Any]:
        """A fleet goes to a worker as text: the classes of its distributions can't be pickled."""
        return {**self.__dict__, "fleet": self.fleet.model_dump_json()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, fleet=Fleet.model_validate_json(state["fleet"]))


@dataclass(frozen=True)
class Played:
    """What came of a job; `trace` only where it was asked for."""

    figures: RunFigures
    points: Sequence[Point] = ()
    trace: Trace | None = None


def read_fleets(paths: Sequence[Path], rounds: int | None) -> list[Fleet]:
    """Read fleet files. Raises InputError for a bad one, and for two fleets of one name."""
    fleets = [read_fleet(path) for path in paths]
    for name, count in Counter(fleet.name for fleet in fleets).items():
        if count > 1:
            raise InputError(f"{count} of the fleets are named '{name}'; give each a name of its own")
    return [fleet if rounds is None else fleet.with_rounds(rounds) for fleet in fleets]


def suite_files(directory: Path) -> list[Path]:
    """The fleet files of a directory. Raises InputError when there is none."""
    paths = sorted(directory.glob("*.yaml"))
    if not paths:
        raise InputError(f"no fleet files in {directory}; write another with --suite-dir")
    return paths


def baselines(fleets: Sequence[Fleet], request: Comparison, out: Path) -> list[Job]:
    """Random on every fleet and seed: it sets target and length for the others."""
    return [
        _job(fleet, BASELINE, seed, request, out, traced=index == 0)
        for fleet in fleets
        for index, seed in enumerate(read_seeds(request.seeds, fleet.seed))
    ]


def followers(baseline: Job, played: Played, policies: Sequence[str]) -> list[Job]:
    """The other policies on the fleet and seed of `baseline`: its target, as much virtual time, any number of rounds.

    Ours comes first, so that a comparison cut short can say something.
    """
    others = sorted((name for name in policies if name != BASELINE), key=lambda name: name != OURS)
    end_s, target = played.figures.virtual_s, played.figures.target
    rounds = min(MAX_ROUNDS, MOST_TIMES_AS_MANY * baseline.fleet.training.rounds)
    return [
        replace(
            baseline,
            fleet=baseline.fleet.with_policy(name).with_max_time(end_s).with_rounds(rounds),
            directory=baseline.directory.with_name(f"{name}-{baseline.fleet.seed}"),
            traced=baseline.traced and name in TRACED,
            target=target,
            max_time_s=end_s,
            good_enough=played.figures.final_accuracy,
        )
        for name in others
    ]


def _job(fleet: Fleet, policy: str, seed: int, request: Comparison, out: Path, traced: bool) -> Job:
    directory = out / "runs" / fleet.name / f"{policy}-{seed}"
    return Job(fleet.with_policy(policy).with_seed(seed), directory, request.engine, traced, request.target)


def play(job: Job) -> Played:
    """Simulate one run and work out its figures; an exception becomes a failed row."""
    started = time.perf_counter()
    try:
        return _played(job, started)
    except Exception as error:
        job.directory.mkdir(parents=True, exist_ok=True)
        (job.directory / "error.txt").write_text(traceback.format_exc())
        return failure(job, f"{type(error).__name__}: {error}", time.perf_counter() - started)


def _played(job: Job, started: float) -> Played:
    from motley.simulation.run import simulate

    shutil.rmtree(job.directory / "state", ignore_errors=True)
    watch = None if job.good_enough is None else Settled(job.good_enough)
    record = simulate(job.fleet, job.directory / "state", engine=job.engine, watch=watch, checkpoint_rounds=0)
    figures = run_figures(
        record,
        job.target,
        concurrency=concurrency(job.fleet),
        devices=job.fleet.total_devices,
        wall_s=time.perf_counter() - started,
        horizon_s=job.max_time_s,
    )
    points = curve(record.rounds, job.max_time_s)
    outcomes = [outcome for _, outcome in record.outcomes]
    return Played(figures, points, trace(job.policy, outcomes, points, record.profiles) if job.traced else None)


def failure(job: Job, reason: str, wall_s: float = 0.0) -> Played:
    """The row of a job that has no result; `reason` becomes one line."""
    fleet = job.fleet
    return Played(failed_run(fleet.name, job.policy, fleet.seed, fleet.total_devices, wall_s, " ".join(reason.split())))


def results(jobs: Sequence[Job], policies: Sequence[str], pool: Pool[Job, Played]) -> Generator[Played, None, None]:
    """Play `jobs`, each of which is random's, and what follows from them; each run as it ends."""
    pool.add(jobs)
    with closing(pool.results()) as ended:
        for job, result in ended:
            played = failure(job, result) if isinstance(result, str) else result
            yield played
            if job.policy != BASELINE:
                continue
            if played.figures.status != "failed" and played.figures.virtual_s > 0:
                pool.add_first(followers(job, played, policies))
            else:
                yield from without_baseline(job, policies)


def without_baseline(baseline: Job, policies: Sequence[str]) -> Iterator[Played]:
    """Failed rows of the jobs that can't be played because random came to nothing."""
    for name in policies:
        if name != BASELINE:
            yield failure(replace(baseline, fleet=baseline.fleet.with_policy(name)), f"{BASELINE} has no result")


def compare(
    fleets: Sequence[Fleet], policies: Sequence[str], request: Comparison, out: Path, console: Console
) -> tuple[list[Played], bool]:
    """Play everything with a live view; returns the runs that ended, and whether Ctrl-C cut it short."""
    jobs = baselines(fleets, request, out)
    planned = Counter((job.fleet.name, name) for job in jobs for name in policies)
    pool = Pool(play, min(request.processes or host_cores(), planned.total()))
    played: list[Played] = []
    interrupted = False
    try:
        with closing(results(jobs, policies, pool)) as runs, watching(console, planned) as watch:
            for each in runs:
                played.append(each)
                watch([run.figures for run in played])
    except KeyboardInterrupt:
        interrupted = True
    return in_order(played, policies), interrupted


def in_order(played: Sequence[Played], policies: Sequence[str]) -> list[Played]:
    """By workload and seed as they came, and by policy as asked for; runs end in any order."""
    workloads = list(dict.fromkeys(each.figures.workload for each in played))
    return sorted(
        played,
        key=lambda each: (
            workloads.index(each.figures.workload),
            policies.index(each.figures.policy),
            each.figures.seed,
        ),
    )


@contextmanager
def watching(console: Console, planned: Mapping[tuple[str, str], int]) -> Iterator[Callable[[list[RunFigures]], None]]:
    """A live table on a terminal, a line for each run elsewhere."""
    from motley.comparison.live import ProgressView, run_line

    total = sum(planned.values())
    if not console.is_terminal:
        yield lambda runs: console.print(run_line(runs[-1], len(runs), total), highlight=False, soft_wrap=True)
        return
    view = ProgressView(planned)
    with view.live(console):
        yield view.update


def run_comparison(request: Comparison) -> None:
    """Compare, show, and write page, curves and figures under `request.out`.

    Raises InputError for bad input, RunFailed when no run has a result, KeyboardInterrupt after
    the report of what there is when Ctrl-C cut it short.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    policies = read_policies(request.policies)
    read_seeds(request.seeds, 0)
    fleets = read_fleets(request.fleets, request.rounds)
    out = request.out or Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
    announce(console, fleets, policies, request)
    played, interrupted = compare(fleets, policies, request, out, console)
    if interrupted:
        console.print(f"interrupted; here are the {len(played)} runs that ended")
    show(console, played)
    if played:
        write(out, played, interrupted, request.json_file)
        console.print(f"page, curves and figures are in {out}", highlight=False, soft_wrap=True)
    if interrupted:
        raise KeyboardInterrupt
    if all(each.figures.status == "failed" for each in played):
        raise RunFailed(f"no run has a result; the first one: {played[0].figures.reason}")


def announce(console: Console, fleets: Sequence[Fleet], policies: Sequence[str], request: Comparison) -> None:
    names = ", ".join(f"{fleet.name} ({fleet.total_devices} devices)" for fleet in fleets)
    console.print(f"workloads: {names}", highlight=False)
    console.print(f"policies: {', '.join(policies)}", highlight=False)
    if BASELINE not in request.policies.split(",") and request.policies != EVERY_POLICY:
        sets = "the length" if request.target is not None else "target and length"
        console.print(f"{BASELINE} runs first, though not asked for: it sets {sets} of all others", highlight=False)


def show(console: Console, played: Sequence[Played]) -> None:
    """Tables and words."""
    runs = [each.figures for each in played]
    rows = summarise(runs)
    for each in comparison_tables(rows, console.width) if rows else ():
        console.print(each)
        console.print()
    for line in [*failures(runs), *sentences(rows)]:
        console.print(line, highlight=False, soft_wrap=True)


def write(out: Path, played: Sequence[Played], interrupted: bool, json_file: Path | None) -> None:
    """The page, the curves and the figures, under `out`; the figures to `json_file` too."""
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    from motley.comparison.html import page

    runs = [each.figures for each in played]
    curves = [(each.figures, each.points) for each in played]
    traces = [(each.figures.workload, each.trace) for each in played if each.trace is not None]
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_text(page(curves, traces, get_plotlyjs(), interrupted), encoding="utf-8")
    (out / "curves.csv").write_text(curves_csv(curves), encoding="utf-8")
    (out / "runs.csv").write_text(runs_csv(runs), encoding="utf-8")
    (out / "runs.json").write_text(runs_json(runs), encoding="utf-8")
    if json_file is not None:
        json_file.write_text(runs_json(runs), encoding="utf-8")
