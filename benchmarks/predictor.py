"""How well the predictor tells what work takes, round by round, on rounds that it has not seen.

    python benchmarks/predictor.py [--rounds 60] [--fleet FILE] [--policy random,adaptive] [--seed N] [--json FILE]
    python benchmarks/predictor.py --history FILE [--json FILE]
    python benchmarks/predictor.py --docker FLEET [--rounds 30] [--keep FILE] [--json FILE]

Without an option it runs the 100 simulated phones on the virtual clock, with the jitter of their file in
computing and links, and work that changes from round to round (`benchmarks/varied_work`); with `--docker`
the same work in real containers; with `--history` it reads the runs that any fleet has left.

It walks through the rounds in order. All orders of a round are predicted from the rounds before it alone,
held against what was measured, and then learned, ten rows or more at a time as the server does. The first
five rounds are left out as warm-up. What is predicted is the work that was done. Peers on the same rows: an
exponential moving average (0.3) of the device's own seconds, what planning expects without the predictor
(`motley.knowledge`: the profile's figures times a moving average of the device's factors), and a plain
forest, which learns seconds and not what the statistics leave.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
VARIED = ROOT / "benchmarks" / "varied_work"
sys.path[:0] = [str(ROOT), str(VARIED)]

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from motley.device import Outcome  # noqa: E402
from motley.fleetfile import read_fleet  # noqa: E402
from motley.history import History  # noqa: E402
from motley.knowledge import Knowledge, TaskFigures  # noqa: E402
from motley.predictor import REFIT_ROWS, TARGETS, Case, Cases, Learner, Sample, Tier, Trail, importance  # noqa: E402
from motley.predictor import forest as forests  # noqa: E402
from motley.predictor.cases import targets  # noqa: E402
from motley.predictor.scoring import Averages, relative  # noqa: E402
from motley.records import RunRecord  # noqa: E402
from motley.spec import Fleet  # noqa: E402

PHONES = ROOT / "config/fleets/phones-100.yaml"
WARM_UP_ROUNDS = 5
MOST_ERROR = {"simulated": 0.08, "real": 0.10}
LEAST_RATIO = 1.5
COVERAGE = (0.85, 0.95)
ANSWER, AVERAGE, PLANNING, PLAIN = "answer", "average", "planning", "plain forest"


class Row(NamedTuple):
    """One prediction of one target for one order."""

    target: str
    by: str
    tier: str
    number: int
    predicted: float
    measured: float
    low: float = math.nan
    high: float = math.nan


class Seen(NamedTuple):
    """A sample with what planning expected of it at the time, in seconds from order to reply and of training."""

    sample: Sample
    planned_s: float
    planned_train_s: float


def seen(record: RunRecord, task: TaskFigures) -> list[Seen]:
    """All samples of a run, in the order of rounds, and what planning would have expected from the rounds before."""
    profiles = {profile.device: profile for profile in record.profiles}
    knowledge, trail = Knowledge(task), Trail()
    for profile in profiles.values():
        knowledge.join(profile)
    finished, waiting, number_now = [], [], 0
    for number, outcome in sorted(record.outcomes, key=lambda each: (each[0], each[1].known_s)):
        if number != number_now:
            for each in waiting:
                knowledge.learn(each)
            waiting, number_now = [], number
        sample = trail.sample(number, profiles[outcome.device], outcome, task)
        if sample is None or outcome.outcome is not Outcome.FINISHED:
            continue
        row = knowledge.row(outcome.device)
        train_s = float(knowledge.example_s()[row]) * outcome.examples
        finished.append(Seen(sample, train_s + sum(float(way[row]) for way in knowledge.transfer_s()), train_s))
        waiting.append(outcome)
    return finished


class Plain:
    """A forest that learns the logarithm of seconds from the same features, for comparison."""

    def __init__(self) -> None:
        self._forests: dict[str, Any] = {}

    def learn(self, samples: Sequence[Sample]) -> None:
        cases, measured = Cases.of([each.case for each in samples]), targets(samples)
        if len(samples) >= 30:
            from sklearn.ensemble import RandomForestRegressor

            inputs = cases.matrix(forests.FEATURES).astype(np.float32)
            for target in ("seconds", "train_s"):
                forest = RandomForestRegressor(forests.TREES, min_samples_leaf=3, max_features=0.5, random_state=0)
                self._forests[target] = forest.fit(inputs, np.log(measured[target]))

    def predict(self, cases: Cases, target: str) -> np.ndarray:
        return np.exp(forests.predict(self._forests[target], cases))

    def knows(self, target: str) -> bool:
        return target in self._forests


def walk(all_seen: Sequence[Seen], seed: int) -> tuple[list[Row], Learner, list[float]]:
    """Every prediction of every round; the learner at the end; the seconds of each time that it learned."""
    learner, plain, averages = Learner(seed), Plain(), {target: Averages() for target in TARGETS}
    rows, waiting, took_s = list[Row](), list[Sample](), list[float]()
    for number in sorted({each.sample.number for each in all_seen}):
        current = [each for each in all_seen if each.sample.number == number]
        samples = [each.sample for each in current]
        rows += predicted(number, current, learner, plain, averages)
        waiting += samples
        if len(waiting) >= REFIT_ROWS:
            before = time.perf_counter()
            learner.absorb(waiting)
            took_s.append(time.perf_counter() - before)
            plain.learn(learner.samples)
            waiting = []
    return rows, learner, took_s


def predicted(
    number: int, current: Sequence[Seen], learner: Learner, plain: Plain, averages: dict[str, Averages]
) -> list[Row]:
    """All predictions for the orders of one round; the averages take it in afterwards."""
    samples = [each.sample for each in current]
    cases, measured, model = Cases.of([each.case for each in samples]), targets(samples), learner.model
    rows: list[Row] = []

    def note(target: str, by: str, tier: str, values: Any, low: Any = None, high: Any = None) -> None:
        for place, value in enumerate(values):
            ends = (float(low[place]), float(high[place])) if low is not None else (math.nan, math.nan)
            rows.append(Row(target, by, tier, number, float(value), float(measured[target][place]), *ends))

    answers = model.answer(cases)
    by_tier = {tier: model.values(cases, tier) for tier in Tier}
    for target in TARGETS:
        answer = answers[target]
        note(target, ANSWER, answer.tier, answer.value, answer.low, answer.high)
        for tier in Tier:
            if tier in model.available(target):
                each = model.estimates(cases, target, tier, by_tier[tier])
                note(target, tier, tier, each.value, each.low, each.high)
            else:
                note(target, tier, tier, [math.nan] * len(samples))
        own = [averages[target].values.get(device, math.nan) for device in cases.devices]
        note(target, AVERAGE, "", own)
        for device, value in zip(cases.devices, measured[target], strict=True):
            if not math.isnan(value):
                averages[target].error(device, float(value))
    note("seconds", PLANNING, "", [each.planned_s for each in current])
    note("train_s", PLANNING, "", [each.planned_train_s for each in current])
    for target in ("seconds", "train_s"):
        known = plain.knows(target)
        note(target, PLAIN, "", plain.predict(cases, target) if known else [math.nan] * len(samples))
    return rows


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Median error, coverage and width of each by target; medians of peers are over rows that the peer can answer."""
    rows = [row for row in rows if row.number > WARM_UP_ROUNDS and not math.isnan(row.measured)]
    result: dict[str, Any] = {}
    for target in TARGETS:
        mine = [row for row in rows if row.target == target]
        if mine:
            result[target] = {by: of_one(mine, by) for by in dict.fromkeys(row.by for row in mine)}
            result[target]["times_average"] = against(mine, AVERAGE)
            result[target]["times_planning"] = against(mine, PLANNING) if target in ("seconds", "train_s") else None
    return result


def of_one(rows: Sequence[Row], by: str) -> dict[str, Any]:
    known = [row for row in rows if row.by == by and not math.isnan(row.predicted)]
    if not known:
        return {"rows": 0}
    errors = relative(np.log([row.measured / row.predicted for row in known]))
    found: dict[str, Any] = {"rows": len(known), "median_error": float(np.median(errors))}
    found["p90_error"] = float(np.quantile(errors, 0.9))
    inside = [row.low <= row.measured <= row.high for row in known if not math.isnan(row.low)]
    if inside:
        found["coverage"] = float(np.mean(inside))
        found["width"] = float(np.median([(row.high - row.low) / row.predicted for row in known]))
    if by == ANSWER:
        found["tiers"] = {tier: sum(row.tier == tier for row in known) for tier in Tier}
    return found


def against(rows: Sequence[Row], peer: str) -> float | None:
    """The peer's median error over ours, on the rows that the peer can answer."""
    ours, theirs = ([row for row in rows if row.by == by] for by in (ANSWER, peer))
    both = [(one, other) for one, other in zip(ours, theirs, strict=True) if not math.isnan(other.predicted)]
    if not both:
        return None
    mine, other = (
        float(np.median(relative(np.log([row.measured / row.predicted for row in side]))))
        for side in zip(*both, strict=True)
    )
    return other / mine if mine else math.inf


def verdict(found: dict[str, Any], kind: str, varied: bool) -> dict[str, bool]:
    """The targets, for the seconds from order to reply."""
    seconds = found["seconds"]
    answer = seconds[ANSWER]
    said = {
        "error": answer["median_error"] <= MOST_ERROR[kind],
        "coverage": COVERAGE[0] <= answer["coverage"] <= COVERAGE[1],
    }
    return {**said, "ratio": seconds["times_average"] >= LEAST_RATIO} if varied else said


def table(title: str, found: dict[str, Any]) -> Table:
    shown = Table(title=title)
    for name in ("target", "by", "rows", "median error", "90 % of errors below", "coverage", "width", "times better"):
        shown.add_column(name, justify="left" if name in ("target", "by") else "right")
    for target, by_all in found.items():
        for by, each in by_all.items():
            if not isinstance(each, dict) or not each["rows"]:
                continue
            times = by_all.get({AVERAGE: "times_average", PLANNING: "times_planning"}.get(by, ""))
            shown.add_row(
                target,
                by,
                str(each["rows"]),
                f"{each['median_error']:.1%}",
                f"{each['p90_error']:.1%}",
                f"{each['coverage']:.1%}" if "coverage" in each else "",
                f"{each['width']:.1%}" if "width" in each else "",
                f"{times:.1f}" if times else "",
            )
    return shown


def judge(record: RunRecord, fleet: Fleet, kind: str, title: str, varied: bool, console: Console) -> dict[str, Any]:
    from motley.training.figures import figures_of

    rows, learner, took_s = walk(seen(record, figures_of(fleet.training.task)), fleet.seed)
    found = figures(rows)
    matters = importance(learner.model, learner.samples)
    console.print(table(title, found))
    first = list(matters.items())[:6]
    console.print("what matters for the seconds:", ", ".join(f"{name} {gain:+.1%}" for name, gain in first))
    costs = cost(learner)
    console.print("for 1,000 devices:", ", ".join(f"{name} {ms:.1f} ms" for name, ms in costs.items()))
    meets = verdict(found, kind, varied)
    console.print("targets:", ", ".join(f"{name} {'met' if met else 'MISSED'}" for name, met in meets.items()))
    return {
        "title": title,
        "kind": kind,
        "samples": len(learner.samples),
        "devices": len({each.case.device for each in learner.samples}),
        "classes": len({each.case.device_class for each in learner.samples}),
        "figures": found,
        "importance": dict(first),
        "refit_s": {"last": took_s[-1], "median": float(np.median(took_s))} if took_s else None,
        "ms_for_1000_devices": costs,
        "meets": meets,
    }


def cost(learner: Learner, count: int = 1000) -> dict[str, float]:
    """Milliseconds to predict for `count` devices at once, all targets with intervals, by tier."""
    cases = [each.case for each in learner.samples]
    many: list[Case] = (cases * math.ceil(count / len(cases)))[:count]
    taken = {"making the columns": best_ms(lambda: Cases.of(many))}
    columns = Cases.of(many)
    for tier in Tier:
        taken[tier] = best_ms(lambda tier=tier: learner.model.values(columns, tier))  # type: ignore[misc]
    return taken


def best_ms(action: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        before = time.perf_counter()
        action()
        times.append(time.perf_counter() - before)
    return 1000 * min(times)


def simulated(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Runs of the simulated fleet with varied work, one a policy."""
    import varied_work

    varied_work.install()
    from motley.simulation.run import simulate

    results = []
    for policy in options.policy.split(","):
        fleet = read_fleet(options.fleet).with_policy(policy).with_rounds(options.rounds or 60)
        fleet = fleet if options.seed is None else fleet.with_seed(options.seed)
        with tempfile.TemporaryDirectory() as directory:
            record = simulate(fleet, Path(directory), checkpoint_rounds=0)
        title = f"{fleet.name}, simulated, policy {policy}, {len(record.rounds)} rounds of changing work"
        results.append(judge(record, fleet, "simulated", title, varied=policy != "adaptive", console=console))
    return results


def from_history(path: Path, console: Console, varied: bool) -> list[dict[str, Any]]:
    """All runs of a history that have rounds enough."""
    history, results = History(path), []
    try:
        for run in reversed(history.runs()):
            record = history.record(run.run_id)
            if len(record.rounds) <= WARM_UP_ROUNDS or not record.outcomes:
                continue
            kind = "simulated" if run.runtime == "simulation" else "real"
            title = f"{run.fleet}, {run.runtime}, policy {run.policy}, {len(record.rounds)} rounds"
            results.append(judge(record, Fleet.model_validate_json(run.spec), kind, title, varied, console))
    finally:
        history.close()
    if not results:
        raise SystemExit(f"{path} has no run of more than {WARM_UP_ROUNDS} rounds with outcomes")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--fleet", type=Path, default=PHONES)
    parser.add_argument("--policy", default="random,adaptive")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--history", type=Path)
    parser.add_argument("--docker", type=Path, metavar="FLEET")
    parser.add_argument("--keep", type=Path, help="where --docker leaves the history")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console, load = Console(), os.getloadavg()[0]
    if options.docker:
        from in_docker import in_docker

        with tempfile.TemporaryDirectory() as directory:
            kept = options.keep or Path(directory) / "history.db"
            in_docker(options.docker, options.rounds, kept)
            results = from_history(kept, console, varied=True)
    elif options.history:
        results = from_history(options.history, console, varied=True)
    else:
        results = simulated(options, console)
    loads = {"before": load, "after": os.getloadavg()[0]}
    console.print(f"load of this machine: {loads['before']:.1f} before, {loads['after']:.1f} after")
    shown = {
        "benchmark": "predictor",
        "warm_up_rounds": WARM_UP_ROUNDS,
        "cores": os.cpu_count(),
        "load": loads,
        "runs": results,
    }
    shown["meets_targets"] = all(all(each["meets"].values()) for each in results)
    if options.json:
        options.json.write_text(json.dumps(shown, indent=1) + "\n")
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
