"""One moment of `motley monitor` on the screen: a frozen frame in, rich renderables or a line of text out.

Nothing here measures or waits; the loop is in `command`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motley.resource_limits import LimitEvent, LimitKind
from motley.watching.figures import Figure, Unit, grouped_reasons, written

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

_LEVELS = "▁▂▃▄▅▆▇"
_BEYOND = "█"
_NEAR = 0.9
"""Share of a limit from which on a bar is yellow."""
_MOST_NOTES = 6
_LEAST_TRACE = 6
_LABEL, _VALUE, _AGAINST, _GAP = 13, 10, 18, 2
"""Cells of the columns, and between two."""
_BESIDE = 120
"""Width from which on the governor and the limits stand side by side."""

TRACE = 48
"""Widest sparkline, in samples: so much history a frame needs."""

_UNITS = {
    LimitKind.MEMORY: Unit.BYTES,
    LimitKind.CPU: Unit.RATIO,
    LimitKind.GPU_MEMORY: Unit.BYTES,
    LimitKind.POWER: Unit.WATTS,
    LimitKind.TEMPERATURE: Unit.CELSIUS,
    LimitKind.BATTERY: Unit.RATIO,
}
_NAMES = {
    "process_memory_bytes": "process",
    "memory_bytes": "memory",
    "memory_limit_bytes": "memory limit",
    "machine_memory_bytes": "machine",
    "machine_memory_total_bytes": "size of the machine",
    "memory_pressure": "memory stalls",
    "cpu_share": "CPU",
    "throttled_share": "throttled",
    "cpu_pressure": "CPU waits",
    "oom_kills": "kills",
    "gpus": "GPU",
    "power_w": "power",
    "celsius": "temperature",
    "battery_level": "battery",
    "charging": "battery",
    "received_bytes": "received",
    "sent_bytes": "sent",
}
"""A sample's field → the label of its figure."""


@dataclass(frozen=True)
class Note:
    """Something that happened, in words."""

    elapsed_s: float
    text: str
    style: str = ""


@dataclass(frozen=True)
class Frame:
    """All that one picture shows."""

    title: str
    elapsed_s: float
    figures: Sequence[Figure] = ()
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Figure's key → its values so far, the newest last."""
    over: frozenset[LimitKind] = frozenset()
    events: Sequence[Note] = ()
    strategy: str = ""
    """The governor's name; empty when no load is simulated."""
    load: str = ""
    """What the governed load does now, in words."""
    adjustments: Sequence[Note] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    """Where the figures also go to, and what went wrong there."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or (console.height if console.is_terminal else 50)
        yield from _picture(self, options.max_width, height)


def _picture(frame: Frame, width: int, height: int) -> Iterator[Text | Table]:
    from rich.text import Text

    head = Text(no_wrap=True, overflow="ellipsis")
    yield head.append(frame.title, "bold").append(f"  {clock(frame.elapsed_s)}", "dim")
    yield _figure_table(frame, width)
    footer = list(_footer(frame))
    yield from _happenings(frame, _room(frame, footer, width, height), beside=width >= _BESIDE)
    if footer:
        yield Text()
        yield from footer


def _room(frame: Frame, footer: Sequence[Text], width: int, height: int) -> int:
    """Lines for what happened, in each of the blocks that stand one above the other."""
    below = sum(1 + line.cell_len // width for line in footer)
    blocks = 2 if frame.strategy and width < _BESIDE else 1
    left = height - (1 + len(frame.figures) + 1 + blocks + 1 + below)
    return max(1, min(_MOST_NOTES, left // blocks))


def clock(elapsed_s: float) -> str:
    """`1:05`, `1:00:05`: minutes and seconds since the start."""
    minutes, seconds = divmod(int(elapsed_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _figure_table(frame: Frame, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    bar_width, trace_width = _widths(width)
    table = Table(box=None, show_header=False, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, width=_LABEL)
    if bar_width:
        table.add_column(no_wrap=True, width=bar_width)
    table.add_column(no_wrap=True, width=_VALUE, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis", width=_AGAINST)
    if trace_width:
        table.add_column(no_wrap=True, width=trace_width)
    for figure in frame.figures:
        style = tone(figure, frame.over)
        cells = [Text(figure.label)]
        if bar_width:
            cells.append(Text(bar(figure.share, bar_width), style).append_text(_rest(figure, bar_width)))
        cells.append(Text(written(figure.value, figure.unit), f"bold {style}" if style == "red" else ""))
        cells.append(Text(against(figure), "" if figure.set_by in ("yours", "") else "dim"))
        if trace_width:
            cells.append(Text(trace(frame.history.get(figure.key, ()), figure.limit, trace_width), style or "dim cyan"))
        table.add_row(*cells)
    return table


def _widths(width: int) -> tuple[int, int]:
    """Cells for bars and for sparklines; 0 leaves them out where the terminal is narrow."""
    left = width - (_LABEL + _VALUE + _AGAINST + 4 * _GAP)
    bar_width = 0 if left < 10 else 14 if width < 100 else 24
    trace_width = min(TRACE, left - bar_width)
    return bar_width, trace_width if bar_width and trace_width >= _LEAST_TRACE else 0


def tone(figure: Figure, over: frozenset[LimitKind]) -> str:
    """The colour that says how near the limit is; none where nothing limits."""
    if figure.kind in over:
        return "red"
    if figure.share is None:
        return ""
    if figure.kind is LimitKind.BATTERY:
        return "green"
    return "red" if figure.share > 1 else "yellow" if figure.share >= _NEAR else "green"


def bar(share: float | None, width: int) -> str:
    """The filled part of a bar of `width` cells, full at the limit, to half a cell."""
    halves = round(min(1.0, max(0.0, share or 0.0)) * width * 2)
    return "━" * (halves // 2) + "╸" * (halves % 2)


def _rest(figure: Figure, width: int) -> Text:
    """The empty part of the bar; nothing where there is no limit."""
    from rich.text import Text

    filled = len(bar(figure.share, width))
    return Text("" if figure.share is None else "─" * (width - filled), "dim")


def against(figure: Figure) -> str:
    """What stands beside a value: its limit and who set it, or where the value comes from."""
    parts = []
    if figure.kind is LimitKind.BATTERY:
        parts = [figure.note, figure.set_by]
    elif figure.set_by and figure.limit is not None:
        parts = [f"of {written(figure.limit, figure.unit)}"]
    return ", ".join(filter(None, [*parts, figure.source]))


def trace(values: Sequence[float], limit: float | None, width: int) -> str:
    """The newest values as little bars from 0 to the limit, or to the greatest where there is none.

    Only a value beyond the limit fills its cell.
    """
    shown = values[-width:]
    top = limit or max(shown, default=0.0)
    return "".join(_level(value / top) if top > 0 else _LEVELS[0] for value in shown)


def _level(share: float) -> str:
    return _BEYOND if share > 1 else _LEVELS[round(max(0.0, share) * (len(_LEVELS) - 1))]


def _happenings(frame: Frame, shown: int, beside: bool) -> Iterator[Text | Table]:
    from rich.table import Table
    from rich.text import Text

    blocks = []
    if frame.strategy:
        head = Text(f"governor: {frame.strategy}", "bold").append(f"  {frame.load}" if frame.load else "", "not bold")
        blocks.append(_block(head, frame.adjustments[-shown:], "nothing adjusted yet"))
    if frame.events or frame.strategy:
        blocks.append(_block(Text("limits", "bold"), frame.events[-shown:], "none crossed"))
    if not blocks:
        return
    yield Text()
    if beside and len(blocks) == 2:
        table = Table(box=None, show_header=False, padding=(0, 3, 0, 0), pad_edge=False, expand=True)
        table.add_column(ratio=2)
        table.add_column(ratio=1)
        table.add_row(*blocks)
        yield table
        return
    yield from blocks


def _block(head: Text, notes: Sequence[Note], otherwise: str) -> Text:
    from rich.text import Text

    block = Text(no_wrap=True, overflow="ellipsis").append_text(head)
    for note in notes:
        block.append(f"\n{clock(note.elapsed_s):>7}  ", "dim").append(note.text, note.style)
    return block if notes else block.append(f"\n  {otherwise}", "dim")


def _footer(frame: Frame) -> Iterator[Text]:
    from rich.text import Text

    if frame.missing:
        yield Text(missing_text(frame.missing), "dim")
    for remark in frame.remarks:
        yield Text(remark, "dim", no_wrap=True, overflow="ellipsis")


def missing_text(missing: Mapping[str, str]) -> str:
    """What is not measured and why, in one sentence."""
    said = {_NAMES.get(field, field): reason for field, reason in missing.items()}
    parts = (f"{', '.join(names)} ({reason})" for reason, names in grouped_reasons(said).items())
    return f"not measured: {'; '.join(parts)}"


def event_text(event: LimitEvent) -> str:
    """`memory crossed 512 MiB: 530 MiB`, `temperature recovered: 66.0 °C`."""
    unit = _UNITS[event.kind]
    scale = 0.01 if event.kind is LimitKind.CPU else 1.0
    name = kind_name(event.kind)
    value, limit = written(event.value * scale, unit), written(event.limit * scale, unit)
    if not event.crossed:
        return f"{name} recovered: {value}"
    return (
        f"{name} fell below {limit}: {value}" if event.kind is LimitKind.BATTERY else f"{name} crossed {limit}: {value}"
    )


def kind_name(kind: LimitKind) -> str:
    """`memory`, `CPU`, `GPU memory`."""
    return kind.value.replace("_", " ").replace("cpu", "CPU").replace("gpu", "GPU")


def line(frame: Frame) -> str:
    """One sample as one line of a log."""
    parts = []
    for figure in frame.figures:
        part = f"{figure.label} {written(figure.value, figure.unit)}"
        if figure.limit and figure.set_by in ("yours", "kernel") and figure.kind:
            part += f" of {written(figure.limit, figure.unit)}"
        parts.append(f"{part} {figure.source}" if figure.source == "modelled" else part)
    if frame.load:
        parts.append(frame.load)
    return f"{clock(frame.elapsed_s):>7}  {', '.join(parts) or 'nothing measured'}"
