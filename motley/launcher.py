"""Launch machines on one's accounts, within their budgets, so that nothing is ever unaccounted for.

A launch takes four steps: the budget is reserved and the intent written (one transaction); the provider is
asked; the machine is recorded; the reservation ends with the machine. Whoever is killed between two of
them leaves a row in the journal, which `motley.sweeping` brings together with what the providers list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from motley.accounts import Account
from motley.budgets import HOUR_S, Level, Standing, order_by_share_left, standing
from motley.clock import Clock
from motley.errors import InputError, MotleyError
from motley.launches import LIVE, BudgetExceeded, Launches, LaunchRow, LaunchState
from motley.providers.base import Launch, Machine, Needs, Provider, ProviderError, Quote, State, Unavailable
from motley.shutdown import should_stop

ENDING_S = 120.0
"""Reserved on top of a machine's time, for the time it takes to end it."""

MOST_HOURS = 366 * 24.0
"""Of one order, and of one extension."""

QUOTES_TRIED = 3
"""Of one account, the cheapest first, where a kind of machine is not to be had."""

ACCOUNT_TAG, UNTIL_TAG = "motley-account", "motley-until"
"""On every machine: whose it is, and when it is to end unless it is extended, in seconds since the epoch."""


GONE = "gone by itself"
"""Why a launch ended that nobody here has ended: a spot machine that was taken away, or one that failed."""


class NothingLaunched(MotleyError):
    """No account could give what was ordered; says for each why."""


@dataclass(frozen=True)
class Order:
    """One machine that is wanted. Equal tokens mean one and the same, however often it is ordered."""

    token: str
    """Letters, digits and '-', at most 58."""
    needs: Needs
    run_id: str
    device: str
    environment: Mapping[str, str]
    superlink: str
    hours: float
    """The longest it may run, unless it is extended."""
    spot: bool = False
    image: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    """Only accounts of this provider; empty for any."""
    account: str = ""
    """Only this account; empty for any."""


@dataclass(frozen=True)
class Launched:
    """What came of an order."""

    machine: Machine
    row: LaunchRow
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """For every other account, why; empty where the machine was there already."""
    warning: str = ""
    """Where the account's month is nearly used up."""


@dataclass(frozen=True)
class Due:
    """A machine that must be ended now, and why."""

    row: LaunchRow
    reason: str


class Launcher:
    """Launches and ends machines. Several may share a journal and accounts, in one process or in many.

    providers: for each account that can be used, its provider. Accounts without one are passed over.
    """

    def __init__(
        self, accounts: Mapping[str, Account], providers: Mapping[str, Provider], launches: Launches, clock: Clock
    ) -> None:
        self.accounts, self.providers, self.launches, self._clock = accounts, providers, launches, clock

    def launch(self, order: Order) -> Launched:
        """Start what is ordered, on the account with the largest share of its month left that has it.

        Returns the machine that is there already where the order was carried out before. Raises
        NothingLaunched where no account can, InputError for an order that makes no sense.
        """
        _check(order)
        self.launches.see_run(order.run_id, self._clock.now_s())
        passed_over: dict[str, str] = {}
        if known := self._resumed(order, passed_over):
            return known
        offers = self._offers(order, passed_over)
        before = {name: self._standing(name) for name in offers}
        for name in order_by_share_left(before):
            try:
                machine, row = self._first_of(offers[name], name, order)
            except (BudgetExceeded, ProviderError) as error:
                passed_over[name] = str(error)
            else:
                passed_over |= _not_needed(name, before, passed_over)
                return Launched(machine, row, passed_over, self._warning(row.account))
        raise NothingLaunched(
            f"nothing launched for '{order.device}': {_in_words(passed_over) or 'there is no account'}"
        )

    def terminate(self, token: str, reason: str = "asked for") -> None:
        """End a machine and free its reservation; does nothing where it has ended. Raises ProviderError."""
        row = self.launches.row(token)
        if row.state in LIVE:
            self._end(row, reason)

    def extend(self, token: str, hours: float) -> LaunchRow:
        """Let a machine run longer. Raises BudgetExceeded where that does not fit; it is then due as before."""
        _check_hours(hours)
        row = self.launches.row(token)
        account = self._account(row)
        if reason := account.not_eligible(row.due_s + hours * HOUR_S):
            raise BudgetExceeded(reason)
        return self.launches.extend(token, hours * HOUR_S, account.budget, self._clock.now_s())

    def due(self, run_id: str = "", last_busy_s: Mapping[str, float] | None = None) -> list[Due]:
        """The machines that must be ended now: their time is over, or a scheduled shutdown says so.

        last_busy_s: for each device of the run `run_id`, when it had work last; one that is not named has had
        none yet. None where that is not known, and then nothing counts as idle.
        """
        found = []
        for row in self.launches.live():
            knows = last_busy_s is not None and row.run_id == run_id
            busy_s = (last_busy_s or {}).get(row.device) if knows else self._clock.now_s()
            if reason := self._why_due(row, busy_s):
                found.append(Due(row, reason))
        return found

    def tend(self, run_id: str, last_busy_s: Mapping[str, float] | None = None) -> list[Due]:
        """Call this each minute while a run lives: it says so, and ends what is due, of any run.

        Returns what was ended. What can't be ended now stays due, with its reservation. What is gone by itself is
        seen by `motley.sweeping.reconcile`.
        """
        self.launches.see_run(run_id, self._clock.now_s())
        return [due for due in self.due(run_id, last_busy_s) if self._ended(due)]

    def _resumed(self, order: Order, passed_over: dict[str, str]) -> Launched | None:
        """What there is of an order already, or comes of an attempt that was cut short; None where nothing does."""
        for row in self.launches.of_order(order.token):
            if row.state is LaunchState.INTENDED and self._clock.now_s() >= row.due_s:
                self._end(row, "its time was over before it was recorded")
            elif row.state in LIVE:
                try:
                    return Launched(self._start(order, row), self.launches.row(row.token))
                except ProviderError as error:
                    passed_over[row.account] = str(error)
        return None

    def _ended(self, due: Due) -> bool:
        try:
            self._end(due.row, due.reason)
        except MotleyError:
            return False
        return True

    def _why_due(self, row: LaunchRow, last_busy_s: float | None) -> str:
        now_s = self._clock.now_s()
        if now_s >= row.due_s:
            return f"its {row.run_s / HOUR_S:.2f} hours are over"
        account = self.accounts.get(row.account)
        if account is None or row.state is not LaunchState.LAUNCHED:
            return ""
        return should_stop(account.stops, row.launched_s or row.intended_s, now_s, last_busy_s)

    def _account(self, row: LaunchRow) -> Account:
        if row.account not in self.accounts:
            raise InputError(f"launch '{row.token}' is of account '{row.account}', which the accounts file lacks")
        return self.accounts[row.account]

    def _provider(self, row: LaunchRow) -> Provider:
        self._account(row)
        if row.account not in self.providers:
            raise InputError(f"launch '{row.token}': account '{row.account}' can't be used; see: motley accounts list")
        return self.providers[row.account]

    def _offers(self, order: Order, passed_over: dict[str, str]) -> dict[str, Sequence[Quote]]:
        """For each account that may serve an order what it has, the cheapest first; the others are passed over."""
        offers: dict[str, Sequence[Quote]] = {}
        for name, account in self.accounts.items():
            try:
                reason = self._why_not(name, account, order)
                quotes = [] if reason else self.providers[name].quote(order.needs, order.spot)
            except ProviderError as error:
                reason, quotes = str(error), []
            if quotes:
                offers[name] = quotes[:QUOTES_TRIED]
            else:
                passed_over[name] = reason or "nothing on offer meets the needs"
        return offers

    def _why_not(self, name: str, account: Account, order: Order) -> str:
        """Why an account is not asked, in words."""
        now_s = self._clock.now_s()
        if order.account not in ("", name):
            return f"the order is for account '{order.account}'"
        if order.provider not in ("", account.provider):
            return f"the order is for provider '{order.provider}'"
        if reason := account.not_eligible(now_s + order.hours * HOUR_S):
            return reason
        if account.stops.nightly is not None and account.stops.nightly.holds(now_s, account.zone):
            return f"it is the time of its nightly shutdown, {account.stops.nightly}"
        if name not in self.providers:
            return "it can't be used; see: motley accounts list"
        return self.providers[name].available()

    def _standing(self, name: str) -> Standing:
        now_s = self._clock.now_s()
        return standing(self.accounts[name].budget, self.launches.charges(name, now_s), now_s)

    def _warning(self, name: str) -> str:
        now = self._standing(name)
        return "" if now.level is Level.OK else f"account '{name}' has {now.share_left:.0%} of {now.month} left"

    def _first_of(self, quotes: Sequence[Quote], account: str, order: Order) -> tuple[Machine, LaunchRow]:
        """Reserve and launch the first of `quotes` that is to be had. Raises BudgetExceeded or ProviderError."""
        last = Unavailable("nothing on offer meets the needs")
        for quote in quotes:
            row = self.launches.reserve(self._intent(quote, account, order), self.accounts[account].budget)
            try:
                return self._start(order, row), self.launches.row(row.token)
            except Unavailable as error:
                last = error
        raise last

    def _intent(self, quote: Quote, account: str, order: Order) -> LaunchRow:
        if not 0 <= quote.usd_per_hour < math.inf:
            raise ProviderError(f"{quote.provider}: '{quote.kind}' has no price; give it one in the options")
        run_s, billing = order.hours * HOUR_S, self.accounts[account].billing
        reserved_s, now_s = run_s + ENDING_S, self._clock.now_s()
        return LaunchRow(
            order.token, order.token, account, order.run_id, order.device, quote, run_s, reserved_s, billing, now_s
        )

    def _start(self, order: Order, row: LaunchRow) -> Machine:
        """Ask the provider, record the machine. On any failure nothing stays, neither machine nor reservation."""
        provider = self._provider(row)
        if row.state is LaunchState.LAUNCHED:
            return self._existing(provider, row)
        try:
            machine = provider.launch(_launch(order, row))
            if not machine.usd_per_hour <= row.quote.usd_per_hour * (1 + 1e-9):
                price = f"${machine.usd_per_hour:g} an hour, not ${row.quote.usd_per_hour:g} as quoted"
                raise ProviderError(f"{provider.name}: the machine costs {price}")
            if not self.launches.launched(row.token, machine.machine_id, self._clock.now_s()):
                raise ProviderError(f"{provider.name}: the launch was given up while it went on")
        except BaseException as error:
            self._roll_back(provider, row, f"{type(error).__name__}: {error}")
            raise
        return machine

    def _existing(self, provider: Provider, row: LaunchRow) -> Machine:
        """The machine of an order that was carried out before. Raises InputError where it is gone."""
        machine = provider.status(row.machine_id)
        if machine is None or machine.state is State.GONE:
            self.launches.ended(row.token, row.machine_id, self._clock.now_s(), GONE)
            raise InputError(f"order '{row.order_token}' was carried out, and its machine is gone; use another token")
        return machine

    def _roll_back(self, provider: Provider, row: LaunchRow, reason: str) -> None:
        """End what a failed launch may have left, unless another caller has it.

        Where that fails, too, the row stays, and what it reserves.
        """
        if self.launches.row(row.token).state is LaunchState.LAUNCHED:
            return
        try:
            left = [each for each in provider.list(row.run_id) if each.token == row.token]
            for machine in left:
                provider.terminate(machine.machine_id)
        except ProviderError:
            return
        if left:
            self.launches.ended(row.token, left[0].machine_id, self._clock.now_s(), reason)
        else:
            self.launches.failed(row.token, self._clock.now_s(), reason)

    def _end(self, row: LaunchRow, reason: str) -> None:
        provider = self._provider(row)
        if row.machine_id:
            provider.terminate(row.machine_id)
            self.launches.ended(row.token, row.machine_id, self._clock.now_s(), reason)
        else:
            self._roll_back(provider, row, reason)


def _not_needed(chosen: str, before: Mapping[str, Standing], known: Mapping[str, str]) -> dict[str, str]:
    """Why the accounts that were not asked were not: another one has more left."""
    most = f"'{chosen}' has {before[chosen].share_left:.0%}"
    others = before.keys() - known.keys() - {chosen}
    return {name: f"{before[name].share_left:.0%} of its month is left, {most}" for name in sorted(others)}


def _in_words(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def _launch(order: Order, row: LaunchRow) -> Launch:
    tags = {**order.tags, ACCOUNT_TAG: row.account, UNTIL_TAG: f"{row.due_s:.0f}"}
    return Launch(row.token, row.quote, row.run_id, row.device, order.environment, order.superlink, order.image, tags)


def _check(order: Order) -> None:
    """Raises InputError for what makes no sense."""
    _check_hours(order.hours)
    if not 0 < len(order.token) <= 58 or not order.token.replace("-", "").isalnum() or not order.token.isascii():
        raise InputError(f"'{order.token}' is no token; use letters, digits and '-', at most 58")


def _check_hours(hours: float) -> None:
    if not 0 < hours <= MOST_HOURS:
        raise InputError(f"{hours} hours: give a number above 0, at most {MOST_HOURS:g}")
