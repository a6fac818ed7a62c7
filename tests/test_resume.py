"""A run that was stopped and resumed is the run that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from motley.checkpoint import difference, put_together, read_checkpoint, taken_apart, write_checkpoint
from motley.device import RoundOutcome
from motley.errors import InputError
from motley.fleetfile import parse_fleet
from motley.history import History
from motley.records import RoundRow, RunRecord
from motley.simulation.interruption import Interruption
from motley.simulation.keeper import EVERY_S, Keeper
from motley.simulation.run import simulate
from motley.spec import Fleet

PHONES = """
name: phones
seed: 5
training:
  {{task: synthetic, rounds: {rounds}, policy: {policy}, devices_per_round: 6, local_epochs: 2, {training}}}
data: {{examples_per_device: 40}}
classes:
  phone:
    count: 20
    cpus: 1
    memory: 4g
    ms_per_example: {{lognormal: {{median: 176, sigma: 0.9}}}}
    network:
      down: {{lognormal: {{median: 0.2mbit, sigma: 0.5}}}}
      up: {{lognormal: {{median: 0.1mbit, sigma: 0.7}}}}
      variation: 0.4
    battery: {{capacity: 15wh, level: 0.6, charging_share: 0.3}}
    power: {{busy: 5w, idle: 1w}}
    heat: {{throttle_celsius: 40, limit_celsius: 60}}
    availability: {{ready: 0.7, session: 60s}}
server: {{cpus: 0.5}}
"""
ROUNDS = 8


def phones(policy: str, training: str = "device_evaluation: last", rounds: int = ROUNDS) -> Fleet:
    return parse_fleet(PHONES.format(policy=policy, training=training, rounds=rounds).encode())


def dump(directory: Path) -> list[str]:
    """All that history holds, as SQL, but for the spec, which tells a shorter run from a longer one."""
    with closing(sqlite3.connect(directory / "history.db")) as db:
        return list(db.iterdump())


def stopped_after(number: int, fleet: Fleet, directory: Path, resume: bool = False) -> RunRecord:
    """Run the fleet with Ctrl-C in round `number`."""

    def interrupt(row: RoundRow, outcomes: Sequence[RoundOutcome]) -> None:
        if row.round == number:
            os.kill(os.getpid(), signal.SIGINT)

    return simulate(fleet, directory, watch=interrupt, resume=resume)


@pytest.mark.parametrize(
    ("policy", "training"),
    [
        ("random", "device_evaluation: every"),
        ("refl", "device_evaluation: last"),
        ("fedbuff", "device_evaluation: last, compression: topk"),
        ("adaptive", "device_evaluation: every, compression: topk"),
        ("oort", "device_evaluation: never, compression: int8"),
        ("tifl", "device_evaluation: never"),
        ("momentum", "device_evaluation: never, max_time: 12m"),
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one(policy: str, training: str, tmp_path: Path) -> None:
    """Stopped twice, with late orders under way, with top-k's residuals and after device evaluations."""
    fleet, whole, parts = phones(policy, training), tmp_path / "whole", tmp_path / "parts"
    simulate(fleet, whole)
    assert stopped_after(2, fleet, parts).run.status == "stopped"
    assert stopped_after(5, fleet, parts, resume=True).run.status == "stopped"
    simulate(fleet, parts, resume=True)
    assert dump(parts) == dump(whole)
    assert (parts / "model.npz").read_bytes() == (whole / "model.npz").read_bytes()


@pytest.mark.parametrize("number", range(1, ROUNDS))
def test_it_does_not_matter_when_it_was_stopped(number: int, tmp_path: Path) -> None:
    fleet = phones("refl", "compression: topk")
    simulate(fleet, tmp_path / "whole")
    stopped_after(number, fleet, tmp_path / "parts")
    simulate(fleet, tmp_path / "parts", resume=True)
    assert dump(tmp_path / "parts") == dump(tmp_path / "whole")


def test_there_is_something_under_way_when_it_stops(tmp_path: Path) -> None:
    """Else the tests above would say little."""
    fleet = phones("refl", "compression: topk")
    stopped_after(3, fleet, tmp_path)
    state = read_checkpoint(tmp_path / "checkpoints", fleet).state
    trains = [each for each in state["grid"]["flights"] if each["demand"]["kind"] == "train"]
    assert trains
    assert [row for row in state["strategy"]["mailbox"]["pending"] if row[1]["kind"] == "train"]
    assert state["contexts"]


def test_a_stopped_run_keeps_its_result_so_far(tmp_path: Path) -> None:
    record = stopped_after(3, phones("random"), tmp_path)
    assert record.run.status == "stopped"
    assert [row.round for row in record.rounds] == [1, 2, 3]
    with np.load(tmp_path / "model.npz") as model:
        assert set(model) == {"weight", "bias"}


def test_a_second_interruption_stops_at_once(tmp_path: Path) -> None:
    def insist(row: RoundRow, outcomes: Sequence[RoundOutcome]) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    record = simulate(phones("random"), tmp_path, watch=insist)
    assert (record.run.status, len(record.rounds)) == ("stopped", 1)
    assert not (tmp_path / "checkpoints").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_may_go_on_for_longer_than_it_was_meant_to(tmp_path: Path) -> None:
    training = "device_evaluation: never"
    simulate(phones("fedbuff", training), tmp_path / "whole")
    simulate(phones("fedbuff", training, rounds=5), tmp_path / "parts")
    simulate(phones("fedbuff", training), tmp_path / "parts", resume=True)
    assert dump(tmp_path / "parts") == dump(tmp_path / "whole")


def test_what_came_after_the_checkpoint_is_done_again(tmp_path: Path) -> None:
    """As after a crash: the store is ahead of the checkpoint."""

    def crash(row: RoundRow, outcomes: Sequence[RoundOutcome]) -> None:
        if row.round == 6:
            raise ZeroDivisionError

    fleet = phones("fedbuff")
    simulate(fleet, tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        simulate(fleet, tmp_path / "parts", watch=crash, checkpoint_rounds=2)
    simulate(fleet, tmp_path / "parts", resume=True)
    assert dump(tmp_path / "parts") == dump(tmp_path / "whole")


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint in .*: the run ended before its first; start it anew"):
        simulate(phones("random"), tmp_path, resume=True)


def test_a_run_that_begins_anew_forgets_the_one_before(tmp_path: Path) -> None:
    stopped_after(1, phones("random"), tmp_path)
    simulate(phones("random"), tmp_path, checkpoint_rounds=0)
    with pytest.raises(InputError, match="no checkpoint"):
        simulate(phones("random"), tmp_path, resume=True)


def test_an_interruption_is_kept_even_where_checkpoints_are_not_wanted(tmp_path: Path) -> None:
    written, interruption = list[object](), Interruption()
    keeper = Keeper(written.append, interruption, every_rounds=0)
    assert keeper.goes_on(dict)
    keeper.finish()
    assert not written
    interruption.asked = True
    assert not keeper.goes_on(dict)
    assert written == [{}]


def test_another_fleet_is_refused_by_the_field_that_differs(tmp_path: Path) -> None:
    stopped_after(1, phones("random"), tmp_path)
    with pytest.raises(InputError, match=r"another fleet: training\.policy was \"random\", is \"fair\""):
        simulate(phones("fair"), tmp_path, resume=True)
    longer = phones("random").with_rounds(9).with_max_time(1000.0)
    assert difference(phones("random").model_dump(mode="json"), longer.model_dump(mode="json")) is None


def test_a_checkpoint_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    fleet = phones("random")
    store = History(tmp_path / "history.db")
    write_checkpoint(tmp_path / "kept", {"round": 1}, fleet, store)
    (tmp_path / "kept" / "2.new").mkdir()
    assert read_checkpoint(tmp_path / "kept", fleet).state == {"round": 1}
    write_checkpoint(tmp_path / "kept", {"round": 2}, fleet, store)
    store.close()
    assert read_checkpoint(tmp_path / "kept", fleet).state == {"round": 2}
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["2"]


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    store = History(tmp_path / "history.db")
    write_checkpoint(tmp_path / "kept", {}, phones("random"), store)
    store.close()
    path = tmp_path / "kept" / "1" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    with pytest.raises(InputError, match="another version of Motley"):
        read_checkpoint(tmp_path / "kept", phones("random"))


def test_states_survive_being_taken_apart() -> None:
    scalar, matrix = np.array(0.1), np.arange(6, dtype=np.float32).reshape(2, 3)
    state = {"a": [1, None, float("inf"), {"b": matrix, "c": b"\x00\xff"}], "d": scalar, "e": "text", "f": b""}
    arrays: list[np.ndarray] = []
    text = json.dumps(taken_apart(state, arrays))
    again = put_together(json.loads(text), arrays)
    assert again["a"][:3] == [1, None, float("inf")]
    assert again["a"][3]["c"] == b"\x00\xff"
    assert (again["e"], again["f"]) == ("text", b"")
    assert again["d"].shape == ()
    np.testing.assert_array_equal(again["a"][3]["b"], matrix)


@pytest.mark.parametrize("odd", [{1: "a"}, {"a": object()}, {"a": {"b"}}])
def test_a_state_that_can_not_be_written_is_refused(odd: object) -> None:
    with pytest.raises(TypeError, match="can't be written down"):
        taken_apart(odd, [])


def test_checkpoints_take_a_twentieth_of_the_time_at_most() -> None:
    now, written = [0.0], list[float]()

    def write(state: object) -> None:
        written.append(now[0])
        now[0] += 3.0

    keeper = Keeper(write, Interruption(), now_s=lambda: now[0])
    for _ in range(200):
        now[0] += 1.0
        assert keeper.goes_on(dict)
    assert written[0] == EVERY_S
    assert np.diff(written).min() >= 60.0
    keeper.finish()
    keeper.finish()
    assert len(written) == 5


def test_who_leaves_interruptions_to_its_parent_keeps_doing_so() -> None:
    before, on_term = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGTERM) is on_term
        assert not interruption.asked
    finally:
        signal.signal(signal.SIGINT, before)
