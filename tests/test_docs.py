"""What the pages tell a reader to type, open or write exists and is understood."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import typer.main
import yaml
from click.exceptions import NoArgsIsHelpError
from factories import ROOT
from pools import pool, turn

from motley.cli import app
from motley.fleetfile import parse_fleet
from motley.policies import POLICIES, AdaptiveOptions
from motley.selection import Pool, Selection
from motley.spec import Training, _range

PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def pages() -> Iterator[tuple[str, str]]:
    return ((page.name, page.read_text(encoding="utf-8")) for page in PAGES)


def found(pattern: str) -> list[tuple[str, str]]:
    """Each page's matches of `pattern`, once."""
    return [(name, match) for name, text in pages() for match in dict.fromkeys(re.findall(pattern, text, re.MULTILINE))]


def commands() -> list[tuple[str, str]]:
    """Everything to be typed that begins with `motley`: on lines of its own, and within a line."""
    return found(r"^(?:    \$? ?|\$ )(motley .+)$") + found(r"`(motley [a-z][^`]*)`")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(page: str, heading: str) -> str:
    """What stands below a heading, to the next one."""
    return (ROOT / page).read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bodies = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if "---" not in line + after]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in bodies]


def test_there_are_commands_to_check() -> None:
    assert {"simulate", "compare", "compose", "run", "up"} <= {text.split()[1].rstrip(",") for _, text in commands()}


@pytest.mark.parametrize(("page", "text"), commands())
def test_commands_are_understood(page: str, text: str) -> None:
    _, name, *arguments = shlex.split(text.split("#")[0])
    for each in re.split(r", (?=[a-z])", name):
        with suppress(NoArgsIsHelpError):  # a group of commands, named alone
            COMMANDS[each.rstrip(",")].make_context(each, [word for word in arguments if word != "…"])


def test_the_command_table_names_every_command_and_options_it_has() -> None:
    said = rows((ROOT / "README.md").read_text(encoding="utf-8"))
    table = {tuple(re.findall(r"`motley (\w+)`", cells[0])): cells[1] for cells in said if cells[0][:8] == "`motley "}
    assert {name for names in table for name in names} == set(COMMANDS)
    for names, text in table.items():
        known = {option for name in names for each in COMMANDS[name].params for option in each.opts}
        assert set(re.findall(r"`(--[a-z-]+)`", text)) <= known


@pytest.mark.parametrize(
    ("page", "path"), found(r"(?<![\w/])((?:config|benchmarks|helpers|motley|tests|docs)/[\w./-]+)")
)
def test_paths_exist(page: str, path: str) -> None:
    assert (ROOT / path.rstrip(".")).exists() or path == "motley/selection/largest.py"


@pytest.mark.parametrize(("page", "link"), found(r"\]\((?!http)([^)\s]+)\)"))
def test_links_lead_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    folder = ROOT / "docs" if (ROOT / "docs" / page).exists() else ROOT
    target = (folder / path) if path else folder / page
    assert target.exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize(("page", "target"), found(r"(?:^    |`)make ([a-z]+)"))
def test_make_has_the_target(page: str, target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_make_runs_what_motley_understands() -> None:
    lines = re.findall(r"^\t\$\(BIN\)/motley (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        name, *arguments = line.split()
        context = COMMANDS[name].make_context(name, arguments)
        fleets = context.params.get("fleets") or []
        assert all((ROOT / path).is_file() for path in fleets)


@pytest.mark.parametrize("text", blocks("README.md", "yaml"))
def test_fleets_on_the_first_page_are_fleets(text: str) -> None:
    assert parse_fleet(text.encode(), Path("README.md")).total_devices > 1


@pytest.mark.parametrize("text", re.findall(r"^    training: (.+)$", (ROOT / "docs/policies.md").read_text(), re.M))
def test_trainings_on_the_page_of_policies_are_trainings(text: str) -> None:
    assert Training.model_validate(yaml.safe_load(text)).chosen


def test_every_policy_and_option_stands_on_the_page_of_policies() -> None:
    assert [cells[0].strip("`") for cells in rows(section("docs/policies.md", "Which one"))] == list(POLICIES)
    told = {
        (policy, option)
        for option_cell, policy_cell, *_ in _of_the_same(rows(section("docs/policies.md", "Options")))
        for option in re.findall(r"`(\w+)`", option_cell)
        for policy in re.findall(r"`(\w+)`", policy_cell)
    }
    own = {(name, option) for name, each in POLICIES.items() for option in each.options.model_fields}
    assert told == {each for each in own if each[0] != "adaptive" or each[1] == "floor"}


def _of_the_same(table: list[list[str]]) -> Iterator[list[str]]:
    """Rows with the words 'the same' replaced by what stands above them."""
    above = ""
    for option, policy, *rest in table:
        above = above if policy == "the same" else policy
        yield [option, above, *rest]


def test_the_options_of_adaptive_are_told_with_default_and_range() -> None:
    told = {cells[0]: cells[1:3] for cells in rows(section("docs/fleet-file.md", "Options of adaptive"))}
    assert told == {
        f"`{name}`": [f"{field.default:g}", _range(AdaptiveOptions, name).split("number ")[1].removeprefix("from ")]
        for name, field in AdaptiveOptions.model_fields.items()
    }


def test_the_number_of_policies_is_right() -> None:
    assert f"; {len(POLICIES)} policies" in (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")


def test_the_selection_of_your_own_is_one() -> None:
    (text,) = blocks("docs/policies.md", "python")
    names: dict[str, Selection] = {}
    exec(text, names)
    devices: Pool = pool(5, examples=[10, 50, 20, 90, 70], free=[True, True, True, True, False])
    picks = names["largest"](devices, turn(2))
    np.testing.assert_array_equal(picks.rows, [3, 1])
    assert list(picks.reasons) == ["90 examples", "50 examples"]


def test_figures_of_a_comparison_are_told_under_the_names_of_the_table() -> None:
    from motley.comparison.table import COLUMNS

    told = [cells[0] for cells in rows(section("docs/simulation.md", "Comparing policies"))]
    assert told == [column.title.split(",")[0] for column in COLUMNS if column.title != "policy"]
