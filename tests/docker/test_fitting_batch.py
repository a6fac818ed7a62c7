"""Batches that fill the memory: as large as each device's hard limit allows, found by the devices themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from engine import Containers, running, wait_for

from motley.device import Outcome, RoundOutcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROUNDS = 5
FLEET = """
name: sizing
seed: 3
training:
  task: large_digits:load
  policy: random
  rounds: 5
  batch_size: fit
  deadline: 240s
  device_evaluation: never
data: {partition: iid, share: 0.75}
classes:
  least: {cpus: 0.3, memory: 384m}
  half: {cpus: 0.3, memory: 512m}
  whole: {cpus: 0.3, memory: 1g}
  double: {cpus: 0.3, memory: 2g}
server: {cpus: 0.3, memory: 2g, after_run: exit}
monitoring: {enabled: false}
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


def test_batches_are_in_the_order_of_memory(fleet: Containers, history: Mapping[str, Sequence[RoundOutcome]]) -> None:
    by_memory = sorted(fleet.fleet.devices(), key=lambda device: device.spec.memory)
    last = [history[device.name][-1].batch_size for device in by_memory]
    assert last == sorted(set(last))


def test_after_the_second_round_peaks_fill_the_memory_but_for_a_tenth(
    fleet: Containers, history: Mapping[str, Sequence[RoundOutcome]]
) -> None:
    shares = {
        device.class_name: [each.peak_memory_bytes / device.spec.memory for each in history[device.name][2:]]
        for device in fleet.fleet.devices()
    }
    assert all(0.7 <= share <= 0.9 for each in shares.values() for share in each), shares
