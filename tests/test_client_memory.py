"""What a device learns of its memory: it survives an order, a kill, and other tasks, and fills what is there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from factories import MIB
from flwr.app import Context, RecordDict

from client.memory import Fitting, Memory, Peak, own_limit_bytes
from motley.device import DeviceLimits
from motley.limits import Cgroup
from motley.monitor import PeakMemory
from motley.training.examples import Examples
from motley.training.jobs import Job
from motley.workload import MemoryModel

LIMIT_BYTES = 512 * MIB
UNKNOWN = MemoryModel(200 * MIB, MIB)


class CountedKills(Cgroup):
    """A cgroup of which only the number of kills matters."""

    def __init__(self, kills: int | None = 0) -> None:
        self.kills = kills

    def oom_kills(self) -> int | None:
        return self.kills


@pytest.fixture
def context() -> Context:
    return Context(1, 11, {}, RecordDict(), {})


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(CountedKills(), LIMIT_BYTES, tmp_path / "note.json")


def job(batch: int = 64, held: int = 1000, steps: int = 10) -> Job:
    return Job({}, Examples(np.zeros((held, 1), np.float32), np.zeros(held, np.int64)), batch, 0.1, steps, 0)


def order(**changes: Any) -> dict[str, Any]:
    return {"batch_size": 64, "fit": True, "physical_batch": 0, "rate_scaling": "sqrt", "warm_up": 1.0, **changes}


def fitting(memory: Memory, context: Context, key: str = "digits", **changes: Any) -> Fitting:
    return Fitting(memory, context, key, UNKNOWN, job(), order(**changes))


def run(one: Fitting, needed_mib: float = 2.0, until_bytes: int = 2**62) -> list[int]:
    """Do a job whose examples need so much each; returns its pieces. Ends with the one that is killed."""
    pieces, piece = [], one.job.physical_batch
    while len(pieces) < 10:
        pieces.append(piece)
        peak_bytes = int((200 + needed_mib * piece) * MIB)
        if peak_bytes > until_bytes:
            break
        piece = one.measured(piece, peak_bytes)
    return pieces


def test_the_first_order_begins_small_and_grows_to_what_was_ordered(memory: Memory, context: Context) -> None:
    one = fitting(memory, context, fit=False)
    assert (one.job.batch_size, one.job.learning_rate, one.job.steps) == (64, 0.1, 10)
    assert run(one)[:5] == [1, 26, 52, 64, 64]


def test_a_batch_that_does_not_fit_stays_cut(memory: Memory, context: Context) -> None:
    """80 % of 512 MiB leave 209 above the base: 104 examples of 2 MiB, or 26 of 8."""
    assert set(run(fitting(memory, context, fit=False), needed_mib=8)[2:]) == {26}


def test_the_next_order_begins_with_what_was_learned(memory: Memory, context: Context) -> None:
    one = fitting(memory, context)
    run(one)
    one.keep()
    then = fitting(memory, context)
    assert then.model.points == one.model.points
    assert (then.job.batch_size, then.job.physical_batch) == (104, 104)
    assert then.job.learning_rate == pytest.approx(0.1 * np.sqrt(104 / 64))
    assert then.job.steps == 640 // 104


def test_what_was_learned_of_another_task_says_nothing(memory: Memory, context: Context) -> None:
    one = fitting(memory, context)
    run(one)
    one.keep()
    assert fitting(memory, context, "digits at width 0.5").model == UNKNOWN


def test_no_note_is_left_when_the_order_has_ended(memory: Memory, context: Context) -> None:
    one = fitting(memory, context)
    run(one)
    assert memory.note.exists()
    one.keep()
    assert not memory.note.exists()


def test_a_killed_order_leaves_word_of_what_it_measured_and_of_what_it_died_of(
    memory: Memory, context: Context
) -> None:
    pieces = run(fitting(memory, context), needed_mib=5, until_bytes=399 * MIB)
    assert pieces == [1, 24, 40]
    assert isinstance(memory.cgroup, CountedKills)
    memory.cgroup.kills = 1
    then = fitting(memory, context)
    assert (then.model.points, then.model.killed) == (((1, 205 * MIB), (24, 320 * MIB)), 40)
    assert max(run(then, needed_mib=5)) == 20
    then.keep()
    assert max(run(fitting(memory, context), needed_mib=5)) == 20


def test_a_crash_for_another_reason_is_not_held_against_the_batch(memory: Memory, context: Context) -> None:
    run(fitting(memory, context), until_bytes=260 * MIB)
    assert LIMIT_BYTES not in [peak for _, peak in fitting(memory, context).model.points]


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"key": "other"}'])
def test_an_unreadable_note_says_nothing(memory: Memory, context: Context, text: str) -> None:
    memory.note.write_text(text)
    assert fitting(memory, context).model == UNKNOWN


def test_a_device_that_can_t_leave_a_note_works_all_the_same(context: Context) -> None:
    memory = Memory(CountedKills(None), LIMIT_BYTES, Path("/nonexistent/note.json"))
    one = fitting(memory, context)
    assert run(one)[-1] > 64
    one.keep()


@pytest.mark.parametrize("fit", [True, False])
def test_the_order_s_cap_holds(memory: Memory, context: Context, fit: bool) -> None:
    assert max(run(fitting(memory, context, fit=fit, physical_batch=5))) == 5


@pytest.mark.parametrize(
    ("enforced", "said", "own"),
    [(None, 0, None), (None, 100, None), (100, 0, 100), (100, 100, 100), (104, 100, 104), (200, 100, None)],
)
def test_a_limit_is_the_device_s_own_where_it_is_what_the_fleet_file_says(
    enforced: int | None, said: int, own: int | None
) -> None:
    assert own_limit_bytes(enforced, said) == own


class Filled(Cgroup):
    """A container of 288 MiB of which 250 are held."""

    def __init__(self) -> None: ...

    def limits(self) -> DeviceLimits:
        return DeviceLimits(cpus=None, memory_bytes=288 * MIB)

    def memory(self) -> tuple[int, int]:
        return 288 * MIB, 270 * MIB

    def held_bytes(self) -> int:
        return 250 * MIB


@pytest.mark.parametrize(
    ("grown_mib", "of_libraries_mib", "peak_mib"),
    [(30, 0, 280), (30, 20, 260), (60, 10, 288), (0, 0, 255)],
    ids=["own memory", "pages of libraries", "never the limit itself", "what was sampled"],
)
def test_the_peak_is_what_the_process_took_and_below_the_limit(
    grown_mib: int, of_libraries_mib: int, peak_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has 100 MiB at first, 40 of them shared; samples saw 255 in use."""
    sizes = {"mark": 100, "shared": 40}
    monkeypatch.setattr("client.memory._high_water_bytes", lambda: sizes["mark"] * MIB)
    monkeypatch.setattr(
        "psutil.Process.memory_info", lambda process: SimpleNamespace(rss=100 * MIB, shared=sizes["shared"] * MIB)
    )
    cgroup = Filled()
    sampled = PeakMemory(cgroup)
    sampled.peak_bytes = 255 * MIB
    peak = Peak(cgroup, sampled)
    sizes.update(mark=100 + grown_mib, shared=40 + of_libraries_mib)
    assert peak.bytes == min(peak_mib * MIB, 288 * MIB - 1)
