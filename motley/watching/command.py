"""`motley monitor`: the loop. Samples arrive in a queue; all drawing and writing is done here, in one thread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from motley.governor import Adjustment, Load
from motley.monitor import ResourceMonitor
from motley.resource_limits import LimitEvent, LimitKind, ResourceLimits
from motley.samples import Sample
from motley.watching.load import Running, adjustment_text, simulating
from motley.watching.outputs import LastComplaint, Recorder, sending, serving
from motley.watching.request import Plan, Request, plan_of
from motley.watching.state import Seen
from motley.watching.summary import crossings_text, summary_table
from motley.watching.view import Frame, Note, clock, line, missing_text

if TYPE_CHECKING:
    from rich.console import Console

_POLL_S = 0.5
_GRACE_S = 0.05
"""For the sample that is due when the duration ends."""
_KEPT_EVENTS = 10_000


@dataclass(frozen=True)
class Adjusted:
    """The strategy told the load to do something else."""

    at_s: float
    text: str


Item = Sample | LimitEvent | Adjusted
Show = Callable[[Frame, Note | None], None]
"""Called with a note for what happened, without one for a new sample."""


def watch(request: Request, console: Console | None = None) -> None:
    """Watch until the duration is over or Ctrl-C; then say what was seen.

    Raises InputError for bad input, before anything starts; KeyboardInterrupt, after the summary,
    when Ctrl-C cut a given duration short.
    """
    from rich.console import Console

    plan = plan_of(request)
    console = console or Console()
    with ExitStack() as stack:
        session = _Session(plan, stack)
        try:
            with showing(console, plan.interval_s) as show:
                session.run(stack, show)
        except KeyboardInterrupt:
            session.interrupted = True
    session.tell(console)
    if session.interrupted and plan.duration_s is not None:
        raise KeyboardInterrupt


class _Session:
    """One watch: the monitor, what it feeds, and what was seen."""

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        """Opens all outputs, and closes them through `stack`. Raises InputError where one can't be opened."""
        self._plan, self.interrupted = plan, False
        self._inbox: SimpleQueue[Item] = SimpleQueue()
        self.seen = Seen(_title(plan), plan.limits, plan.strategy or "")
        self._events: list[LimitEvent] = []
        self._running: Running | None = None
        on_event = None if plan.strategy else self._inbox.put
        self._monitor = ResourceMonitor(
            plan.interval_s, plan.limits, history=1, on_sample=self._inbox.put, on_event=on_event, pid=plan.pid
        )
        self._recorder = None if plan.save is None else Recorder(plan.save)
        if self._recorder is not None:
            stack.callback(self._recorder.close)
        self._address = "" if plan.serve is None else stack.enter_context(serving(self, plan.serve))
        self._complaint: LastComplaint | None = stack.enter_context(sending(self)) if plan.otel else None

    @property
    def current(self) -> Sample | None:
        return self._monitor.current

    @property
    def limits(self) -> ResourceLimits:
        return self._plan.limits

    @property
    def event_counts(self) -> Mapping[LimitKind, int]:
        return self._watching_monitor.event_counts

    @property
    def over(self) -> frozenset[LimitKind]:
        return self._watching_monitor.over

    @property
    def _watching_monitor(self) -> ResourceMonitor:
        """Whose events count: the strategy's own monitor looks more often."""
        return self._monitor if self._running is None else self._running.monitor

    def run(self, stack: ExitStack, show: Show) -> None:
        """Until the duration is over."""
        if self._plan.strategy is not None:
            load = simulating(self._plan.strategy, self._plan.limits, self._adjusted, self._inbox.put)
            self._running = stack.enter_context(load)
        stack.enter_context(self._monitor)
        for item in _arriving(self._inbox, self._plan.duration_s):
            note = self._take(item)
            show(self.frame(), note)

    def _adjusted(self, adjustment: Adjustment, load: Load) -> None:
        self._inbox.put(Adjusted(time.time(), adjustment_text(adjustment, load)))

    def _take(self, item: Item) -> Note | None:
        if isinstance(item, LimitEvent):
            self._events = [*self._events, item][-_KEPT_EVENTS:]
            return self.seen.happened(item)
        if isinstance(item, Adjusted):
            return self.seen.adjust(item.at_s, item.text)
        self.seen.take(item)
        if self._recorder is not None:
            self._recorder.add(item)
        return None

    def frame(self) -> Frame:
        load = "" if self._running is None else self._running.in_words()
        return self.seen.frame(self.over, load, self._remarks())

    def _remarks(self) -> list[str]:
        remarks = [f"Prometheus: {self._address}"] if self._address else []
        if self._complaint is not None:
            remarks.append(f"OpenTelemetry: {self._complaint.text or 'on'}")
        return remarks

    def tell(self, console: Console) -> None:
        """The summary on the screen, and the files."""
        seen, plan = self.seen, self._plan
        console.print(f"\n{seen.summary.samples} samples in {clock(seen.duration_s)}", highlight=False)
        console.print(summary_table(seen.summary))
        lines = [crossings_text(self._events), self._governor_text()]
        if self._recorder is not None:
            lines.append(f"{self._recorder.samples} samples in {self._recorder.path}")
        if seen.missing and not console.is_terminal:
            lines.append(missing_text(seen.missing))
        for text in filter(None, lines):
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        if plan.json_file is not None:
            plan.json_file.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def _governor_text(self) -> str:
        if self._running is None:
            return ""
        return f"{self._plan.strategy}: {self._running.steps} steps, {self.seen.adjusted} adjustments"

    def as_json(self) -> dict[str, Any]:
        governor = None
        if self._running is not None:
            governor = {
                "strategy": self._plan.strategy,
                "steps": self._running.steps,
                "adjustments": self.seen.adjusted,
            }
        return self.seen.summary.as_json(
            self.seen.duration_s, self._plan.limits, self._events, self.seen.missing, governor
        )


def _title(plan: Plan) -> str:
    whose = "" if plan.pid is None else f" process {plan.pid}"
    return f"motley monitor{whose} · every {plan.interval_s:g} s"


def _arriving(inbox: SimpleQueue[Item], duration_s: float | None) -> Iterator[Item]:
    """What arrives within the duration; of the first sample on."""
    until_s = None if duration_s is None else time.monotonic() + duration_s + _GRACE_S
    while until_s is None or time.monotonic() < until_s:
        left_s = _POLL_S if until_s is None else max(0.0, min(_POLL_S, until_s - time.monotonic()))
        try:
            yield inbox.get(timeout=left_s)
        except Empty:
            continue


@contextmanager
def showing(console: Console, interval_s: float) -> Iterator[Show]:
    """A live picture on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield _LinePrinter(console)
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def show(frame: Frame, note: Note | None) -> None:
            live.update(frame, refresh=True)

        yield show


class _LinePrinter:
    """A line a sample, a line an event; remarks where they change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._remarks: set[str] = set()

    def __call__(self, frame: Frame, note: Note | None) -> None:
        for remark in frame.remarks:
            if remark not in self._remarks:
                self._remarks.add(remark)
                self._print(remark)
        self._print(line(frame) if note is None else f"{clock(note.elapsed_s):>7}  {note.text}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
