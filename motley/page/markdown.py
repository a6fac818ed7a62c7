"""A page as Markdown: its words and tables. Charts are left out, and what they rest on is in the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

from motley.page.blocks import Block, Code, Details, Figure, Heading, Items, Page, Pair, Section, Table, Text

_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")


def markdown(page: Page) -> str:
    parts = [f"# {_plain(page.title)}", *_all(page.lead)]
    for section in page.sections:
        parts += _section(section)
    return "\n\n".join([*parts, *_all(page.foot)]) + "\n"


def _section(section: Section) -> list[str]:
    return [f"## {_plain(section.title)}", *_all(section.blocks)]


def _all(blocks: Iterable[Block]) -> list[str]:
    return [text for block in blocks for text in _block(block)]


def _block(block: Block) -> list[str]:
    match block:
        case Text(text, "result"):
            return [f"**{_plain(text)}**"]
        case Text(text, _):
            return [_plain(text)]
        case Items(texts, _):
            return ["\n".join(f"- {_plain(each)}" for each in texts)]
        case Heading(text):
            return [f"### {_plain(text)}"]
        case Table():
            return _table(block)
        case Figure():
            return []
        case Pair(blocks):
            return _all(blocks)
        case Details(summary, blocks):
            return [f"### {_plain(summary)}", *_all(blocks)]
        case Code(text, language):
            fence = "`" * max(3, 1 + max((len(each) for each in re.findall("`+", text)), default=0))
            return [f"{fence}{language}\n{text.rstrip()}\n{fence}"]


def _table(table: Table) -> list[str]:
    head = _row(each.title for each in table.columns)
    rule = "|" + "|".join("---" if each.words else "---:" for each in table.columns) + "|"
    caption = [_plain(table.caption)] if table.caption else []
    return [*caption, "\n".join([head, rule, *(_row(row) for row in table.rows)])]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """In one line, and without meaning for Markdown."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
