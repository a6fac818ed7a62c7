"""Many runs, summed up by workload and policy, and the outcome in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from motley.comparison.figures import RunFigures
from motley.page.words import seconds

BASELINE = "random"
OURS = "adaptive"


@dataclass(frozen=True)
class Spread:
    """The median over seeds, with the least and the greatest value; infinite where a run never got there."""

    median: float
    low: float
    high: float

    @property
    def half_range(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PolicySummary:
    """One policy on one workload, over all seeds; a Spread is None where no run has the figure."""

    workload: str
    policy: str
    runs: int
    arrived: int
    """Runs that reached their target."""
    failed: int
    target: float | None
    """Median over seeds."""
    tta_s: Spread | None
    speedup: float | None
    """Median over seeds of random's time to accuracy over this policy's, on the same seed."""
    final_accuracy: Spread | None
    used_device_s: Spread | None
    wasted_device_s: Spread | None
    energy_j: Spread | None
    jain: Spread | None
    useful_share: Spread | None
    steady_useful_share: Spread | None
    reason: str
    """Why the first failed run failed."""


def spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(_median(known), min(known), max(known)) if known else None


def _median(values: Sequence[float]) -> float:
    """The median; infinite where half of the values or more are, since a mean with one such has no meaning."""
    low, high = statistics.median_low(values), statistics.median_high(values)
    return high if math.isinf(high) else (low + high) / 2


def summarise(runs: Sequence[RunFigures]) -> list[PolicySummary]:
    """One summary for each workload and policy: workloads as they come, the soonest policy first."""
    workloads = list(dict.fromkeys(each.workload for each in runs))
    return [row for name in workloads for row in _of_workload([each for each in runs if each.workload == name])]


def _of_workload(runs: Sequence[RunFigures]) -> list[PolicySummary]:
    baseline = {each.seed: each for each in runs if each.policy == BASELINE and each.status != "failed"}
    policies = list(dict.fromkeys(each.policy for each in runs))
    rows = [_summary([each for each in runs if each.policy == name], baseline) for name in policies]
    return sorted(rows, key=_place)


def _place(row: PolicySummary) -> tuple[float, int, float, str]:
    final = row.final_accuracy.median if row.final_accuracy else -1.0
    return row.tta_s.median if row.tta_s else math.inf, -row.arrived, -final, row.policy


def _summary(runs: Sequence[RunFigures], baseline: dict[int, RunFigures]) -> PolicySummary:
    good = [each for each in runs if each.status != "failed"]
    failed = [each for each in runs if each.status == "failed"]

    def over(figure: Callable[[RunFigures], float | None]) -> Spread | None:
        return spread(figure(each) for each in good)

    targets = over(lambda run: run.target)
    return PolicySummary(
        workload=runs[0].workload,
        policy=runs[0].policy,
        runs=len(runs),
        arrived=sum(each.tta_s is not None for each in good),
        failed=len(failed),
        target=targets.median if targets else None,
        tta_s=over(lambda run: math.inf if run.tta_s is None else run.tta_s),
        speedup=speedup(good, baseline),
        final_accuracy=over(lambda run: run.final_accuracy),
        used_device_s=over(lambda run: run.used_device_s),
        wasted_device_s=over(lambda run: run.wasted_device_s),
        energy_j=over(lambda run: run.energy_j),
        jain=over(lambda run: run.jain),
        useful_share=over(lambda run: run.useful_share),
        steady_useful_share=over(lambda run: run.steady_useful_share),
        reason=failed[0].reason if failed else "",
    )


def speedup(runs: Iterable[RunFigures], baseline: dict[int, RunFigures]) -> float | None:
    """The median over seeds of the baseline's time to accuracy over the run's.

    A run that never arrives counts as 0, a baseline that never does as infinite; a seed on which
    neither arrives, or that the baseline lacks, does not count. None where no seed counts.
    """
    ratios = [_ratio(baseline[each.seed].tta_s, each.tta_s) for each in runs if each.seed in baseline]
    known = [ratio for ratio in ratios if ratio is not None]
    return _median(known) if known else None


def _ratio(baseline_s: float | None, run_s: float | None) -> float | None:
    if baseline_s is None:
        return None if run_s is None else math.inf
    return 0.0 if run_s is None else baseline_s / run_s if run_s > 0 else math.inf


def find(rows: Iterable[PolicySummary], workload: str, policy: str) -> PolicySummary | None:
    return next((each for each in rows if (each.workload, each.policy) == (workload, policy)), None)


def best_peer(rows: Sequence[PolicySummary], workload: str) -> PolicySummary | None:
    """Of all policies but ours, the one with the smallest median time to accuracy on a workload."""
    peers = [each for each in rows if each.workload == workload and each.policy != OURS and each.tta_s is not None]
    return min(peers, key=_place, default=None)


def sentences(rows: Sequence[PolicySummary]) -> list[str]:
    """For each workload, our policy (or the soonest one, where ours did not run) against random, in words."""
    workloads = list(dict.fromkeys(each.workload for each in rows))
    said = [(name, sentence(rows, name)) for name in workloads]
    return [text if len(workloads) == 1 else f"{name}: {text}" for name, text in said]


def sentence(rows: Sequence[PolicySummary], workload: str) -> str:
    ours = find(rows, workload, OURS) or next(
        (each for each in rows if each.workload == workload and each.policy != BASELINE and each.tta_s), None
    )
    baseline = find(rows, workload, BASELINE)
    if ours is None or ours.tta_s is None or ours.target is None or ours.final_accuracy is None:
        return f"{ours.policy} has no result: {ours.reason}" if ours else _alone(baseline)
    known = baseline if baseline is not None and baseline.final_accuracy is not None else None
    ends = f"ends at {ours.final_accuracy.median:.3f}"
    if known is not None and known.final_accuracy is not None:
        ends += f" ({BASELINE} {known.final_accuracy.median:.3f})"
    if math.isinf(ours.tta_s.median):
        return f"{ours.policy} does not reach {ours.target:.3f} in most runs ({_arrivals(ours)}), and {ends}"
    reaches = f"{ours.policy} reaches {ours.target:.3f} in {seconds(ours.tta_s.median)} of virtual time"
    if ours.arrived < ours.runs:
        reaches += f" ({_arrivals(ours)})"
    return f"{reaches}{_against(ours, known)}, and {ends}"


def _arrivals(row: PolicySummary) -> str:
    return f"{row.arrived} of {row.runs} runs arrive"


def _alone(baseline: PolicySummary | None) -> str:
    if baseline is None or baseline.tta_s is None or baseline.target is None:
        return "there is no result"
    if math.isinf(baseline.tta_s.median):
        return f"{BASELINE} does not reach {baseline.target:.3f} in most runs ({_arrivals(baseline)})"
    return f"{BASELINE} reaches {baseline.target:.3f} in {seconds(baseline.tta_s.median)} of virtual time"


def _against(ours: PolicySummary, baseline: PolicySummary | None) -> str:
    if baseline is None or baseline.tta_s is None or ours.speedup is None:
        return ""
    if math.isinf(baseline.tta_s.median) or math.isinf(ours.speedup):
        return f", where {BASELINE} does not arrive"
    took = f"{BASELINE} ({seconds(baseline.tta_s.median)})"
    if ours.speedup == 0:
        return f", but in most runs not at all, against {took}"
    if 0.95 <= ours.speedup <= 1.05:
        return f", as soon as {took}"
    sooner = ours.speedup > 1
    factor = ours.speedup if sooner else 1 / ours.speedup
    return f", {factor:.1f}× {'sooner' if sooner else 'later'} than {took}"
