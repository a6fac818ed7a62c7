"""Build the Grafana dashboard, config/grafana/dashboards/overview.json.

python helpers/build_dashboards.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as style
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.units import CountsPerSecond, PercentUnit, Seconds, Short

OUTPUT = Path(__file__).resolve().parents[1] / "config/grafana/dashboards/overview.json"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
MINE = '{client=~"$client"}'

OUTCOME_COLORS = {
    "finished": "green",
    "late": "yellow",
    "out_of_memory": "red",
    "crashed": "dark-red",
    "refused": "purple",
    "unreachable": "blue",
}

Query = tuple[str, str]
"""PromQL and the legend of its series."""
Panel = TypeVar("Panel", bargauge.Panel, stat.Panel, timeseries.Panel)


def overview() -> dashboard.Dashboard:
    """The one dashboard: a row for the run, one for the devices, one for the stack that watches them."""
    built = (
        dashboard.Dashboard("Motley overview")
        .uid("motley-overview")
        .description("One run of federated learning: what the fleet learns, and at what cost to each device.")
        .tags(["motley"])
        .time("now-30m", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotations([])
        .readonly()
    )
    for variable in variables():
        built.with_variable(variable)
    number = 0
    for title, panels in {"Run": run(), "Devices": devices(), "Stack": stack()}.items():
        built.with_row(dashboard.Row(title).id(number := number + 1))
        for panel in panels:
            built.with_panel(panel.id(number := number + 1))
    return built


def variables() -> Iterator[Any]:
    chosen = VariableOption(selected=True, text="Prometheus", value="prometheus")
    yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").current(chosen)
    yield choice("device_class", "Device class", 'label_values(up{job="motley-client"}, device_class)')
    yield choice("client", "Client", 'label_values(up{job="motley-client", device_class=~"$device_class"}, client)')


def run() -> Iterator[Any]:
    yield (
        fact(
            "Newest run",
            "Fleet, selection policy and runtime of the newest run in the history.",
            Short,
            ("motley_run_info", "{{fleet}} · {{policy}} · {{runtime}}"),
            span=6,
        )
        .text_mode(style.BigValueTextMode.NAME)
        .no_value("no run yet")
    )
    yield (
        fact("Phase", "What the run is doing now.", Short, ("motley_run_phase == 1", "{{phase}}"), span=4)
        .text_mode(style.BigValueTextMode.NAME)
        .no_value("no run yet")
    )
    yield fact(
        "Round",
        "The round under way, or the last one, and how many the run is to have.",
        Short,
        ("motley_round", "round"),
        ("motley_run_rounds", "of"),
        span=5,
    ).text_mode(style.BigValueTextMode.VALUE_AND_NAME)
    yield fact(
        "Time left",
        "Rounds still to come, at the mean duration of those that have ended.",
        Seconds,
        (
            "motley_run_active * (motley_run_rounds - motley_rounds_completed_total)"
            " * motley_round_duration_seconds_sum / (motley_round_duration_seconds_count > 0)",
            "time left",
        ),
        span=4,
    ).no_value("not known yet")
    yield (
        fact(
            "Fairness of participation",
            "Jain's index of rounds finished per device: 1 when all devices took part equally often, "
            "1/n when one of n did everything.",
            PercentUnit,
            ("motley_participation_jain_ratio", "Jain's index"),
            span=5,
        )
        .min(0)
        .max(1)
    )
    yield (
        lines(
            "Accuracy against target",
            "Accuracy of the global model on the held-out data, and the accuracy aimed at, if the fleet file has one.",
            PercentUnit,
            ("motley_accuracy_ratio", "accuracy"),
            ("motley_run_target_accuracy_ratio", "target"),
        )
        .max(1)
        .override_by_name("target", DASHED)
    )
    yield lines("Loss", "Mean loss of the global model on the held-out data.", Short, ("motley_loss", "loss")).decimals(
        3
    )
    yield (
        lines(
            "Duration of a round",
            "The last round, and its parts stacked: planning, waiting for the devices, aggregation, evaluation.",
            Seconds,
            ("motley_round_part_seconds", "{{part}}"),
            ("motley_round_last_duration_seconds", "whole round"),
        )
        .min(0)
        .stacking(common.StackingConfig().mode(style.StackingMode.NORMAL))
        .fill_opacity(30)
        .override_by_name("whole round", [*UNSTACKED, *DASHED])
    )
    yield lines(
        "Participation",
        "Devices that have given their profile, and how many of them were asked in the round.",
        Short,
        ("motley_devices", "known"),
        ("motley_round_selected", "selected"),
    ).min(0)
    yield colored(
        lines(
            "Outcomes by reason",
            "What became of devices in rounds, summed over the run so far. "
            "A late device whose reply comes after all moves from one outcome to another.",
            Short,
            ('sum by (reason) (motley_outcomes_total{device_class=~"$device_class"})', "{{reason}}"),
        ).min(0),
        OUTCOME_COLORS,
    )
    yield bars(
        "Accuracy on each device's data",
        "Accuracy of the global model on a device's own examples, from the last time the devices were asked.",
        PercentUnit,
        (f"motley_device_accuracy_ratio{MINE}", "{{client}}"),
    ).max(1)


def devices() -> Iterator[Any]:
    yield share(
        "Memory against limit",
        "Working set (memory in use less the page cache that can be dropped) as a share of the container's limit; "
        "at 100 % the kernel kills.",
        (
            f"motley_client_memory_working_set_bytes{MINE} / on(client) motley_client_memory_limit_bytes{MINE}",
            "{{client}}",
        ),
    )
    yield share(
        "CPU against quota",
        "Cores used as a share of the container's CPU quota.",
        (f"{rate('motley_client_cpu_seconds_total')} / on(client) motley_client_cpu_limit_cores{MINE}", "{{client}}"),
    )
    yield share(
        "Throttled share",
        "Of the quota periods with work in them, how many ran out before the work was done.",
        (
            f"{rate('motley_client_cpu_throttled_periods_total')}"
            f" / on(client) ({rate('motley_client_cpu_periods_total')} > 0)",
            "{{client}}",
        ),
    )
    yield (
        lines(
            "OOM kills",
            "Processes that the kernel killed at the memory limit since the container started; each step is one more.",
            Short,
            (f"motley_client_oom_kills_total{MINE}", "{{client}}"),
        )
        .min(0)
        .decimals(0)
    )
    yield lines(
        "Batch size",
        "Batch size of the last training, as really used: the device may lower what the plan asked for.",
        Short,
        (f"motley_client_batch_size{MINE}", "{{client}}"),
    ).min(0)
    yield lines(
        "Learning rate",
        "Learning rate of the last training; it follows the batch size unless the fleet file pins it.",
        Short,
        (f"motley_client_learning_rate{MINE}", "{{client}}"),
    ).min(0)
    yield lines(
        "Training speed",
        "Examples per second in the last training.",
        CountsPerSecond,
        (f"motley_client_examples_per_second{MINE}", "{{client}}"),
    ).min(0)
    yield (
        lines(
            "Round trip against expected",
            "From sending the order to reading its reply, last time; dashed, what past rounds let the server expect.",
            Seconds,
            (f"motley_device_round_trip_seconds{MINE}", "{{client}}"),
            (f"motley_device_expected_seconds{MINE}", "{{client}} expected"),
        )
        .min(0)
        .override_by_regexp("/ expected$/", DASHED)
    )
    yield lines(
        "Training loss",
        "Mean loss of the last training, on the device's own examples.",
        Short,
        (f"motley_client_train_loss{MINE}", "{{client}}"),
    ).decimals(3)


def stack() -> Iterator[Any]:
    yield (
        fact("Targets down", "Exporters that Prometheus cannot reach now.", Short, ("up == 0", "{{instance}}"), span=6)
        .height(8)
        .text_mode(style.BigValueTextMode.NAME)
        .no_value("none")
    )
    yield share(
        "Targets up",
        "Share of the exporters that Prometheus reaches, by job.",
        ("avg by (job) (up)", "{{job}}"),
    ).span(6)
    yield (
        lines(
            "Connected and busy",
            "Devices whose SuperNode is connected, and those that work on a message.",
            Short,
            (f"sum(motley_client_connected{MINE})", "connected"),
            (f"sum(motley_client_busy{MINE})", "busy"),
        )
        .min(0)
        .span(6)
    )
    yield (
        lines(
            "Restarts of Flower on devices",
            "How often a device's agent had to start its SuperNode or executor again; each step is one more.",
            Short,
            (f"motley_client_runtime_restarts_total{MINE}", "{{client}}"),
        )
        .min(0)
        .decimals(0)
        .span(6)
    )


def rate(counter: str) -> str:
    return f"rate({counter}{MINE}[$__rate_interval])"


def lines(title: str, description: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Curves over time; the legend gives the last value of each."""
    legend = common.VizLegendOptions().display_mode(style.LegendDisplayMode.LIST).calcs(["lastNotNull"])
    tooltip = common.VizTooltipOptions().mode(style.TooltipDisplayMode.MULTI).sort(style.SortOrder.DESCENDING)
    panel = _panel(timeseries.Panel(), title, description, unit, [_query(*each).range() for each in queries])
    panel.legend(legend.placement(style.LegendPlacement.BOTTOM).show_legend(True)).tooltip(tooltip)
    panel.line_interpolation(style.LineInterpolation.STEP_AFTER)
    return panel.span(8).height(8)


def share(title: str, description: str, *queries: Query) -> timeseries.Panel:
    """Curves between 0 and 100 %."""
    panel = lines(title, description, PercentUnit, *queries).min(0).axis_soft_max(1)
    return panel.line_interpolation(style.LineInterpolation.LINEAR)


def bars(title: str, description: str, unit: str, *queries: Query) -> bargauge.Panel:
    """The last values as bars, with names."""
    panel = _panel(bargauge.Panel(), title, description, unit, [_query(*each).instant() for each in queries])
    panel.orientation(style.VizOrientation.HORIZONTAL).reduce_options(_last()).thresholds(_plain())
    return panel.min(0).span(8).height(8)


def fact(title: str, description: str, unit: str, *queries: Query, span: int) -> stat.Panel:
    """The last value, large."""
    panel = _panel(stat.Panel(), title, description, unit, [_query(*each).instant() for each in queries])
    panel.graph_mode(style.BigValueGraphMode.NONE).reduce_options(_last()).thresholds(_plain())
    return panel.span(span).height(4)


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A variable of which any number of values can be chosen; all to begin with."""
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = dashboard.QueryVariable(name).label(label).datasource(DATASOURCE).definition(query)
    variable.query({"qryType": 1, "query": query, "refId": f"variable-{name}"}).current(everything)
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.NATURAL_ASC)
    return variable.multi(True).include_all(True)


def colored(panel: timeseries.Panel, colors: Mapping[str, str]) -> timeseries.Panel:
    for name, color in colors.items():
        fixed = {"mode": FieldColorModeId.FIXED, "fixedColor": color}
        panel.override_by_name(name, [DynamicConfigValue(id_val="color", value=fixed)])
    return panel


DASHED = [DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [6, 6]})]
UNSTACKED = [
    DynamicConfigValue(id_val="custom.stacking", value={"mode": style.StackingMode.NONE}),
    DynamicConfigValue(id_val="custom.fillOpacity", value=0),
]


def _panel(panel: Panel, title: str, description: str, unit: str, queries: list[prometheus.Dataquery]) -> Panel:
    panel.title(title).description(description).unit(unit).datasource(DATASOURCE)
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(query.ref_id(letter))
    return panel


def _query(expr: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _plain() -> dashboard.ThresholdsConfig:
    """One colour for all values."""
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value=None, color="blue")])


def render() -> str:
    return JSONEncoder(sort_keys=True, indent=1).encode(overview().build()) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is not current")
    if not parser.parse_args().check:
        OUTPUT.write_text(render(), encoding="utf-8")
    elif not OUTPUT.exists() or OUTPUT.read_text(encoding="utf-8") != render():
        print(f"{OUTPUT} is not current; run: python helpers/build_dashboards.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
