"""One budget for several holders: how it is divided, and that the dead give theirs back."""

from __future__ import annotations

import fcntl
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from factories import MIB, ROOT
from hypothesis import given
from hypothesis import strategies as st

from motley import broker as broker_module
from motley.broker import Broker, Budget, Holder, Wish, granted
from motley.errors import InputError, MotleyError
from motley.governor.base import Grant
from motley.governor.sharing import max_min_shares

# The division


@pytest.mark.parametrize(
    ("budget", "wishes", "weights", "shares"),
    [
        (10, [2, 2.6, 4, 5], [1, 1, 1, 1], [2, 2.6, 2.7, 2.7]),
        (16, [4, 2, 10, 4], [2.5, 4, 0.5, 1], [4, 2, 6, 4]),
        (9, [math.inf, math.inf, math.inf], [1, 1, 1], [3, 3, 3]),
        (9, [math.inf, math.inf], [2, 1], [6, 3]),
        (9, [1, 2], [1, 1], [1, 2]),
        (0, [1, 2], [1, 1], [0, 0]),
        (9, [0, math.inf], [5, 1], [0, 9]),
    ],
)
def test_shares_by_hand(budget: float, wishes: list[float], weights: list[float], shares: list[float]) -> None:
    names = "abcd"
    found = max_min_shares(budget, dict(zip(names, wishes, strict=False)), dict(zip(names, weights, strict=False)))
    assert [found[name] for name in names[: len(wishes)]] == pytest.approx(shares)


def test_nobody_shares_nothing() -> None:
    assert max_min_shares(5, {}) == {}


@given(
    budget=st.floats(0, 1e12),
    asked=st.lists(st.tuples(st.floats(0, 1e12) | st.just(math.inf), st.floats(0.01, 100)), min_size=1, max_size=8),
)
def test_shares_are_max_min_fair(budget: float, asked: list[tuple[float, float]]) -> None:
    wishes = {str(number): wish for number, (wish, _) in enumerate(asked)}
    weights = {str(number): weight for number, (_, weight) in enumerate(asked)}
    shares = max_min_shares(budget, wishes, weights)
    slack = 1e-9 * budget
    assert all(0 <= shares[name] <= wishes[name] for name in wishes)
    assert math.fsum(shares.values()) == pytest.approx(min(budget, math.fsum(wishes.values())), abs=slack)
    for poor in (name for name in wishes if shares[name] < wishes[name] - slack):
        level = shares[poor] / weights[poor]
        assert all(shares[name] / weights[name] <= level * (1 + 1e-6) + slack for name in wishes)


def holder(order: int, wish: int | None = None, held: int = 0, budget: int = 90, weight: float = 1.0) -> Holder:
    return Holder(order, Budget(budget), Wish(wish, weight=weight), held)


def test_a_newcomer_gets_what_the_others_do_not_hold_still() -> None:
    holders = {"old": holder(1, held=80), "new": holder(2)}
    assert granted("new", holders) == Grant(10, None, final=False)
    assert granted("old", holders) == Grant(45, None, final=True)
    holders["old"] = holder(1, held=45)
    assert granted("new", holders) == Grant(45, None, final=True)


def test_the_first_does_not_wait_for_the_others() -> None:
    """Its grant is final even where another holds more than its share, or both would wait for each other."""
    holders = {"first": holder(1, held=45), "second": holder(2, held=70)}
    assert granted("first", holders) == Grant(20, None, final=True)


def test_the_smallest_budget_counts_and_cores_are_free_at_once() -> None:
    both = {"a": Holder(1, Budget(90, 3.0), Wish(10, 0.5), 10), "b": Holder(2, Budget(60, 2.0), Wish(), 50)}
    assert granted("b", both) == Grant(50, 1.5)
    assert granted("a", both) == Grant(10, 0.5)


@given(st.data())
def test_what_is_held_never_adds_up_to_more_than_the_budget(data: st.DataObject) -> None:
    """Holders come, change their wishes, renew and go; each uses at most what it was granted last."""
    holders: dict[str, Holder] = {}
    for step in range(data.draw(st.integers(1, 25))):
        name = data.draw(st.sampled_from("abcde"))
        if name in holders and data.draw(st.booleans()):
            del holders[name]
            continue
        known = holders.get(name, holder(step))
        wish = data.draw(st.none() | st.integers(0, 120))
        used = data.draw(st.integers(0, known.held_bytes))
        holders[name] = replace(known, wish=Wish(wish))
        grant = granted(name, holders)
        holders[name] = replace(holders[name], held_bytes=max(grant.memory_bytes, used))
        assert sum(each.held_bytes for each in holders.values()) <= 90


@given(wishes=st.lists(st.none() | st.integers(0, 120), min_size=1, max_size=6))
def test_shares_settle_when_all_have_renewed(wishes: list[int | None]) -> None:
    holders = {str(order): holder(order, wish) for order, wish in enumerate(wishes)}
    for _ in range(2):
        for name in holders:
            holders[name] = replace(holders[name], held_bytes=granted(name, holders).memory_bytes)
    assert all(granted(name, holders).final for name in holders)
    wished = sum(90 if wish is None else wish for wish in wishes)
    assert sum(each.held_bytes for each in holders.values()) >= min(90, wished) - len(wishes)


# Leases


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path / "budget", Budget(90))


def test_leases_share_and_give_back(broker: Broker) -> None:
    with broker.join() as first:
        assert first.grant.memory_bytes == 90
        with broker.join() as second:
            assert second.grant == Grant(0, final=False)
            assert first.renew().memory_bytes == 45
            assert second.renew() == Grant(45, final=True)
        assert first.renew().memory_bytes == 90
    assert broker.holders() == {}


def test_what_is_still_used_is_still_held(broker: Broker) -> None:
    with broker.join() as first, broker.join() as second:
        assert first.renew(used_bytes=70).memory_bytes == 45
        assert second.renew().memory_bytes == 20
        first.renew(used_bytes=30)
        assert second.renew(Wish(30)).memory_bytes == 30
        assert first.renew().memory_bytes == 60


def test_weights_count(broker: Broker) -> None:
    with broker.join() as first, broker.join(Wish(weight=2)) as second:
        first.renew()
        assert second.renew(Wish(weight=2)).memory_bytes == 60


def test_releasing_twice_is_once(broker: Broker) -> None:
    lease = broker.join()
    lease.release()
    lease.release()
    assert broker.holders() == {}


def test_what_does_not_belong_there_is_no_holder(broker: Broker, tmp_path: Path) -> None:
    directory = broker.directory
    directory.mkdir()
    (directory / "notes.txt").write_text("mine")
    (directory / "folder.lease").mkdir()
    (directory / "link.lease").symlink_to(tmp_path / "nowhere")
    os.mkfifo(directory / "pipe.lease")
    (directory / "dead.lease").write_text(json.dumps({"order": 1}))
    with broker.join() as lease:
        assert lease.grant.memory_bytes == 90
        assert lease.renew().memory_bytes == 90
    assert (directory / "notes.txt").read_text() == "mine"
    assert not (directory / "dead.lease").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "[" * 4000,
        '{"order": 1e999, "budget": {"memory_bytes": 9}, "wish": {}, "held_bytes": 5}',
        '{"order": 1, "budget": {"memory_bytes": -9}, "wish": {}, "held_bytes": 5}',
        '{"order": 1, "budget": {"memory_bytes": 9}, "wish": {"weight": NaN}, "held_bytes": 5}',
        '{"order": 1, "budget": {"memory_bytes": 9}, "wish": {"colour": "red"}, "held_bytes": 5}',
        "\xff",
    ],
)
def test_a_lease_that_says_nonsense_holds_nothing(broker: Broker, text: str) -> None:
    broker.directory.mkdir()
    path = broker.directory / "odd.lease"
    path.write_bytes(text.encode("latin-1"))
    with path.open("rb") as odd:
        fcntl.flock(odd, fcntl.LOCK_EX)
        with broker.join() as lease:
            assert lease.grant.memory_bytes == 90
    assert path.exists()


def test_a_lease_whose_file_was_cleaned_away_comes_back(broker: Broker) -> None:
    with broker.join() as lease:
        next(broker.directory.glob("*.lease")).unlink()
        lease.renew()
        assert list(broker.holders()) == [lease.name]


def test_a_directory_that_stays_locked_keeps_the_last_grant(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "_LOCK_WAIT_S", 0.02)
    with broker.join() as lease, (broker.directory / "budget.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert lease.renew(Wish(1)).memory_bytes == 90
        with pytest.raises(MotleyError, match=r"budget\.lock has been locked for 0\.02 s"):
            broker.join()


def test_a_directory_that_cannot_be_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"can't share a budget in .*file"):
        Broker(tmp_path / "file", Budget(90)).join()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(0), "a budget of 0 bytes"),
        (lambda: Budget(1, 0.0), "a budget of 0.0 cores"),
        (lambda: Wish(-1), "a wish for -1"),
        (lambda: Wish(weight=math.inf), "a weight of inf"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# Real processes

HOLDER = """
import sys, time
from pathlib import Path
from motley.broker import Broker, Budget
with Broker(Path(sys.argv[1]), Budget(90 * 2**20)).join() as lease:
    while True:
        print(lease.renew().memory_bytes, flush=True)
        time.sleep(0.01)
"""

FORKING = """
import os, sys, time
from pathlib import Path
from motley.broker import Broker, Budget
lease = Broker(Path(sys.argv[1]), Budget(90 * 2**20)).join()
if child := os.fork():
    print(child, flush=True)
time.sleep(60)
"""


class Process:
    """A holder in a process of its own, which prints its grant again and again."""

    def __init__(self, code: str, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def gets(self, grant_bytes: int) -> None:
        """Reads until it is granted so much."""
        until = time.monotonic() + 30
        while int(self.line()) != grant_bytes:
            assert time.monotonic() < until, f"not granted {grant_bytes} bytes within 30 s"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    with ExitStack() as stack:

        def start(code: str) -> Process:
            process = Process(code, tmp_path)
            stack.callback(process.process.stdout.close)  # type: ignore[union-attr]
            stack.callback(process.kill)
            return process

        yield start


def test_a_killed_process_gives_its_share_to_the_others(holders: Callable[[str], Process]) -> None:
    first, second, third = (holders(HOLDER) for _ in range(3))
    for each in (first, second, third):
        each.gets(30 * MIB)
    second.kill()
    for each in (first, third):
        each.gets(45 * MIB)
    third.kill()
    first.gets(90 * MIB)


def test_a_forked_child_does_not_keep_a_dead_parents_lease(holders: Callable[[str], Process], tmp_path: Path) -> None:
    parent = holders(FORKING)
    child = int(parent.line())
    try:
        broker = Broker(tmp_path, Budget(90 * MIB))
        assert len(broker.holders()) == 1
        parent.kill()
        os.kill(child, 0)
        until = time.monotonic() + 10
        while broker.holders() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(child, 0)
        assert broker.holders() == {}
    finally:
        os.kill(child, 9)
