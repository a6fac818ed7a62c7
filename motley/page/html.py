"""A page as one HTML file that fetches nothing: styles, scripts and data are in it, and a policy forbids the rest.

It follows the system in light and dark, with a switch; it can be read on a phone, and used by keyboard.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape

from motley.page.blocks import Block, Code, Details, Figure, Heading, Items, Page, Pair, Section, Table, Text
from motley.page.style import SCRIPT, STYLE


def html(page: Page, plotly_js: str) -> str:
    """The whole file; `plotly_js` is the library's source, which goes into it."""
    lead, foot = _all(page.lead), _all(page.foot)
    body = f"<h1>{escape(page.title)}</h1>\n{lead}\n{_contents(page.sections)}"
    sections = "\n".join(map(_section, page.sections))
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy((plotly_js, SCRIPT))}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Motley: {escape(page.title)}</title>\n<style>{STYLE}</style>\n"
        f"<script>{plotly_js}</script>\n</head><body>"
        '<a class="skip" href="#main">Skip to the report</a>'
        '<button id="theme" type="button" hidden>Dark</button>'
        f'<main id="main" tabindex="-1">\n{body}\n{_NO_SCRIPT}\n{sections}\n<footer>{foot}</footer></main>\n'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


_NO_SCRIPT = '<noscript><p class="note">Without JavaScript there are only words and tables.</p></noscript>'


def _policy(scripts: Iterable[str]) -> str:
    """Nothing is fetched, and no script runs but these."""
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _contents(sections: Sequence[Section]) -> str:
    if len(sections) < 3:
        return ""
    links = "".join(f'<li><a href="#{escape(each.anchor)}">{escape(each.title)}</a></li>' for each in sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _section(section: Section) -> str:
    return f'<section id="{escape(section.anchor)}"><h2>{escape(section.title)}</h2>\n{_all(section.blocks)}</section>'


def _all(blocks: Iterable[Block]) -> str:
    return "\n".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Text(text, "plain"):
            return f"<p>{escape(text)}</p>"
        case Text(text, kind):
            return f'<p class="{kind}">{escape(text)}</p>'
        case Items(texts, kind):
            return f'<ul class="{kind}">' + "".join(f"<li>{escape(each)}</li>" for each in texts) + "</ul>"
        case Heading(text):
            return f"<h3>{escape(text)}</h3>"
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Pair(blocks):
            return f'<div class="pair">{_all(blocks)}</div>'
        case Details(summary, blocks):
            return f"<details><summary>{escape(summary)}</summary>\n{_all(blocks)}</details>"
        case Code(text, _):
            return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"{_class(each.words)}>{escape(each.title)}</th>' for each in table.columns)
    lines = []
    for number, row in enumerate(table.rows):
        first = f'<th scope="row"{_class(table.columns[0].words)}>{escape(row[0])}</th>'
        cells = (
            f"<td{_class(column.words, (number, place) in table.best)}>{escape(cell)}</td>"
            for place, (column, cell) in enumerate(zip(table.columns[1:], row[1:], strict=True), start=1)
        )
        lines.append(f"<tr>{first}{''.join(cells)}</tr>")
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    label = f' aria-label="{escape(table.caption or "Table")}"'
    return (
        f'<div class="scroll" tabindex="0" role="region"{label}><table>{caption}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _class(words: bool, best: bool = False) -> str:
    names = " ".join(["words"] * words + ["best"] * best)
    return f' class="{names}"' if names else ""


def _figure(figure: Figure) -> str:
    heading = f"<h3>{escape(figure.caption)}</h3>" if figure.caption else ""
    data = json.dumps(figure.chart, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    buttons = "".join(
        f'<button type="button" data-from="{start:.6g}" data-to="{end:.6g}">{escape(text)}</button>'
        for text, (start, end) in figure.views
    )
    views = f'<div class="views">{buttons}</div>' if buttons else ""
    label = f' role="img" aria-label="{escape(figure.says or figure.caption)}"'
    return (
        f'<figure>{heading}{views}<div class="chart"{label} style="min-height:{figure.chart["layout"]["height"]}px">'
        f'<script type="application/json">{data}</script></div></figure>'
    )
