"""Batteries that run empty, devices that run hot and tasks that hang, in real containers while a run goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from engine import Containers, metrics, running, wait_for

from motley.device import Outcome, RoundOutcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

CHARGES_FROM_S = 200

FLEET = f"""
name: battery-heat
seed: 7
training:
  {{task: digits, policy: fedbuff, options: {{buffer: 2}}, rounds: 5000, local_epochs: 15,
   device_evaluation: never}}
data: {{partition: iid}}
classes:
  tired:
    cpus: 0.2
    memory: 512m
    power: {{idle: 0.1w, busy: 10w}}
    battery:
      {{capacity: 1wh, level: 1, floor: 0.9, charge: 20w, charging_share: 0.5, charging_from: {CHARGES_FROM_S / 86400}}}
  warm:
    cpus: 0.2
    memory: 512m
    power: {{idle: 0w, busy: 5w}}
    heat: {{ambient_celsius: 25, throttle_celsius: 33, limit_celsius: 60}}
  scorched:
    cpus: 0.2
    memory: 512m
    power: {{idle: 0w, busy: 10w}}
    heat: {{ambient_celsius: 25, throttle_celsius: 45, limit_celsius: 45}}
server: {{cpus: 0.4, memory: 1g}}
monitoring: {{enabled: false}}
"""
"""0.1 Wh above the floor last for 36 s at full load. 8 K above the surroundings are 1 W of 5, a fifth of the
speed. Where the threshold is the limit nothing throttles: 20 K at 10 W are reached after 52 s."""

TIRED, WARM, SCORCHED = "client-1", "client-2", "client-3"

STOP_TASK = """
for directory in /proc/[0-9]*; do
  if [ "$(cat $directory/oom_score_adj 2>/dev/null)" = 1000 ]; then kill -STOP ${directory#/proc/} && echo stopped; fi
done
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with running(tmp_path_factory.mktemp("battery-heat"), FLEET, "motley-e2e-battery-heat") as started:
        wait_for("first round", lambda: started.rounds_done() >= 1, 240, 1)
        yield started


def ended(fleet: Containers, device: str, kind: Outcome, since_s: float = 0.0) -> RoundOutcome | None:
    """The first outcome of its kind that the server came to know of since a moment."""
    record = fleet.record()
    outcomes = [each for _, each in record.outcomes] if record else []
    return next((it for it in outcomes if (it.device, it.outcome) == (device, kind) and it.known_s >= since_s), None)


def test_an_empty_battery_ends_the_work_and_a_charged_one_brings_the_device_back(fleet: Containers) -> None:
    empty = wait_for("empty battery", lambda: ended(fleet, TIRED, Outcome.BATTERY_EMPTY), 400, 1)
    assert empty.reason == "charge fell to 90%, where the device rests"
    shown = metrics(fleet, TIRED, 9101)
    assert shown['motley_client_tasks_total{reason="battery_empty",type="train"}'] >= 1
    assert shown['motley_client_battery_ratio{source="modelled"}'] <= 0.91
    assert shown["motley_client_energy_joules_total"] >= 350
    assert metrics(fleet, "server", 9100)['motley_outcomes_total{device_class="tired",reason="battery_empty"}'] >= 1
    back = wait_for("device", lambda: ended(fleet, TIRED, Outcome.FINISHED, empty.known_s), 300, 1)
    assert back.energy_wh > 0
    assert metrics(fleet, TIRED, 9101)['motley_client_charging{source="modelled"}'] == 1


def test_a_warm_device_is_slowed_down_by_pauses(fleet: Containers) -> None:
    paused = "motley_client_pause_seconds_total"
    wait_for("pauses", lambda: metrics(fleet, WARM, 9101).get(paused, 0) > 5, 300, 5)
    shown = metrics(fleet, WARM, 9101)
    assert 25 < shown['motley_client_temperature_celsius{source="modelled"}'] < 60
    assert not any(name.startswith("motley_client_battery_ratio") for name in shown)
    assert ended(fleet, WARM, Outcome.TOO_HOT) is None


def test_a_device_at_its_limit_stops_and_comes_back_when_it_has_cooled(fleet: Containers) -> None:
    hot = wait_for("hot device", lambda: ended(fleet, SCORCHED, Outcome.TOO_HOT), 400, 1)
    assert "with a limit of 45 °C; the device rests until it is below 35.0 °C" in hot.reason
    assert metrics(fleet, SCORCHED, 9101)['motley_client_tasks_total{reason="too_hot",type="train"}'] >= 1
    wait_for("device", lambda: ended(fleet, SCORCHED, Outcome.FINISHED, hot.known_s), 300, 1)


def test_a_task_that_hangs_is_ended_at_its_deadline_and_the_device_goes_on(fleet: Containers) -> None:
    wait_for("task to stop", lambda: "stopped" in fleet.execute(WARM, "sh", "-c", STOP_TASK), 60, 0.2)
    stopped_at = time.time()
    hung = wait_for("end of it", lambda: ended(fleet, WARM, Outcome.CRASHED, stopped_at), 90, 0.5)
    assert "ClientApp hung" in hung.reason
    assert int(re.findall(r"(\d+) s past its deadline", hung.reason)[0]) <= 8
    wait_for("device", lambda: ended(fleet, WARM, Outcome.FINISHED, hung.known_s), 200, 1)
