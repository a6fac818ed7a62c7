"""The dashboard and the page of metrics are current, and ask for what the exporters really show."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers import build_dashboards, build_metrics_page

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD = json.loads(build_dashboards.OUTPUT.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
METRICS = [*build_metrics_page.server_metrics(), *build_metrics_page.device_metrics()]
SAMPLES = {sample.name: set(sample.labels) for metric in METRICS for sample in metric.samples}
SCRAPED = {"job", "instance", "client", "device_class"}

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
each_target = pytest.mark.parametrize(
    "target", [target for _, target in TARGETS], ids=[f"{title} {target['refId']}" for title, target in TARGETS]
)


def _parse(query: str) -> Any:
    return promql_parser.parse(query.replace("$__rate_interval", "20s"))


def _selectors(node: Any) -> Iterator[Any]:
    """Every selector of series in a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    parts = [getattr(node, name, None) for name in ("vector_selector", "lhs", "rhs", "expr", "param")]
    for part in [*parts, *getattr(node, "args", [])]:
        if part is not None:
            yield from _selectors(part)


def _variable_queries() -> dict[str, str]:
    """What each variable selects its values from."""
    queries = {name: each["query"]["query"] for name, each in VARIABLES.items() if each["type"] == "query"}
    return {name: re.sub(r"^label_values\((.*), *\w+\)$", r"\1", query) for name, query in queries.items()}


def test_dashboard_is_current() -> None:
    current = build_dashboards.OUTPUT.read_text(encoding="utf-8")
    assert current == build_dashboards.render(), "run: python helpers/build_dashboards.py"


def test_metrics_page_is_current() -> None:
    current = build_metrics_page.OUTPUT.read_text(encoding="utf-8")
    assert current == build_metrics_page.render(), "run: python helpers/build_metrics_page.py"


@pytest.mark.parametrize("module", ["client/metrics.py", "server/metrics.py"])
def test_every_metric_of_the_collectors_is_seen(module: str) -> None:
    written = set(re.findall(r'"(motley_\w*[a-z])"', (ROOT / module).read_text(encoding="utf-8")))
    assert written - {metric.name for metric in METRICS} == set(), "feed the collectors what these need"


def test_metric_names_follow_the_conventions() -> None:
    assert not [name for name in SAMPLES if not re.fullmatch(r"motley_[a-z]+(_[a-z]+)*", name)]
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@each_panel
def test_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]


@each_target
def test_query_parses_and_names_real_metrics(target: dict[str, Any]) -> None:
    for selector in _selectors(_parse(target["expr"])):
        assert selector.name in SAMPLES or selector.name == "up"


@each_target
def test_query_and_legend_use_labels_that_exist(target: dict[str, Any]) -> None:
    selectors = list(_selectors(_parse(target["expr"])))
    labels = SCRAPED.union(*(SAMPLES.get(selector.name, set()) for selector in selectors))
    matched = {matcher.name for selector in selectors for matcher in selector.matchers.matchers}
    shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert target["legendFormat"]
    assert matched | shown <= labels


@each_target
def test_ranges_follow_the_scrape_interval(target: dict[str, Any]) -> None:
    ranges = re.findall(r"\[(.*?)\]", target["expr"])
    assert set(ranges) <= {"$__rate_interval"}
    assert ("rate(" in target["expr"]) == bool(ranges)


def test_dashboard_has_its_variables() -> None:
    assert list(VARIABLES) == ["datasource", "device_class", "client"]
    assert VARIABLES["datasource"]["current"]["value"] == _datasource()["uid"]
    for name in ("device_class", "client"):
        assert VARIABLES[name]["multi"]
        assert VARIABLES[name]["includeAll"]
    used = set(re.findall(r"\$(\w+)", " ".join([*_variable_queries().values(), *(t["expr"] for _, t in TARGETS)])))
    assert used <= {*VARIABLES, "__rate_interval"}


@pytest.mark.parametrize("name", ["device_class", "client"])
def test_query_of_a_variable_parses(name: str) -> None:
    assert [selector.name for selector in _selectors(_parse(_variable_queries()[name]))] == ["up"]


def _datasource() -> dict[str, Any]:
    path = ROOT / "config/grafana/provisioning/datasources/prometheus.yaml"
    (datasource,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    return dict(datasource)


def test_datasource_knows_the_scrape_interval() -> None:
    scrape = yaml.safe_load((ROOT / "prometheus.yaml").read_text(encoding="utf-8"))
    assert _datasource()["jsonData"]["timeInterval"] == scrape["global"]["scrape_interval"]


def test_dashboards_cannot_be_changed_by_hand() -> None:
    path = ROOT / "config/grafana/provisioning/dashboards/motley.yaml"
    (provider,) = yaml.safe_load(path.read_text(encoding="utf-8"))["providers"]
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["path"] == "/etc/motley/dashboards"
    assert DASHBOARD["editable"] is False
    assert not _datasource()["editable"]
