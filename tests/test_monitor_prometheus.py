"""What a monitor shows to Prometheus."""

from __future__ import annotations

import re
from typing import Any

from factories import ROOT
from monitors import MIB, Watched
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from motley.monitor.prometheus import MonitorCollector
from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import Sample


def scraped(watched: Watched, *options: Any) -> dict[str, list[Any]]:
    """Name of a sample → the samples."""
    registry = CollectorRegistry()
    registry.register(MonitorCollector(watched, *options))  # type: ignore[arg-type]
    from prometheus_client import generate_latest

    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((family.type, sample))
    return found


def test_values_are_those_of_the_sample() -> None:
    shown = scraped(Watched())
    plain = {name: pairs[0][1].value for name, pairs in shown.items() if len(pairs) == 1}
    assert (
        plain.items()
        >= {
            "motley_device_process_memory_bytes": 100 * MIB,
            "motley_device_memory_working_set_bytes": 300 * MIB,
            "motley_device_cpu_ratio": 0.5,
            "motley_device_oom_kills_total": 2,
            "motley_device_network_received_bytes_total": 1000,
            "motley_device_gpu_utilisation_ratio": 0.75,
            "motley_device_battery_floor_ratio": 0.25,
            "motley_device_cpu_limit_ratio": 0.8,
        }.items()
    )


def test_a_source_says_what_is_modelled() -> None:
    shown = scraped(Watched())
    assert {name: shown[f"motley_device_{name}"][0][1].labels for name in ("power_watts", "battery_ratio")} == {
        "power_watts": {"source": "modelled"},
        "battery_ratio": {"source": "psutil"},
    }


def test_limits_are_told_apart_by_who_sets_them() -> None:
    shown = scraped(Watched())
    assert shown["motley_device_memory_limit_bytes"][0][1].value == 400 * MIB
    assert shown["motley_device_own_memory_limit_bytes"][0][1].value == 350 * MIB


def test_beside_another_collector_it_shows_the_rest_under_that_ones_prefix() -> None:
    whole, part = scraped(Watched()), scraped(Watched(), "motley_client_", ("oom_kills", "limit_over"))
    names = {name.replace("motley_device_", "motley_client_") for name in whole}
    assert names - part.keys() == {"motley_client_oom_kills_total", "motley_client_limit_over"}
    assert part.keys() <= names


def test_crossings_and_states_by_kind() -> None:
    shown = scraped(Watched())
    for name, memory in (("limit_crossings_total", 3.0), ("limit_over", 1.0)):
        values = {each.labels["kind"]: each.value for _, each in shown[f"motley_device_{name}"]}
        assert values == {kind.value: memory if kind is LimitKind.MEMORY else 0.0 for kind in LimitKind}


def test_what_is_not_known_is_left_out() -> None:
    shown = scraped(Watched(Sample(at_s=5.0, cpu_share=0.0), ResourceLimits(), {}, frozenset()))
    assert set(shown) == {
        "motley_device_cpu_ratio",
        "motley_device_sample_timestamp_seconds",
        "motley_device_limit_crossings_total",
        "motley_device_limit_over",
    }
    assert set(scraped(Watched(None, ResourceLimits(), {}))) == {
        "motley_device_limit_crossings_total",
        "motley_device_limit_over",
    }


def test_counters_and_only_counters_end_in_total() -> None:
    for name, pairs in scraped(Watched()).items():
        assert name.startswith("motley_device_")
        assert (pairs[0][0] == "counter") == name.endswith("_total")


def test_the_page_names_every_metric() -> None:
    told = set(re.findall(r"`(motley_device_\w+)`", (ROOT / "docs/monitor.md").read_text(encoding="utf-8")))
    assert told == set(scraped(Watched()))
