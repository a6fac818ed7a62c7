"""What a page is made of, as data. `motley.page.html` and `motley.page.markdown` write it down.

All texts are plain: whoever writes them down escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

Chart = dict[str, Any]
"""A plotly figure: data and layout, without the colours that depend on light and dark."""


@dataclass(frozen=True)
class Text:
    """A paragraph: a result stands out, a failure warns, a note explains."""

    text: str
    kind: Literal["plain", "result", "failed", "note"] = "plain"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    texts: Sequence[str]
    kind: Literal["plain", "failed"] = "plain"


@dataclass(frozen=True)
class Heading:
    """Within a section."""

    text: str


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers stand on the right."""

    title: str
    words: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells, as many as there are columns; the first cell names its row."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    """Cells that stand out, by row and column."""


@dataclass(frozen=True)
class Figure:
    """A chart."""

    caption: str
    chart: Chart
    says: str = ""
    """What it shows, for those who do not see it."""
    views: Sequence[tuple[str, tuple[float, float]]] = ()
    """Stretches of its x axis, each with the text of the button that shows it."""


@dataclass(frozen=True)
class Pair:
    """Blocks side by side, where there is room."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Details:
    """What is shown on demand. No charts: they could not measure their width."""

    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Code:
    """Text to copy as it stands."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; `anchor` is what links lead to."""

    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page. `lead` comes first, without a heading of its own."""

    title: str
    lead: Sequence[Block]
    sections: Sequence[Section]
    foot: Sequence[Block] = ()


Block = Text | Items | Heading | Table | Figure | Pair | Details | Code


def chart_text(text: str) -> str:
    """Any text as plotly shows it unchanged: it takes tags and entities for mark-up."""
    return escape(text, quote=False)
