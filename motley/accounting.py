"""`motley accounts` and `motley providers`: what one may use, what was used, what runs, and what runs for nobody."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from motley.accounts import Account
from motley.accounts_file import added, make_account, read_accounts
from motley.clock import Clock, SystemClock
from motley.credentials import with_keyring
from motley.errors import InputError, MotleyError
from motley.launcher import Launcher
from motley.launches import Launches
from motley.providers import make_provider
from motley.providers.base import Machine, Provider, ProviderError
from motley.spending import (
    account_table,
    launch_table,
    machine_table,
    plain_launches,
    plain_usage,
    usage_of,
    usage_table,
)
from motley.sweeping import Settled, Stray, Swept, reconcile, sweep

_MONTH = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")
_EMPTY = Path(":memory:")
_COMPOSE_FILE = Path("docker-compose.yml")
ENGINE = "engine"
"""What the account of this host's engine is called."""


@dataclass(frozen=True)
class Books:
    """Where accounts and journal are, and where figures go."""

    file: Path
    journal: Path
    json_file: Path | None = None
    clock: Clock = field(default_factory=SystemClock)
    compose_file: Path | None = None
    """Of a fleet on this host's own engine, which then is an account, too."""
    project: str | None = None
    """Of Compose, where it is not that file's own."""

    def accounts(self) -> dict[str, Account]:
        """Those of the file, and this host's engine, which is all there is without one. Raises InputError."""
        engine = self.compose_file
        if engine is None and not self.file.exists() and _COMPOSE_FILE.exists():
            engine = _COMPOSE_FILE
        if engine is None:
            return read_accounts(self.file)
        known = read_accounts(self.file) if self.file.exists() else {}
        return {ENGINE: engine_account(engine, self.project), **known}

    def launches(self, to_write: bool = False) -> Launches:
        """The journal, or an empty one where there is none yet: looking at it makes no file."""
        return Launches(self.journal if to_write or self.journal.exists() else _EMPTY)


@dataclass(frozen=True)
class SweepOptions:
    """What `motley providers sweep` may do."""

    keep: Sequence[str] = ()
    """Runs that live, whatever the journal says."""
    over: Sequence[str] = ()
    """Runs that are over, whatever the journal says."""
    yes: bool = False
    unknown: bool = False


@dataclass(frozen=True)
class NewAccount:
    """What `motley accounts add` was given; texts as in the accounts file."""

    provider: str
    evidence: str
    until: str | None = None
    hours: float | None = None
    usd: float | None = None
    time_zone: str = "UTC"
    idle: str | None = None
    nightly: str | None = None
    options: Sequence[str] = ()
    """NAME=VALUE."""

    def plain(self) -> dict[str, Any]:
        """As the accounts file has it; what is not given is left out. Raises InputError for an option."""
        monthly = _given(hours=self.hours, usd=self.usd)
        shutdown = _given(idle=self.idle, nightly=self.nightly)
        eligibility = _given(evidence=self.evidence, until=self.until)
        plain = {"provider": self.provider, "time_zone": self.time_zone, "eligibility": eligibility}
        plain |= {"monthly": monthly or "unlimited", "options": _pairs(self.options)}
        return {**plain, "shutdown": shutdown} if shutdown else plain


def engine_account(compose_file: Path, project: str | None = None) -> Account:
    """This host's own engine as an account without limits, for the fleet of a compose file."""
    options = {"file": str(compose_file), **({} if project is None else {"project": project})}
    own = {"evidence": "this host's own engine"}
    return make_account(ENGINE, {"provider": "docker", "monthly": "unlimited", "eligibility": own, "options": options})


def open_launcher(
    accounts: Mapping[str, Account], launches: Launches, clock: Clock, environment: Mapping[str, str]
) -> tuple[Launcher, dict[str, str]]:
    """A launcher for all accounts whose provider can be made, and for the others why it can't."""
    providers: dict[str, Provider] = {}
    problems: dict[str, str] = {}
    for name, account in accounts.items():
        try:
            providers[name] = make_provider(account.provider, *with_keyring(account.options, environment))
        except MotleyError as error:
            problems[name] = str(error)
    return Launcher(accounts, providers, launches, clock), problems


def list_accounts(books: Books) -> None:
    """Show every account: whether it may be used, and what its month has left."""
    rows, now_s = books.launches().rows(), books.clock.now_s()
    usages = [usage_of(name, account, rows, now_s) for name, account in read_accounts(books.file).items()]
    Console().print(account_table(f"Accounts of {books.file}", usages))
    _write(books.json_file, [plain_usage(each) for each in usages])


def show_usage(books: Books, month: str | None = None) -> None:
    """Show what each account has used in a month (its present one if not given), and by which launches."""
    if month is not None and not _MONTH.fullmatch(month):
        raise InputError(f"'{month}' is not a month; write it like 2026-11")
    rows, now_s = books.launches().rows(), books.clock.now_s()
    usages = [usage_of(name, account, rows, now_s, month) for name, account in read_accounts(books.file).items()]
    console = Console()
    console.print(usage_table(usages))
    if any(each.rows for each in usages):
        console.print(launch_table(usages, now_s))
    launches = [row for each in usages for row in plain_launches(each, now_s)]
    _write(books.json_file, {"accounts": [plain_usage(each) for each in usages], "launches": launches})


def add_account(file: Path, name: str, asked: NewAccount) -> None:
    """Write one more account into the file, which is made where it is not there. Raises InputError."""
    account = make_account(name, asked.plain())
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        made = added(text, name, account, file)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        temporary.write_text(made, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise InputError(f"{file}: can't be written: {error.strerror}") from None
    Console().print(f"{file}: account '{name}' added", highlight=False, markup=False, soft_wrap=True)


def list_machines(books: Books) -> None:
    """Show every machine of Motley's at every provider, and which accounts can't be asked."""
    launcher, problems = open_launcher(books.accounts(), books.launches(), books.clock, os.environ)
    machines: list[tuple[str, Machine]] = []
    for name, provider in launcher.providers.items():
        try:
            if problem := provider.available():
                problems[name] = problem
            else:
                machines.extend((name, each) for each in provider.list())
        except ProviderError as error:
            problems[name] = str(error)
    console = Console()
    rows = [(name, each, each.state.value) for name, each in machines]
    console.print(machine_table("Machines", rows, "state") if rows else "no machines")
    _say(console, problems)
    plain = [{"account": name, **asdict(each)} for name, each in machines]
    _write(books.json_file, {"machines": plain, "problems": problems})


def sweep_machines(books: Books, options: SweepOptions) -> bool:
    """Show, or with `yes` end, the machines that no live run owns; False where that may not be all of them."""
    launches, now_s = books.launches(to_write=options.yes), books.clock.now_s()
    launcher, problems = open_launcher(books.accounts(), launches, books.clock, os.environ)
    live = (launches.live_runs(now_s) | set(options.keep)) - set(options.over)
    settled, unsettled = reconcile(launcher, now_s) if options.yes else ([], {})
    swept = sweep(launcher, live, now_s, options.yes, options.unknown)
    problems |= {**unsettled, **swept.problems}
    _show_sweep(settled, swept, options)
    _say(Console(), problems)
    plain = {name: [asdict(each) for each in found] for name, found in (("ended", swept.ended), ("left", swept.left))}
    _write(books.json_file, {**plain, "settled": [asdict(each) for each in settled], "problems": problems})
    return not problems


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _pairs(options: Sequence[str]) -> dict[str, str]:
    """`['region=eu-central-1']` → `{'region': 'eu-central-1'}`. The message quotes no value: it may be a key."""
    pairs = dict(each.partition("=")[::2] for each in options)
    if any("=" not in each for each in options) or "" in pairs:
        raise InputError("an option is written NAME=VALUE")
    return pairs


def _show_sweep(settled: Sequence[Settled], swept: Swept, options: SweepOptions) -> None:
    console = Console()
    for each in settled:
        console.print(f"{each.account}: {each.token}: {each.what}", highlight=False, markup=False)
    rows = [(stray.account, stray.machine, f"ended: {_told(stray)}") for stray in swept.ended]
    rows += [(stray.account, stray.machine, _told(stray)) for stray in swept.left]
    if not rows:
        console.print("no machine without a live run")
        return
    console.print(machine_table("Machines that no live run owns", rows, "why"))
    if not options.yes:
        console.print("nothing was ended; end them with --yes, spare a run with --keep RUN", highlight=False)
    elif not options.unknown and any(not each.known for each in swept.left):
        console.print("what is not in this journal was left; end it with --unknown", highlight=False)


def _told(stray: Stray) -> str:
    return stray.reason if stray.known else f"{stray.reason}; not in this journal"


def _say(console: Console, problems: Mapping[str, str]) -> None:
    for name, problem in problems.items():
        console.print(f"[yellow]{escape(name)}[/]: {escape(problem)}", highlight=False)


def _write(json_file: Path | None, figures: object) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")
