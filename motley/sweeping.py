"""Bring journal and providers together: what was killed half-way, and machines that no live run owns.

`reconcile` settles rows; it touches only machines of its own journal, so a server does it at its start.
`find_strays` and `sweep` look at all that carries Motley's tags; people do that, with `motley providers sweep`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from motley.accounts import Account
from motley.launcher import GONE, Launcher
from motley.launches import LIVE, Launches, LaunchRow, LaunchState
from motley.providers.base import Machine, Provider, ProviderError, Quote, State

GRACE_S = 600.0
"""An intent this old has been given up by whoever wrote it, and a provider's list has what was launched."""


@dataclass(frozen=True)
class Settled:
    """What was done about one row."""

    token: str
    account: str
    what: str


@dataclass(frozen=True)
class Stray:
    """A machine that no live run owns."""

    account: str
    machine: Machine
    reason: str
    known: bool
    """It is in this journal; else another journal may know it."""


@dataclass(frozen=True)
class Swept:
    """What a sweep found and did."""

    ended: tuple[Stray, ...]
    left: tuple[Stray, ...]
    problems: Mapping[str, str]
    """For each account that could not be asked, or each machine that could not be ended, why."""


def reconcile(launcher: Launcher, now_s: float, grace_s: float = GRACE_S) -> tuple[list[Settled], dict[str, str]]:
    """Make every row of the journal true: launched ones have a machine, others have none.

    A server calls it at its start and every ten minutes. grace_s: intents younger than this are left to whoever is
    at work on them. Returns what was done, and for each account or row that could not be settled, why; those
    stay as they are, with their reservations.
    """
    settled: list[Settled] = []
    problems: dict[str, str] = {}
    for name, provider in launcher.providers.items():
        try:
            # The list first: whatever it holds had a row before.
            machines = {each.token: each for each in provider.list() if _lives(each)}
        except ProviderError as error:
            problems[name] = str(error)
            continue
        for row in (each for each in launcher.launches.rows() if each.account == name):
            try:
                what = _settle(launcher.launches, provider, row, machines.get(row.token), now_s, grace_s)
            except ProviderError as error:
                problems[row.token] = str(error)
            else:
                settled.extend([Settled(row.token, name, what)] if what else [])
    return settled, problems


def _settle(
    launches: Launches, provider: Provider, row: LaunchRow, machine: Machine | None, now_s: float, grace_s: float
) -> str:
    """What was done about `row`, in words; empty where it was true. Raises ProviderError."""
    if row.state is LaunchState.INTENDED and now_s - row.intended_s >= grace_s:
        if machine is None:
            launches.failed(row.token, now_s, "its launcher stopped before there was a machine")
            return "intent without a machine: its reservation is free"
        launches.launched(row.token, machine.machine_id, now_s)
        return "machine without a record: recorded"
    if row.state is LaunchState.LAUNCHED and machine is None and not _is_there(provider, row.machine_id):
        launches.ended(row.token, row.machine_id, now_s, GONE)
        return "record without a machine: ended"
    if row.state not in LIVE and machine is not None:
        provider.terminate(machine.machine_id)
        launches.ended(row.token, machine.machine_id, now_s, row.reason)
        return "machine of a launch that had ended: ended"
    return ""


def find_strays(launcher: Launcher, live_runs: Collection[str]) -> tuple[list[Stray], dict[str, str]]:
    """The machines that no live run owns, and for each account that could not be asked, why."""
    strays: list[Stray] = []
    problems: dict[str, str] = {}
    for name, provider in launcher.providers.items():
        try:
            machines = [each for each in provider.list() if _lives(each)]
        except ProviderError as error:
            problems[name] = str(error)
        else:
            strays.extend(_strays_of(launcher, name, machines, live_runs))
    return strays, problems


def _strays_of(
    launcher: Launcher, account: str, machines: Collection[Machine], live_runs: Collection[str]
) -> Iterator[Stray]:
    rows = {row.token: row for row in launcher.launches.rows()}
    for machine in machines:
        row = rows.get(machine.token)
        if row is not None and row.account != account and row.account in launcher.providers:
            continue  # two accounts of one cloud account: the other one has it
        if row is not None and row.state not in LIVE:
            yield Stray(account, machine, f"its launch has {row.state.value}", True)
        elif machine.run_id not in live_runs:
            yield Stray(account, machine, f"run '{machine.run_id}' is over", row is not None)


def sweep(
    launcher: Launcher, live_runs: Collection[str], now_s: float, yes: bool = False, unknown: bool = False
) -> Swept:
    """End the machines that no live run owns; whatever is ended is entered in the journal, so that it counts.

    yes: really; else only look. unknown: those of other journals, too.
    """
    strays, problems = find_strays(launcher, live_runs)
    ended: list[Stray] = []
    left: list[Stray] = []
    for stray in strays:
        try:
            done = yes and (stray.known or unknown)
            if done:
                _end(launcher, stray, now_s)
        except ProviderError as error:
            done, problems[stray.machine.machine_id] = False, str(error)
        (ended if done else left).append(stray)
    return Swept(tuple(ended), tuple(left), problems)


def _end(launcher: Launcher, stray: Stray, now_s: float) -> None:
    """Enter it first: a kill in between leaves a row to be settled, not a machine that never counted."""
    machine, launches = stray.machine, launcher.launches
    if not stray.known:
        launches.adopt(_row_of(stray, launcher.accounts[stray.account], now_s))
    launcher.providers[stray.account].terminate(machine.machine_id)
    launches.ended(machine.token, machine.machine_id, now_s, f"swept: {stray.reason}")


def _row_of(stray: Stray, account: Account, now_s: float) -> LaunchRow:
    """What another journal has, as far as the provider knows it."""
    machine = stray.machine
    ran_s = max(0.0, now_s - machine.launched_s)
    return LaunchRow(
        token=machine.token,
        order_token=machine.token,
        account=stray.account,
        run_id=machine.run_id,
        device=machine.device,
        quote=Quote(machine.provider, machine.kind, machine.place, 0.0, 0, machine.usd_per_hour, machine.spot),
        run_s=ran_s,
        reserved_s=ran_s,
        billing=account.billing,
        intended_s=machine.launched_s,
        state=LaunchState.LAUNCHED,
        machine_id=machine.machine_id,
        launched_s=machine.launched_s,
    )


def _lives(machine: Machine) -> bool:
    return machine.state in (State.STARTING, State.RUNNING)


def _is_there(provider: Provider, machine_id: str) -> bool:
    machine = provider.status(machine_id)
    return machine is not None and _lives(machine)
