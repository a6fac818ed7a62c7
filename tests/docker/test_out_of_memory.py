"""A weak device whose usual batch is killed at its memory limit: it loses one round, and goes on with less."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine import Containers, metrics, query, running, wait_for

from motley.device import Outcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

ROUNDS, PROMETHEUS = 8, 19090
FLEET = f"""
name: killed
seed: 5
training:
  {{task: workspace_digits:load, policy: random, rounds: {ROUNDS}, local_epochs: 2, deadline: 60s,
   device_evaluation: never}}
data: {{partition: iid}}
classes:
  weak: {{cpus: 0.25, memory: 416m}}
  roomy: {{cpus: 0.5, memory: 1g}}
server: {{cpus: 0.5, memory: 1g}}
monitoring: {{prometheus_port: {PROMETHEUS}}}
"""

WEAK, ROOMY = "client-1", "client-2"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with running(tmp_path_factory.mktemp("killed"), FLEET, "motley-e2e-killed") as started:
        wait_for("last round", lambda: started.rounds_done() >= ROUNDS, 400, 1)
        yield started


def test_the_device_is_killed_once_and_finishes_every_other_round(fleet: Containers) -> None:
    record = fleet.record()
    assert record is not None
    ends = {
        device: [(number, each.outcome) for number, each in record.outcomes if each.device == device]
        for device in (WEAK, ROOMY)
    }
    assert [outcome for _, outcome in ends[ROOMY]] == [Outcome.FINISHED] * ROUNDS
    assert ends[WEAK] == [(1, Outcome.OUT_OF_MEMORY), *((number, Outcome.FINISHED) for number in range(2, ROUNDS + 1))]


def test_the_kill_is_counted_by_device_and_server(fleet: Containers) -> None:
    assert metrics(fleet, WEAK, 9101)["motley_client_oom_kills_total"] >= 1
    assert metrics(fleet, WEAK, 9101)['motley_client_tasks_total{reason="out_of_memory",type="train"}'] == 1
    assert metrics(fleet, "server", 9100)['motley_outcomes_total{device_class="weak",reason="out_of_memory"}'] == 1


def test_prometheus_has_scraped_the_kill(fleet: Containers) -> None:
    """From the device and from the server."""
    for expression in (
        f'motley_client_oom_kills_total{{client="{WEAK}"}} >= 1',
        f'motley_client_tasks_total{{client="{WEAK}",reason="out_of_memory"}} == 1',
        'motley_outcomes_total{device_class="weak",reason="out_of_memory"} == 1',
    ):
        wait_for(expression, lambda expression=expression: query(expression, PROMETHEUS), 60)


def test_the_container_itself_is_never_killed(fleet: Containers) -> None:
    state = fleet.inspect(WEAK)["State"]
    assert (state["Running"], fleet.inspect(WEAK)["RestartCount"]) == (True, 0)
