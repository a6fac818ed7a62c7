"""Batches that fill the memory: as large as each device's hard limit allows, found by the devices themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from engine import Containers, metrics, running, wait_for

from motley.device import Outcome, RoundOutcome
from motley.spec import MEMORY_FLOOR_BYTES, Device
from motley.units import format_bytes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROUNDS = 5
FLEET = f"""
name: sizing
seed: 3
training:
  task: large_digits:load
  policy: random
  rounds: {ROUNDS}
  batch_size: fit
  deadline: 240s
  device_evaluation: never
data: {{partition: iid, share: 0.95}}
classes:
  least: {{cpus: 0.3, memory: {format_bytes(MEMORY_FLOOR_BYTES)}}}
  half: {{cpus: 0.3, memory: 512m}}
  whole: {{cpus: 0.3, memory: 1g}}
  double: {{cpus: 0.3, memory: 2g}}
  modest: {{cpus: 0.3, memory: 2g, limits: {{memory: 768m, cpu_percent: 40}}, governor: dynamic}}
server: {{cpus: 0.3, memory: 2g}}
monitoring: {{enabled: false}}
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with running(tmp_path_factory.mktemp("sizing"), FLEET, "motley-e2e-sizing") as started:
        wait_for("last round", lambda: started.rounds_done() >= ROUNDS, 600, 2)
        yield started


@pytest.fixture(scope="module")
def history(fleet: Containers) -> Mapping[str, Sequence[RoundOutcome]]:
    """What each device did, round by round."""
    record = fleet.record()
    assert record is not None
    return {
        device.name: [each for _, each in record.outcomes if each.device == device.name]
        for device in fleet.fleet.devices()
    }


def test_nobody_is_killed_on_the_way(history: Mapping[str, Sequence[RoundOutcome]]) -> None:
    ends = {device: [each.outcome for each in rounds] for device, rounds in history.items()}
    assert ends == dict.fromkeys(history, [Outcome.FINISHED] * ROUNDS)


def limit_bytes(device: Device) -> int:
    """Its own where it has one."""
    own = device.spec.limits
    return own.memory if own and own.memory else device.spec.memory


def test_batches_are_in_the_order_of_memory(fleet: Containers, history: Mapping[str, Sequence[RoundOutcome]]) -> None:
    by_memory = sorted(fleet.fleet.devices(), key=limit_bytes)
    last = [history[device.name][-1].batch_size for device in by_memory]
    assert last == sorted(set(last))


def test_after_the_second_round_peaks_fill_the_memory_but_for_a_tenth(
    fleet: Containers, history: Mapping[str, Sequence[RoundOutcome]]
) -> None:
    shares = {
        device.class_name: [each.peak_memory_bytes / limit_bytes(device) for each in history[device.name][2:]]
        for device in fleet.fleet.devices()
    }
    assert all(0.7 <= share <= 0.9 for each in shares.values() for share in each), shares


def test_a_governor_keeps_its_device_to_its_own_limit_of_cpu(
    fleet: Containers, history: Mapping[str, Sequence[RoundOutcome]]
) -> None:
    """40 % of its quota, of which the others use nearly all; a step or two pass before it has learned that."""
    used = {
        device.class_name: sum(each.cpu_s for each in rounds) / sum(each.wall_s for each in rounds) / device.spec.cpus
        for device in fleet.fleet.devices()
        if (rounds := history[device.name][2:])
    }
    assert used["modest"] < 0.5 < min(share for name, share in used.items() if name != "modest"), used
    assert sum(each.paused_s for each in history["client-5"]) > 1
    shown = metrics(fleet, "client-5", 9101)
    assert shown["motley_client_governor_adjustments_total"] > 0
    assert shown["motley_client_pause_seconds_total"] > 1
    assert shown['motley_client_limit_crossings_total{kind="cpu"}'] > 0
    assert shown["motley_client_own_memory_limit_bytes"] == 768 * 2**20
