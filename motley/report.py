"""What a run came to, in words and tables. Rows in, text or rich renderables out; no I/O."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from motley.device import Outcome, RoundOutcome
from motley.fairness import jain_index
from motley.records import RoundRow, RunRecord, RunRow

if TYPE_CHECKING:
    from rich.table import Table


def round_line(row: RoundRow, outcomes: Sequence[RoundOutcome], rounds: int) -> str:
    """One round as one line of a log."""
    finished = sum(each.outcome is Outcome.FINISHED for each in outcomes)
    score = f"accuracy {row.accuracy:.3f}  loss {row.loss:.3f}" if row.accuracy is not None else "not evaluated"
    return f"round {row.round:>3}/{rounds}  {score}  {finished}/{row.selected} finished  {row.duration_s or 0:.1f} s"


def target_reached(record: RunRecord) -> tuple[int, float] | None:
    """The first round that reached the target accuracy, and the seconds from the start until then."""
    target = record.run.target_accuracy
    for row in record.rounds:
        if target is not None and row.accuracy is not None and row.accuracy >= target:
            return row.round, row.started_s + (row.duration_s or 0.0) - record.rounds[0].started_s
    return None


def summary_lines(record: RunRecord) -> list[str]:
    """The result in words: accuracy, target, time, who took part."""
    done = [row for row in record.rounds if row.duration_s is not None]
    judged = [row for row in done if row.accuracy is not None]
    lines = [f"run {record.run.run_id} of fleet '{record.run.fleet}' {record.run.status}: {len(done)} rounds"]
    if record.run.detail:
        lines.append(record.run.detail)
    if judged:
        last = judged[-1]
        lines.append(f"test accuracy {last.accuracy:.3f}, loss {last.loss:.3f} after round {last.round}")
    if record.run.target_accuracy is not None and done:
        reached = target_reached(record)
        what = f"target {record.run.target_accuracy:.2f} "
        lines.append(what + (f"reached in round {reached[0]} after {reached[1]:.1f} s" if reached else "not reached"))
    if done:
        durations = [row.duration_s or 0.0 for row in done]
        lines.append(f"training took {sum(durations):.1f} s, a round {statistics.median(durations):.2f} s (median)")
    counts = Counter(outcome.outcome for _, outcome in record.outcomes)
    if counts:
        lines.append("outcomes: " + ", ".join(f"{count} {kind.value}" for kind, count in counts.most_common()))
        shares = [counts_of.finished for counts_of in _per_device(record).values()]
        lines.append(f"fairness of participation (Jain): {jain_index(shares):.2f}")
    return lines


def figures(record: RunRecord) -> dict[str, Any]:
    """A run's result as plain data."""
    reached = target_reached(record)
    judged = [row for row in record.rounds if row.accuracy is not None]
    return {
        "run": asdict(record.run),
        "final_accuracy": judged[-1].accuracy if judged else None,
        "seconds_to_target": reached[1] if reached else None,
        "rounds": [asdict(row) for row in record.rounds],
        "outcomes": [{"round": number, **asdict(outcome)} for number, outcome in record.outcomes],
        "device_accuracy": dict(record.accuracies),
    }


@dataclass
class _Tally:
    selected: int = 0
    finished: int = 0
    last: RoundOutcome | None = None
    durations: tuple[float, ...] = ()
    peak: int = 0


def _per_device(record: RunRecord) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for profile in record.profiles:
        tallies[profile.device]
    for _, outcome in record.outcomes:
        tally = tallies[outcome.device]
        tally.selected += 1
        if outcome.outcome is Outcome.FINISHED:
            tally.finished += 1
            tally.last = outcome
            tally.durations = (*tally.durations, outcome.round_trip_s)
            tally.peak = max(tally.peak, outcome.peak_memory_bytes)
    return tallies


def device_table(record: RunRecord) -> Table:
    """One row for each device: what it has, what it did, and how well the model serves it."""
    table = _table(
        "Devices", ("device", "class"), ("cpus", "MiB", "rounds", "batch", "rate", "s/round", "peak MiB", "accuracy")
    )
    tallies = _per_device(record)
    for profile in sorted(record.profiles, key=lambda each: natural(each.device)):
        tally = tallies[profile.device]
        last = tally.last
        accuracy = record.accuracies.get(profile.device)
        table.add_row(
            profile.device,
            profile.device_class,
            f"{profile.cpus:.3g}",
            _mib(profile.memory_bytes),
            f"{tally.finished}/{tally.selected}",
            str(last.batch_size) if last else "–",
            f"{last.learning_rate:.3g}" if last else "–",
            f"{statistics.median(tally.durations):.2f}" if tally.durations else "–",
            _mib(tally.peak) if tally.peak else "–",
            f"{accuracy:.3f}" if accuracy is not None else "–",
        )
    return table


def class_table(record: RunRecord) -> Table:
    """One row for each device class: what its devices did together, and how well the model serves them."""
    table = _table(
        "Device classes", ("class",), ("devices", "orders", "used", "late", "lost", "s/order", "wasted s", "accuracy")
    )
    members: dict[str, list[str]] = defaultdict(list)
    for profile in record.profiles:
        members[profile.device_class].append(profile.device)
    for name, devices in members.items():
        outcomes = [each for _, each in record.outcomes if each.device_class == name]
        accuracies = [record.accuracies[device] for device in devices if device in record.accuracies]
        kinds = Counter(each.outcome for each in outcomes)
        late, finished = kinds[Outcome.LATE], kinds[Outcome.FINISHED]
        table.add_row(
            name,
            str(len(devices)),
            str(len(outcomes)),
            str(sum(each.used for each in outcomes)),
            str(late),
            str(len(outcomes) - late - finished),
            f"{statistics.median(each.round_trip_s for each in outcomes):.2f}" if outcomes else "–",
            f"{sum(each.round_trip_s for each in outcomes if not each.used):,.0f}",
            f"{statistics.fmean(accuracies):.3f}" if accuracies else "–",
        )
    return table


def runs_table(runs: Sequence[tuple[str, RunRow, RoundRow | None]]) -> Table:
    """One row for each run, which comes with its name and the last round that it has done."""
    table = _table("Runs", ("run", "fleet", "policy", "runtime", "status"), ("rounds", "accuracy", "seconds"))
    for name, run, last in runs:
        accuracy = f"{last.accuracy:.3f}" if last and last.accuracy is not None else "–"
        seconds = f"{run.ended_s - run.started_s:.1f}" if run.ended_s is not None else "–"
        done = last.round if last else 0
        table.add_row(name, run.fleet, run.policy, run.runtime, run.status, f"{done}/{run.rounds}", accuracy, seconds)
    return table


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table that fits 80 columns: words on the left, numbers on the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _mib(value: int) -> str:
    return f"{value / 1024**2:.0f}"


def natural(name: str) -> tuple[str, int]:
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0)
