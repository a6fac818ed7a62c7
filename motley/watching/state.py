"""What a watch has seen so far: samples and events in, frames out. No clock, no terminal."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from motley.resource_limits import LimitEvent, LimitKind, ResourceLimits
from motley.samples import Sample
from motley.watching.figures import Figure, figures
from motley.watching.summary import Summary
from motley.watching.view import TRACE, Frame, Note, event_text

_KEPT_NOTES = 50


class Seen:
    """Grows with each sample by what a frame and the summary need, and no further."""

    def __init__(self, title: str, limits: ResourceLimits, strategy: str = "") -> None:
        self._title, self.limits, self._strategy = title, limits, strategy
        self.summary = Summary()
        self._begun_s: float | None = None
        self._before: Sample | None = None
        self._figures: Sequence[Figure] = ()
        self._history: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=TRACE))
        self._events: deque[Note] = deque(maxlen=_KEPT_NOTES)
        self._adjustments: deque[Note] = deque(maxlen=_KEPT_NOTES)
        self.adjusted = 0
        self.missing: Mapping[str, str] = {}

    def take(self, sample: Sample) -> None:
        self._begun_s = sample.at_s if self._begun_s is None else self._begun_s
        self._figures = figures(sample, self.limits, self._before)
        for figure in self._figures:
            self._history[figure.key].append(figure.value)
        self.summary.add(self._figures)
        self.missing = sample.missing
        self._before = sample

    def happened(self, event: LimitEvent) -> Note:
        """Keep an event; gives it in words."""
        note = Note(self._since(event.at_s), event_text(event), "red" if event.crossed else "green")
        self._events.append(note)
        return note

    def adjust(self, at_s: float, text: str) -> Note:
        """Keep what the governor did; gives it with its time."""
        note = Note(self._since(at_s), text)
        self._adjustments.append(note)
        self.adjusted += 1
        return note

    @property
    def duration_s(self) -> float:
        """From the first sample to the last."""
        return 0.0 if self._before is None else self._since(self._before.at_s)

    def _since(self, at_s: float) -> float:
        return 0.0 if self._begun_s is None else max(0.0, at_s - self._begun_s)

    def frame(self, over: frozenset[LimitKind], load: str = "", remarks: Sequence[str] = ()) -> Frame:
        """The picture now. What is missing is told from the second sample on: before it there are no rates."""
        return Frame(
            title=self._title,
            elapsed_s=self.duration_s,
            figures=self._figures,
            history={key: tuple(values) for key, values in self._history.items()},
            over=over,
            events=tuple(self._events),
            strategy=self._strategy,
            load=load,
            adjustments=tuple(self._adjustments),
            missing=self.missing if self.summary.samples > 1 else {},
            remarks=remarks,
        )
