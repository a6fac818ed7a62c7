"""Launches within budgets: which account, what is reserved, and that nothing stays behind, whatever is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from file_provider import NEEDS, FileProvider
from hypothesis import given
from hypothesis import strategies as st

import motley.launches
from motley.accounts import Account
from motley.budgets import HOUR_S, Amount, by_month
from motley.clock import ManualClock
from motley.errors import InputError
from motley.launcher import ACCOUNT_TAG, ENDING_S, UNTIL_TAG, Launcher, NothingLaunched, Order
from motley.launches import RUN_LEASE_S, BudgetExceeded, Launches, LaunchRow, LaunchState
from motley.providers.base import Launch, ProviderError
from motley.sweeping import GRACE_S, find_strays, reconcile, sweep

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 10, 12, tzinfo=BERLIN).timestamp()
FORK = multiprocessing.get_context("fork")


def account(**changes: Any) -> Account:
    plain = {"provider": "fake", "monthly": {"hours": 10}, "eligibility": {"evidence": "our own"}, **changes}
    return Account.model_validate({"time_zone": "Europe/Berlin", **plain})


def order(token: str = "one", **changes: Any) -> Order:
    known: dict[str, Any] = {"run_id": "run-7", "device": f"client-{token}", "hours": 1.0}
    known |= {"environment": {"MOTLEY_CLASS": "fast"}, "superlink": "10.0.0.1:9092", "needs": NEEDS}
    return Order(token=token, **{**known, **changes})


class Lab:
    """A launcher with its journal, accounts and providers below one directory; another one there shares them."""

    def __init__(self, directory: Path, now_s: float = NOON, at: Callable[[str], None] | None = None, **accounts: Any):
        self.clock = ManualClock(now_s)
        self.accounts = accounts or {"lab": account()}
        self.clouds = {name: FileProvider(directory / name, self.clock.now_s, name=name) for name in self.accounts}
        self.journal = Launches(directory / "launches.db")
        self.launcher = Launcher(self.accounts, self.clouds, self.journal, self.clock)
        for cloud in self.clouds.values():
            cloud.at = at or cloud.at

    def machines(self) -> dict[str, str]:
        """The token of each machine there is, and its account."""
        return {each.token: name for name, cloud in self.clouds.items() for each in cloud.list()}

    def states(self) -> dict[str, LaunchState]:
        return {row.token: row.state for row in self.journal.rows()}

    def used(self, name: str = "lab") -> dict[str, Amount]:
        return by_month(self.journal.charges(name, self.clock.now_s()), self.accounts[name].zone)

    def left_hours(self, name: str = "lab") -> float:
        budget = self.accounts[name].budget
        used = self.used(name).get(f"{datetime.fromtimestamp(self.clock.now_s(), budget.zone):%Y-%m}", Amount())
        return budget.hours - used.hours


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def labs(tmp_path: Path) -> Callable[..., Lab]:
    return lambda *now_s, **accounts: Lab(tmp_path, *now_s, **accounts)


ENDING_HOURS = ENDING_S / HOUR_S

# One launch


def test_a_launch_reserves_its_longest_time_until_it_ends(lab: Lab) -> None:
    launched = lab.launcher.launch(order(hours=3))
    assert lab.machines() == {"one": "lab"}
    assert lab.left_hours() == pytest.approx(7 - ENDING_HOURS)
    lab.clock.sleep(HOUR_S / 2)
    assert lab.left_hours() == pytest.approx(7 - ENDING_HOURS)
    lab.launcher.terminate("one")
    assert (lab.machines(), lab.left_hours()) == ({}, 9.5)
    assert lab.journal.row("one").reason == "asked for"
    assert launched.row.quote.kind == "small"


def test_the_provider_is_told_what_was_ordered(lab: Lab) -> None:
    lab.launcher.launch(order(image="agent:2", tags={"who": "me"}))
    seen = lab.clouds["lab"].launch_seen
    assert (seen.token, seen.run_id, seen.device, seen.image) == ("one", "run-7", "client-one", "agent:2")
    assert (seen.environment, seen.superlink) == ({"MOTLEY_CLASS": "fast"}, "10.0.0.1:9092")
    assert seen.tags == {"who": "me", ACCOUNT_TAG: "lab", UNTIL_TAG: f"{NOON + HOUR_S:.0f}"}


def test_the_same_order_gives_the_same_machine(lab: Lab) -> None:
    first, second = lab.launcher.launch(order()), lab.launcher.launch(order())
    assert first.machine == second.machine
    assert len(lab.journal.rows()) == len(lab.machines()) == 1


def test_an_order_that_has_ended_is_not_carried_out_again(lab: Lab) -> None:
    lab.launcher.launch(order())
    lab.launcher.terminate("one")
    with pytest.raises(InputError, match="order 'one' was carried out and has ended; use another token"):
        lab.launcher.launch(order())
    assert lab.machines() == {}


def test_an_order_whose_machine_was_taken_away_says_so(lab: Lab) -> None:
    machine = lab.launcher.launch(order()).machine
    lab.clouds["lab"].terminate(machine.machine_id)
    lab.clock.sleep(HOUR_S / 4)
    with pytest.raises(InputError, match="its machine is gone; use another token"):
        lab.launcher.launch(order())
    assert (lab.machines(), lab.left_hours()) == ({}, 9.75)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": 0}, "0 hours: give a number above 0, at most 8784"),
        ({"hours": float("nan")}, "nan hours: give"),
        ({"hours": 9000}, "9000 hours: give"),
        ({"token": ""}, "'' is no token"),
        ({"token": "a b"}, "'a b' is no token"),
        ({"token": "x" * 59}, "is no token; use letters, digits and '-', at most 58"),
    ],
)
def test_orders_that_make_no_sense(lab: Lab, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        lab.launcher.launch(replace(order(), **changes))
    assert lab.journal.rows() == []


# Which account


def test_the_account_with_the_largest_share_left_is_taken(labs: Callable[..., Lab]) -> None:
    lab = labs(large=account(monthly={"hours": 100}), small=account(monthly={"hours": 10}))
    chosen = [lab.launcher.launch(order(str(number), hours=2 - ENDING_HOURS)).row.account for number in range(7)]
    assert chosen == ["large", "small", "large", "large", "large", "large", "large"]
    assert lab.launcher.launch(order("tight")).passed_over == {"small": "80% of its month is left, 'large' has 88%"}


def test_why_the_others_were_passed_over(labs: Callable[..., Lab]) -> None:
    lab = labs(
        over=account(eligibility={"evidence": "grant 7", "until": date(2026, 11, 9)}),
        asleep=account(shutdown={"nightly": "11:00-13:00"}),
        broken=account(),
        dear=account(monthly={"usd": 0.5}),
        bare=account(),
        other=account(provider="docker"),
        closed=account(),
        good=account(monthly={"hours": 1000}),
    )
    lab.clouds["broken"].problem = "no credentials; export X"
    lab.clouds["bare"].kinds = ()
    del lab.clouds["closed"]
    launched = lab.launcher.launch(order(provider="fake"))
    assert launched.row.account == "good"
    assert launched.passed_over == {
        "over": "its eligibility ends with 2026-11-09; renew it, and write its new evidence and day",
        "asleep": "it is the time of its nightly shutdown, 11:00-13:00",
        "broken": "no credentials; export X",
        "dear": "2026-11: $0.50 of $0.5 are left, $1.03 are needed",
        "bare": "nothing on offer meets the needs",
        "other": "the order is for provider 'fake'",
        "closed": "it can't be used; see: motley accounts list",
    }


def test_an_account_is_eligible_through_its_last_day_in_its_own_time_zone() -> None:
    until = account(eligibility={"evidence": "grant 7", "until": date(2026, 11, 10)})
    midnight = datetime(2026, 11, 11, tzinfo=BERLIN).timestamp()
    assert until.not_eligible(midnight - 1) == ""
    assert until.not_eligible(midnight) != ""
    assert account().not_eligible(4e9) == ""


def test_a_launch_must_end_before_the_eligibility_does(labs: Callable[..., Lab]) -> None:
    lab = labs(lab=account(eligibility={"evidence": "grant 7", "until": date(2026, 11, 10)}, monthly={"hours": 100}))
    with pytest.raises(NothingLaunched, match="its eligibility ends with 2026-11-10"):
        lab.launcher.launch(order(hours=12))
    lab.launcher.launch(order(hours=11))
    with pytest.raises(BudgetExceeded, match="its eligibility ends with 2026-11-10"):
        lab.launcher.extend("one", 1)
    assert lab.journal.row("one").run_s == 11 * HOUR_S


def test_a_machine_without_a_price_is_not_launched(lab: Lab) -> None:
    lab.clouds["lab"].usd_per_hour = float("nan")
    with pytest.raises(NothingLaunched, match="lab: 'small' has no price; give it one"):
        lab.launcher.launch(order())
    assert lab.journal.rows() == []


def test_only_the_account_that_the_order_names(labs: Callable[..., Lab]) -> None:
    lab = labs(one=account(), two=account())
    assert lab.launcher.launch(order(account="two")).row.account == "two"
    with pytest.raises(NothingLaunched, match="one: the order is for account 'three'; two: the order"):
        lab.launcher.launch(order("next", account="three"))


def test_where_one_kind_is_not_to_be_had_the_next_is_taken_and_then_the_next_account(labs: Callable[..., Lab]) -> None:
    lab = labs(one=account(monthly={"hours": 100}), two=account(monthly={"hours": 90}))
    lab.clouds["one"].kinds = ("small", "large")
    lab.clouds["one"].exhausted = {"small"}
    first = lab.launcher.launch(order())
    assert (first.row.account, first.row.quote.kind, first.row.token) == ("one", "large", "one-2")
    lab.clouds["one"].exhausted = {"small", "large"}
    second = lab.launcher.launch(order("next", account=""))
    assert (second.row.account, second.row.token) == ("two", "next")
    assert lab.machines() == {"one-2": "one", "next": "two"}
    failed = [row.reason for row in lab.journal.rows() if row.state is LaunchState.FAILED]
    assert failed == ["Unavailable: one: no 'small' is to be had"]


def test_nothing_launched_says_why_for_every_account(labs: Callable[..., Lab]) -> None:
    lab = labs(one=account(), two=account(monthly={"hours": 0.5}))
    lab.clouds["one"].exhausted = {"small"}
    with pytest.raises(NothingLaunched) as raised:
        lab.launcher.launch(order())
    assert str(raised.value) == (
        "nothing launched for 'client-one': one: one: no 'small' is to be had; "
        "two: 2026-11: 0.50 of 0.5 hours are left, 1.03 are needed"
    )
    assert lab.machines() == {}
    assert lab.left_hours("one") == 10


def test_a_month_that_is_nearly_used_up_is_warned_of(lab: Lab) -> None:
    assert lab.launcher.launch(order("a", hours=7)).warning == ""
    assert lab.launcher.launch(order("b", hours=1)).warning == "account 'lab' has 19% of 2026-11 left"


# Never more than the budget


def test_an_exhausted_budget_refuses_until_the_month_turns(lab: Lab) -> None:
    lab.launcher.launch(order("a", hours=10 - ENDING_HOURS))
    with pytest.raises(NothingLaunched, match=r"2026-11: 0\.00 of 10 hours are left"):
        lab.launcher.launch(order("b"))
    lab.clock.sleep(5 * HOUR_S)
    lab.launcher.terminate("a")
    lab.launcher.launch(order("b", hours=4))
    lab.launcher.terminate("b")
    lab.launcher.launch(order("c", hours=4))
    with pytest.raises(NothingLaunched):
        lab.launcher.launch(order("d"))
    lab.clock.sleep(4 * HOUR_S)
    lab.launcher.tend("run-7")
    lab.clock.sleep(21 * 86_400)
    assert lab.launcher.launch(order("e", hours=9)).row.state is LaunchState.LAUNCHED


def test_a_launch_over_the_turn_needs_room_in_both_months(labs: Callable[..., Lab]) -> None:
    turn = datetime(2026, 12, 1, tzinfo=BERLIN).timestamp()
    lab = labs(turn - 2 * HOUR_S)
    lab.launcher.launch(order("a", hours=9 - ENDING_HOURS))
    assert lab.used() == {"2026-11": Amount(2, 2), "2026-12": Amount(7, 7)}
    with pytest.raises(NothingLaunched, match=r"2026-12: 3\.00 of 10 hours are left, 4\.03 are needed"):
        lab.launcher.launch(order("b", hours=6))
    lab.launcher.launch(order("c", hours=5 - ENDING_HOURS))
    assert lab.used() == {"2026-11": Amount(4, 4), "2026-12": Amount(10, 10)}


def test_the_night_of_the_clock_change_has_the_hours_that_pass(labs: Callable[..., Lab]) -> None:
    """From 01:30 to 03:30 on the night when clocks go back, three hours pass."""
    lab = labs(datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN).timestamp())
    lab.launcher.launch(order(hours=4))
    lab.clock.sleep(datetime(2026, 10, 25, 3, 30, tzinfo=BERLIN).timestamp() - lab.clock.now_s())
    lab.launcher.terminate("one")
    assert lab.used() == {"2026-10": Amount(3, 3)}


def test_a_longer_run_is_reserved_or_refused(lab: Lab) -> None:
    lab.launcher.launch(order("a", hours=4))
    lab.launcher.launch(order("b", hours=4))
    assert lab.launcher.extend("a", 1).run_s == 5 * HOUR_S
    assert lab.left_hours() == pytest.approx(1 - 2 * ENDING_HOURS)
    with pytest.raises(BudgetExceeded, match=r"2026-11: 0\.93 of 10 hours are left, 1\.00 are needed"):
        lab.launcher.extend("a", 1)
    assert lab.journal.row("a").run_s == 5 * HOUR_S
    lab.launcher.terminate("b")
    assert lab.launcher.extend("a", 1).run_s == 6 * HOUR_S
    with pytest.raises(InputError, match="launch 'b' has ended"):
        lab.launcher.extend("b", 1)
    with pytest.raises(InputError, match="no launch 'z' in the journal"):
        lab.launcher.extend("z", 1)


def test_what_is_due_is_ended_before_it_costs_more_than_is_reserved(lab: Lab) -> None:
    lab.launcher.launch(order("a", hours=1))
    lab.launcher.launch(order("b", hours=2))
    lab.clock.sleep(HOUR_S - 1)
    assert lab.launcher.due() == []
    lab.clock.sleep(1)
    assert [(each.row.token, each.reason) for each in lab.launcher.due()] == [("a", "its 1.00 hours are over")]
    reserved = lab.journal.row("a").reserved_s
    assert [each.row.token for each in lab.launcher.tend("run-7")] == ["a"]
    row = lab.journal.row("a")
    assert row.ended_s is not None
    assert row.ended_s - row.intended_s <= reserved
    assert lab.machines() == {"b": "lab"}


def test_what_can_not_be_ended_stays_due_and_costs_what_it_costs(lab: Lab) -> None:
    lab.launcher.launch(order(hours=1))
    lab.clock.sleep(3 * HOUR_S)
    lab.clouds["lab"].problem = "no answer"
    assert lab.launcher.tend("run-7") == []
    assert [each.row.token for each in lab.launcher.due()] == ["one"]
    assert lab.left_hours() == 7
    lab.clouds["lab"].problem = ""
    assert [each.row.token for each in lab.launcher.tend("run-7")] == ["one"]


def test_scheduled_shutdown_ends_the_idle_of_ones_own_run_and_all_at_night(labs: Callable[..., Lab]) -> None:
    lab = labs(lab=account(shutdown={"idle": "15m", "nightly": "22:00-06:00"}, monthly={"hours": 100}))
    for token in ("busy", "idle", "new"):
        lab.launcher.launch(order(token, hours=20))
    lab.launcher.launch(order("other", hours=20, run_id="run-8"))
    lab.clock.sleep(900)
    worked = {"client-busy": NOON + 890.0, "client-idle": NOON - 50.0}
    assert lab.launcher.due("run-7") == []
    found = [(each.row.token, each.reason) for each in lab.launcher.due("run-7", worked)]
    assert found == [("idle", "idle for 15 minutes"), ("new", "idle for 15 minutes")]
    lab.clock.sleep(9 * HOUR_S)
    assert [each.row.token for each in lab.launcher.tend("run-7")] == []
    lab.clock.sleep(HOUR_S)
    assert sorted(each.row.token for each in lab.launcher.tend("run-7")) == ["busy", "idle", "new", "other"]


def wait(lab: Lab, hours: float) -> None:
    """Let time pass, with a caretaker that is there whenever something is due."""
    until_s = lab.clock.now_s() + hours * HOUR_S
    while lab.clock.now_s() < until_s:
        due_s = [row.due_s for row in lab.journal.live() if row.due_s > lab.clock.now_s()]
        lab.clock.sleep(min([*due_s, until_s]) - lab.clock.now_s())
        lab.launcher.tend("run-7")


@given(
    start=st.sampled_from(["2026-10-24 12:00", "2026-10-31 20:00", "2026-11-10 12:00"]),
    rounding=st.sampled_from([None, {"increment": "10m", "minimum": "30m"}]),
    steps=st.lists(st.tuples(st.sampled_from(["launch", "launch", "end", "extend", "wait"]), st.floats(0.1, 9))),
)
def test_whatever_happens_no_month_costs_more_than_its_budget(
    start: str, rounding: dict[str, str] | None, steps: list[tuple[str, float]]
) -> None:
    now_s = datetime.fromisoformat(start).replace(tzinfo=BERLIN).timestamp()
    with TemporaryDirectory() as directory:
        own = account(monthly={"hours": 20, "usd": 25}, stop_at=0.9, rounding=rounding)
        lab = Lab(Path(directory), now_s, lab=own)
        for number, (step, hours) in enumerate(steps):
            live = lab.journal.live()
            with suppress(NothingLaunched, BudgetExceeded):
                if step == "launch":
                    lab.launcher.launch(order(f"t{number}", hours=hours))
                elif step == "wait":
                    wait(lab, hours)
                elif live and step == "end":
                    lab.launcher.terminate(live[0].token)
                elif live:
                    lab.launcher.extend(live[0].token, hours)
            for month in lab.used().values():
                assert month.hours <= 18 * (1 + 1e-8)
                assert month.usd <= 22.5 * (1 + 1e-8)


def test_a_machine_that_costs_more_than_quoted_is_ended_at_once(lab: Lab) -> None:
    cloud = lab.clouds["lab"]
    quoted = cloud.quote(NEEDS)
    cloud.quote = lambda needs, spot=False: quoted  # type: ignore[method-assign]
    cloud.usd_per_hour = 1.5
    with pytest.raises(NothingLaunched, match=r"the machine costs \$1\.5 an hour, not \$1 as quoted"):
        lab.launcher.launch(order())
    assert lab.machines() == {}
    assert lab.states() == {"one": LaunchState.FAILED}


def launch_many(directory: Path, names: list[str], results: Any) -> None:
    lab = Lab(directory)
    for name in names:
        try:
            lab.launcher.launch(order(name, hours=1 - ENDING_HOURS))
            results.put(name)
        except NothingLaunched:
            results.put("")


def test_processes_that_launch_at_one_time_never_exceed_the_budget(tmp_path: Path) -> None:
    """Four processes want 6 machines of an hour each, 10 hours are there."""
    Lab(tmp_path)
    results = FORK.SimpleQueue()
    names = [[f"{who}{number}" for number in range(6)] for who in "abcd"]
    workers = [FORK.Process(target=launch_many, args=(tmp_path, each, results)) for each in names]
    for worker in workers:
        worker.start()
    got = [results.get() for _ in range(24)]
    for worker in workers:
        worker.join()
    lab = Lab(tmp_path)
    assert sum(map(bool, got)) == 10
    assert set(lab.machines()) == {name for name in got if name}
    assert lab.left_hours() == pytest.approx(0, abs=1e-9)


def test_threads_that_order_one_thing_at_one_time_get_one_machine(lab: Lab) -> None:
    found: list[str] = []
    start = threading.Barrier(6)

    def launch() -> None:
        start.wait()
        found.append(lab.launcher.launch(order()).machine.machine_id)

    threads = [threading.Thread(target=launch) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == ["m-one"] * 6
    assert len(lab.journal.rows()) == 1


# Failures


def test_a_lost_reply_leaves_neither_machine_nor_reservation(lab: Lab) -> None:
    lab.clouds["lab"].lost = True
    with pytest.raises(NothingLaunched, match="the connection was lost"):
        lab.launcher.launch(order())
    assert lab.machines() == {}
    assert lab.states() == {"one": LaunchState.FAILED}
    assert lab.left_hours() == 10


def test_what_ran_for_a_while_before_its_launch_failed_counts_and_the_next_account_takes_over(
    labs: Callable[..., Lab],
) -> None:
    lab = labs(one=account(monthly={"hours": 100}), two=account())
    lab.clouds["one"].lost = True
    lab.clouds["one"].at = lambda step: lab.clock.sleep(360) if step == "launch:done" else None
    launched = lab.launcher.launch(order(provider="fake"))
    assert (launched.row.account, launched.passed_over) == ("two", {"one": "one: the connection was lost"})
    assert lab.machines() == {"one-2": "two"}
    assert lab.left_hours("one") == pytest.approx(99.9)


def test_an_attempt_that_was_cut_short_long_ago_is_not_gone_on_with(lab: Lab) -> None:
    """Its time is over: a machine launched for it now would have to end at once."""
    lab.clouds["lab"].launch(_request(lab, "one"))
    lab.journal.reserve(_row(lab, "one"), lab.accounts["lab"].budget)
    lab.clock.sleep(HOUR_S)
    launched = lab.launcher.launch(order())
    assert (launched.row.token, launched.row.intended_s) == ("one-2", NOON + HOUR_S)
    assert lab.machines() == {"one-2": "lab"}
    assert lab.left_hours() == pytest.approx(10 - 1 - 1 - ENDING_HOURS)


def test_an_attempt_that_was_cut_short_and_fails_again_is_passed_over(lab: Lab) -> None:
    lab.journal.reserve(_row(lab, "one"), lab.accounts["lab"].budget)
    lab.clouds["lab"].exhausted = {"small"}
    with pytest.raises(NothingLaunched, match="no 'small' is to be had"):
        lab.launcher.launch(order())
    assert lab.states() == {"one": LaunchState.FAILED, "one-2": LaunchState.FAILED}


def _row(lab: Lab, token: str) -> LaunchRow:
    quote, billing = lab.clouds["lab"].quote(NEEDS)[0], lab.accounts["lab"].billing
    return LaunchRow(token, token, "lab", "run-7", f"client-{token}", quote, HOUR_S, HOUR_S + ENDING_S, billing, NOON)


def _request(lab: Lab, token: str) -> Launch:
    return Launch(token, lab.clouds["lab"].quote(NEEDS)[0], "run-7", f"client-{token}", {}, "10.0.0.1:9092")


def test_where_rolling_back_fails_too_the_reservation_stays_until_it_is_settled(lab: Lab) -> None:
    cloud = lab.clouds["lab"]

    def cut(step: str) -> None:
        if step == "launch:done":
            cloud.problem, cloud.lost = "cut off", True

    cloud.at = cut
    with pytest.raises(NothingLaunched):
        lab.launcher.launch(order())
    assert lab.left_hours() == pytest.approx(9 - ENDING_HOURS)
    assert reconcile(lab.launcher, NOON + GRACE_S) == ([], {"lab": "lab: cut off"})
    cloud.problem, cloud.lost, cloud.at = "", False, lambda step: None
    assert [each.what for each in reconcile(lab.launcher, NOON + GRACE_S)[0]] == ["machine without a record: recorded"]
    assert lab.machines() == {"one": "lab"}
    lab.launcher.terminate("one")
    assert lab.machines() == {}


def test_an_interrupt_rolls_back_and_goes_on_upwards(lab: Lab) -> None:
    def interrupt(step: str) -> None:
        if step == "launch:done":
            raise KeyboardInterrupt

    lab.clouds["lab"].at = interrupt
    with pytest.raises(KeyboardInterrupt):
        lab.launcher.launch(order())
    assert lab.machines() == {}
    assert lab.left_hours() == 10


def test_a_launch_that_was_given_up_while_it_went_on_ends_its_machine(lab: Lab) -> None:
    def give_up(step: str) -> None:
        if step == "launch:done":
            lab.journal.failed("one", NOON, "given up")

    lab.clouds["lab"].at = give_up
    with pytest.raises(NothingLaunched, match="the launch was given up while it went on"):
        lab.launcher.launch(order())
    assert (lab.machines(), lab.states()) == ({}, {"one": LaunchState.FAILED})


def test_what_another_caller_has_recorded_is_not_rolled_back(lab: Lab) -> None:
    """Two ask for one order; the reply to one of them is lost."""

    def recorded_by_the_other(step: str) -> None:
        if step == "launch:done":
            lab.journal.launched("one", "m-one", NOON)

    lab.clouds["lab"].at, lab.clouds["lab"].lost = recorded_by_the_other, True
    with pytest.raises(NothingLaunched, match="the connection was lost"):
        lab.launcher.launch(order())
    assert (lab.machines(), lab.states()) == ({"one": "lab"}, {"one": LaunchState.LAUNCHED})


def test_a_failed_order_can_be_tried_again_with_another_token_at_the_provider(lab: Lab) -> None:
    lab.clouds["lab"].exhausted = {"small"}
    with pytest.raises(NothingLaunched):
        lab.launcher.launch(order())
    lab.clouds["lab"].exhausted = set()
    assert lab.launcher.launch(order()).machine.token == "one-2"
    assert lab.launcher.launch(order()).machine.token == "one-2"


def test_a_launch_of_an_account_that_the_file_lacks_names_it(tmp_path: Path) -> None:
    Lab(tmp_path, old=account()).launcher.launch(order())
    lab = Lab(tmp_path, new=account())
    with pytest.raises(InputError, match="launch 'one' is of account 'old', which the accounts file lacks"):
        lab.launcher.terminate("one")


# Kills. A real process is killed at each step; then what it left is settled.

LAUNCH_STEPS = (
    "reserve:begun",
    "reserve:writing",
    "reserve:done",
    "launch:begun",
    "launch:done",
    "launched:begun",
    "launched:writing",
    "launched:done",
)
END_STEPS = ("terminate:begun", "terminate:done", "ended:begun", "ended:writing", "ended:done")


def die_at(wanted: str) -> Callable[[str], None]:
    def at(step: str) -> None:
        if step == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def launch_and_end(directory: Path, step: str) -> None:
    """Launch one and end it, but die at `step`; 'writing' is between the change of a row and its commit."""
    at = die_at(step)
    lab = Lab(directory, at=at)
    write = motley.launches.put

    def watched(name: str) -> Any:
        real = getattr(lab.journal, name)

        def call(*arguments: Any) -> Any:
            at(f"{name}:begun")

            def put(*values: Any) -> None:
                write(*values)
                at(f"{name}:writing")

            motley.launches.put = put
            result = real(*arguments)
            at(f"{name}:done")
            return result

        return call

    for name in ("reserve", "launched", "ended"):
        setattr(lab.journal, name, watched(name))
    lab.launcher.launch(order())
    lab.launcher.terminate("one")


@pytest.fixture(params=[*LAUNCH_STEPS, *END_STEPS])
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """What a process left behind that was killed at a step of a launch or of its end."""
    worker = FORK.Process(target=launch_and_end, args=(tmp_path, request.param))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    return Lab(tmp_path, NOON + GRACE_S)


def test_after_a_kill_at_any_step_every_machine_has_a_row_and_every_reservation_a_machine(killed: Lab) -> None:
    reconcile(killed.launcher, killed.clock.now_s())
    live = {row.token: row.machine_id for row in killed.journal.live()}
    assert live == {each.token: each.machine_id for each in killed.clouds["lab"].list()}
    assert all(row.state is not LaunchState.INTENDED for row in killed.journal.rows())
    reserved_hours = sum(row.reserved_s for row in killed.journal.live()) / HOUR_S
    ended = [row for row in killed.journal.rows() if row.state is LaunchState.ENDED]
    ended_hours = sum((row.ended_s or 0) - row.intended_s for row in ended) / HOUR_S
    assert len(killed.journal.rows()) == len(live) + len(ended) + list(killed.states().values()).count("failed")
    assert killed.left_hours() == pytest.approx(10 - reserved_hours - ended_hours)
    assert reconcile(killed.launcher, killed.clock.now_s()) == ([], {})


def test_after_a_kill_at_any_step_a_sweep_leaves_nothing(killed: Lab) -> None:
    now_s = killed.clock.now_s()
    sweep(killed.launcher, live_runs=set(), now_s=now_s, yes=True)
    reconcile(killed.launcher, now_s)
    assert killed.machines() == {}
    assert killed.journal.live() == []
    assert killed.left_hours() >= 10 - (GRACE_S + 1) / HOUR_S


def test_after_a_kill_at_any_step_the_same_order_gives_one_machine_at_most(killed: Lab) -> None:
    try:
        token = killed.launcher.launch(order()).machine.token
    except InputError:  # the order had been carried out and ended
        reconcile(killed.launcher, killed.clock.now_s())
        assert killed.machines() == {}
    else:
        assert set(killed.machines()) == {token}
    assert len(killed.journal.live()) == len(killed.machines())


def test_kills_leave_what_the_step_lets_one_expect(tmp_path: Path) -> None:
    """The steps are where they are said to be: else the tests above would test nothing."""
    left = {}
    for number, step in enumerate((*LAUNCH_STEPS, *END_STEPS)):
        directory = tmp_path / str(number)
        worker = FORK.Process(target=launch_and_end, args=(directory, step))
        worker.start()
        worker.join()
        lab = Lab(directory)
        left[step] = (*(state.value for state in lab.states().values()), len(lab.machines()))
    assert left == {
        "reserve:begun": (0,),
        "reserve:writing": (0,),
        "reserve:done": ("intended", 0),
        "launch:begun": ("intended", 0),
        "launch:done": ("intended", 1),
        "launched:begun": ("intended", 1),
        "launched:writing": ("intended", 1),
        "launched:done": ("launched", 1),
        "terminate:begun": ("launched", 1),
        "terminate:done": ("launched", 0),
        "ended:begun": ("launched", 0),
        "ended:writing": ("launched", 0),
        "ended:done": ("ended", 0),
    }


# Settling and sweeping


def test_an_intent_that_is_young_is_left_to_its_launcher(lab: Lab) -> None:
    lab.journal.reserve(_row(lab, "one"), lab.accounts["lab"].budget)
    assert reconcile(lab.launcher, NOON + GRACE_S - 1) == ([], {})
    assert [each.what for each in reconcile(lab.launcher, NOON + GRACE_S)[0]] == [
        "intent without a machine: its reservation is free"
    ]


def test_a_machine_of_a_launch_that_was_given_up_is_ended_and_counts(lab: Lab) -> None:
    """Its provider was so slow that the intent had been given up."""
    lab.launcher.launch(order())
    lab.journal._put(replace(lab.journal.row("one"), state=LaunchState.FAILED, machine_id="", ended_s=NOON))
    assert lab.left_hours() == 10
    reconcile(lab.launcher, NOON + HOUR_S / 2)
    assert (lab.machines(), lab.left_hours()) == ({}, 9.5)


def test_a_machine_that_the_list_does_not_show_yet_is_not_given_up(lab: Lab) -> None:
    lab.launcher.launch(order())
    lab.clouds["lab"].list = lambda run_id=None: []  # type: ignore[method-assign]
    assert reconcile(lab.launcher, NOON + GRACE_S) == ([], {})
    assert lab.states() == {"one": LaunchState.LAUNCHED}


def test_a_sweep_looks_before_it_ends_and_spares_live_runs(lab: Lab) -> None:
    lab.launcher.launch(order("a"))
    lab.launcher.launch(order("b", run_id="run-8"))
    looked = sweep(lab.launcher, {"run-8"}, NOON)
    assert [(each.machine.token, each.reason) for each in looked.left] == [("a", "run 'run-7' is over")]
    assert (looked.ended, set(lab.machines())) == ((), {"a", "b"})
    swept = sweep(lab.launcher, {"run-8"}, NOON, yes=True)
    assert ([each.machine.token for each in swept.ended], swept.left) == (["a"], ())
    assert lab.machines() == {"b": "lab"}
    assert lab.journal.row("a").reason == "swept: run 'run-7' is over"


def test_a_run_lives_as_long_as_its_server_says_so(lab: Lab) -> None:
    lab.launcher.tend("run-7")
    lab.journal.see_run("run-8", NOON + RUN_LEASE_S - 1)
    assert lab.journal.live_runs(NOON + RUN_LEASE_S - 1) == {"run-7", "run-8"}
    assert lab.journal.live_runs(NOON + RUN_LEASE_S) == {"run-8"}
    lab.journal.end_run("run-8")
    assert lab.journal.live_runs(NOON + RUN_LEASE_S) == set()


def test_a_machine_that_the_journal_does_not_know_is_ended_only_when_asked_for_and_counts(
    lab: Lab, tmp_path: Path
) -> None:
    elsewhere = Launches(tmp_path / "elsewhere" / "launches.db")
    Launcher(lab.accounts, lab.clouds, elsewhere, lab.clock).launch(order())
    lab.clock.sleep(HOUR_S / 2)
    now_s = lab.clock.now_s()
    assert [each.known for each in sweep(lab.launcher, set(), now_s, yes=True).left] == [False]
    assert lab.machines() == {"one": "lab"}
    assert len(sweep(lab.launcher, set(), now_s, yes=True, unknown=True).ended) == 1
    assert (lab.machines(), lab.left_hours()) == ({}, 9.5)


def test_a_row_that_can_not_be_settled_does_not_keep_the_others_from_it(lab: Lab) -> None:
    for token in ("a", "b"):
        lab.launcher.launch(order(token))
        lab.journal._put(replace(lab.journal.row(token), state=LaunchState.FAILED, machine_id="", ended_s=NOON))
    cloud = lab.clouds["lab"]
    end = cloud.terminate

    def refuse(machine_id: str) -> None:
        if machine_id == "m-a":
            raise ProviderError("lab: not now")
        end(machine_id)

    cloud.terminate = refuse  # type: ignore[method-assign]
    settled, problems = reconcile(lab.launcher, NOON)
    assert ([each.token for each in settled], problems) == (["b"], {"a": "lab: not now"})
    assert lab.machines() == {"a": "lab"}
    assert sweep(lab.launcher, set(), NOON, yes=True).problems == {"m-a": "lab: not now"}


def test_two_accounts_of_one_cloud_account_do_not_sweep_each_other(lab: Lab, tmp_path: Path) -> None:
    lab.launcher.launch(order())
    accounts = {"lab": account(), "twin": account()}
    twins = Launcher(accounts, {name: lab.clouds["lab"] for name in accounts}, lab.journal, lab.clock)
    assert [each.account for each in find_strays(twins, set())[0]] == ["lab"]
    assert reconcile(twins, NOON + GRACE_S) == ([], {})


def test_an_account_that_does_not_answer_is_named_and_the_others_are_swept(labs: Callable[..., Lab]) -> None:
    lab = labs(one=account(), two=account())
    lab.launcher.launch(order("a", account="one"))
    lab.launcher.launch(order("b", account="two"))
    lab.clouds["one"].problem = "no answer"
    swept = sweep(lab.launcher, set(), NOON, yes=True)
    assert ([each.machine.token for each in swept.ended], swept.problems) == (["b"], {"one": "one: no answer"})
