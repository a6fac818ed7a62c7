"""Scaling through the launcher: names, budgets, restarts, and that nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_provider import NEEDS, FileProvider
from test_launcher import Lab, account

from motley.errors import MotleyError
from motley.launched_crew import LaunchedCrew
from motley.launcher import Order
from motley.launches import LaunchState
from motley.providers.base import ProviderError
from motley.scaler import Measured, Scaler
from motley.scaling_spec import Scaling

FIXED = {"client-1", "client-2"}


def order_of(number: int) -> Order:
    return Order(f"run-7-{number}", NEEDS, "run-7", f"client-{2 + number}", {}, "10.0.0.1:9092", hours=1.0)


def crew_of(lab: Lab) -> LaunchedCrew:
    """Every machine that there is has joined."""
    (cloud,) = lab.clouds.values()
    return LaunchedCrew(lab.launcher, "run-7", order_of, lambda: FIXED | {each.device for each in cloud.list()})


def test_devices_come_and_go_by_name(tmp_path: Path) -> None:
    crew = crew_of(Lab(tmp_path))
    assert crew.launch(2).names == ["client-3", "client-4"]
    assert crew.requested() == {"client-3", "client-4"}
    crew.terminate(["client-3", "client-99"])
    assert crew.requested() == {"client-4"}
    assert crew.observed() == FIXED | {"client-4"}
    assert crew.launch(1).names == ["client-5"]


def test_a_budget_that_is_used_up_is_the_refusal(tmp_path: Path) -> None:
    crew = crew_of(Lab(tmp_path, lab=account(monthly={"hours": 2.2})))
    launched = crew.launch(3)
    assert launched.names == ["client-3", "client-4"]
    assert launched.refusal.startswith("nothing launched for 'client-5': lab: ")


def test_another_process_goes_on_with_other_names(tmp_path: Path) -> None:
    crew_of(Lab(tmp_path)).launch(2)
    again = crew_of(Lab(tmp_path))
    assert again.requested() == {"client-3", "client-4"}
    assert again.launch(1).names == ["client-5"]


def test_other_runs_are_left_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    other = LaunchedCrew(lab.launcher, "run-8", lambda number: _of_run_8(number), lambda: ())
    other.launch(1)
    crew = crew_of(lab)
    crew.terminate(["client-3"])
    assert (crew.requested(), other.requested()) == (set(), {"client-3"})


def _of_run_8(number: int) -> Order:
    return Order(f"run-8-{number}", NEEDS, "run-8", f"client-{2 + number}", {}, "10.0.0.1:9092", hours=1.0)


def test_all_are_tried_where_one_can_not_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(tmp_path)
    crew, end = crew_of(lab), FileProvider.terminate
    crew.launch(2)
    first = lab.journal.row("run-7-1").machine_id

    def terminate(provider: FileProvider, machine_id: str) -> None:
        if machine_id == first:
            raise ProviderError("lab: terminate: 503")
        end(provider, machine_id)

    monkeypatch.setattr(FileProvider, "terminate", terminate)
    with pytest.raises(MotleyError, match="503"):
        crew.terminate(["client-3", "client-4"])
    assert crew.requested() == {"client-3"}


def test_a_run_of_two_grows_to_four_and_shrinks_after_and_leaves_nothing(tmp_path: Path) -> None:
    """The first of the things that must work, on a provider of files in place of real containers."""
    lab = Lab(tmp_path)
    rules = Scaling.model_validate({"device_class": "fast", "min": 2, "max": 4})
    said: list[str] = []
    crew = crew_of(lab)
    scaler = Scaler(rules, crew, lab.clock, said.append)
    start_s, wanted = lab.clock.now_s(), 4

    def measure() -> Measured:
        there = len(crew.observed())
        return Measured(used=min(wanted, there), queued=max(0, wanted - there))

    def play(until_s: float) -> None:
        scaler.run(measure, lambda: lab.clock.now_s() >= start_s + until_s)

    play(900)
    assert len(crew.observed()) == 4
    wanted = 1
    play(2400)
    assert crew.observed() == FIXED
    assert [line for line in said if " bring " in line] == [
        "scaling: utilisation 2.00 over 300 s is above 0.8: 2 more bring it to 1.00",
        "scaling: utilisation 0.29 over 300 s is below 0.3: 2 fewer bring it to 0.57",
    ]
    scaler.end_all()
    assert lab.machines() == {}
    assert set(lab.states().values()) == {LaunchState.ENDED}
