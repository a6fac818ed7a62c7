"""Going on with a run whose server was killed or stopped, as another Flower run.

Each round ends with a checkpoint: the model and the strategy's state. Who comes next takes the newest one,
undoes in history what came after it, and goes on with the following round under the same name. What the
former Flower run had under way is lost: its messages have ids that the new one may not ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motley.checkpoint import CHECKPOINTS, add_checkpoint, checkpoint_of, forget_later, last_round, settle
from motley.clock import Clock
from motley.device import Outcome, RoundOutcome
from motley.errors import InputError
from motley.history import History
from motley.records import RunRow
from motley.resuming import HISTORY, UNFINISHED, under_way
from motley.spec import Fleet
from server.mailbox import Sent
from server.replies import missing
from server.rounds import Saved

LOST = "the server was started again before its reply"


@dataclass(frozen=True)
class Beginning:
    """Where a run begins, or goes on."""

    run_id: str
    """Under which history keeps it."""
    saved: Saved | None
    """The strategy's state to go on from; None at the first round."""


def begin(state: Path, history: History, fleet: Fleet, new: RunRow, say: Callable[[str], None]) -> Beginning:
    """Go on with the newest run of the state directory if it was not finished, else begin the run `new`.

    One that is of another fleet, or that has no checkpoint, is ended, and `say` is told why.
    """
    former = history.latest_run()
    if former is not None and former.status in UNFINISHED:
        try:
            return _go_on(state, history, fleet, former, new.started_s, say)
        except InputError as problem:
            say(f"run {former.run_id} was not finished, but can't go on: {problem}. A new run begins")
            history.end_run(former.run_id, "stopped", new.started_s, f"not resumed: {problem}")
    _add(state, fleet, {"run_id": new.run_id, "saved_s": new.started_s, "strategy": None})
    history.start_run(new)
    return Beginning(new.run_id, None)


class RoundKeeper:
    """Writes a checkpoint at the end of each round.

    When `goes_on` returns, the round outlasts the process; that it outlasts the machine, too, is seen to while
    the next round goes on.
    """

    def __init__(self, state: Path, fleet: Fleet, run_id: str, clock: Clock) -> None:
        self._state, self._fleet, self._run_id, self._clock = state, fleet, run_id, clock
        self._disk = ThreadPoolExecutor(1, "checkpoint")
        self._settling: Future[None] | None = None

    def goes_on(self, state: Callable[[], Saved]) -> bool:
        """Keep the state of the round that has ended. Raises OSError where that can't be written."""
        self.finish()
        written = {"run_id": self._run_id, "saved_s": self._clock.now_s(), "strategy": state()}
        path = _add(self._state, self._fleet, written)
        self._settling = self._disk.submit(settle, path, self._state / f"{HISTORY}-wal")
        return True

    def finish(self) -> None:
        """Wait until the last round is on the disk."""
        if self._settling is not None:
            self._settling.result()
            self._settling = None


def without_flower_run(strategy: Saved, pause_s: float) -> Saved:
    """A strategy's state for another Flower run, `pause_s` later: nothing is under way, and everybody is asked anew."""
    return {
        **strategy,
        "began_s": strategy["began_s"] + pause_s,
        "mailbox": {**strategy["mailbox"], "pending": [], "sent_s": strategy["mailbox"]["sent_s"] + pause_s},
        "roster": {**strategy["roster"], "asked_s": []},
        "ledger": {**strategy["ledger"], "overdue": []},
    }


def _go_on(
    state: Path, history: History, fleet: Fleet, former: RunRow, now_s: float, say: Callable[[str], None]
) -> Beginning:
    checkpoint = checkpoint_of(state, history, former, fleet)
    kept, number = checkpoint.state, last_round(checkpoint.state)
    run = under_way(former, fleet)
    forget_later(checkpoint.path)
    lost = _lost(history, former.run_id, kept["strategy"], now_s) if number else []
    history.rewind(run, number, kept["saved_s"], lost)
    say(f"run {run.run_id} goes on after round {number}")
    pause_s = max(0.0, now_s - kept["saved_s"])
    return Beginning(run.run_id, without_flower_run(kept["strategy"], pause_s) if number else None)


def _lost(history: History, run_id: str, strategy: Saved, now_s: float) -> list[tuple[int, RoundOutcome]]:
    """What became of the orders that were under way, each with its round."""
    profiles = {profile.device: profile for profile in history.profiles(run_id)}
    orders = [sent for _, each in strategy["mailbox"]["pending"] if (sent := Sent.from_mapping(each)).kind == "train"]
    return [(sent.round, missing(sent, profiles[sent.device], now_s, Outcome.LATE, LOST)) for sent in orders]


def _add(state: Path, fleet: Fleet, written: Mapping[str, Any]) -> Path:
    return add_checkpoint(state / CHECKPOINTS, written, fleet)
