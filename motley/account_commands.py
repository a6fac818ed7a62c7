"""`motley accounts` and `motley providers`: thin, like all of `motley.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_ACCOUNTS = Path("config/accounts.yaml")
DEFAULT_JOURNAL = Path("runs/launches.db")

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")]
ProjectOption = Annotated[str | None, typer.Option(help="Of Compose, if not the file's own.")]

accounts = typer.Typer(help="The accounts at providers of machines, and their budgets.", no_args_is_help=True)
providers = typer.Typer(help="The machines at all providers.", no_args_is_help=True)

AccountsFile = Annotated[Path, typer.Option("--file", help="The accounts file.")]
JournalOption = Annotated[Path, typer.Option("--journal", help="The journal of launches.")]
EngineFleet = Annotated[
    Path | None, typer.Option("--compose", metavar="FILE", help="The fleet on this host's engine, too.")
]


@accounts.command("list")
def accounts_list(
    file: AccountsFile = DEFAULT_ACCOUNTS, journal: JournalOption = DEFAULT_JOURNAL, json_file: JsonFile = None
) -> None:
    """Show every account: whether it may be used, and what is left of its month."""
    from motley.accounting import Books, list_accounts

    list_accounts(Books(file, journal, json_file))


@accounts.command("add")
def accounts_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    provider: Annotated[str, typer.Option(help="docker, aws, gcp, lambda_cloud or fake.")],
    evidence: Annotated[str, typer.Option(help="Why it may be used: an address, an approval, or one's own.")],
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Last day of that: 2027-03-31.")] = None,
    hours: Annotated[float | None, typer.Option(help="Machine hours a month.")] = None,
    usd: Annotated[float | None, typer.Option(help="Dollars a month; no limit where neither is given.")] = None,
    time_zone: Annotated[str, typer.Option(help="Where its month turns: 'Europe/Berlin'.")] = "UTC",
    idle: Annotated[str | None, typer.Option(metavar="TIME", help="End machines idle for so long: '15m'.")] = None,
    nightly: Annotated[str | None, typer.Option(metavar="WINDOW", help="End machines then: '22:00-06:00'.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the provider; '${NAME}' in place of a key.")
    ] = None,
    file: AccountsFile = DEFAULT_ACCOUNTS,
) -> None:
    """Add an account to the accounts file."""
    from motley.accounting import NewAccount, add_account

    asked = NewAccount(provider, evidence, until, hours, usd, time_zone, idle, nightly, option or [])
    add_account(file, name, asked)


@accounts.command("usage")
def accounts_usage(
    month: Annotated[str | None, typer.Option(help="Such as 2026-11; the present one if not given.")] = None,
    file: AccountsFile = DEFAULT_ACCOUNTS,
    journal: JournalOption = DEFAULT_JOURNAL,
    json_file: JsonFile = None,
) -> None:
    """Show what each account has used of its month, and by which launches."""
    from motley.accounting import Books, show_usage

    show_usage(Books(file, journal, json_file), month)


@accounts.command("advice")
def accounts_advice() -> None:
    """Print the programmes for academic access, and what lowers the cost."""
    from motley.advice import show_advice

    show_advice()


@providers.command("list")
def providers_list(
    file: AccountsFile = DEFAULT_ACCOUNTS,
    journal: JournalOption = DEFAULT_JOURNAL,
    engine: EngineFleet = None,
    project: ProjectOption = None,
    json_file: JsonFile = None,
) -> None:
    """Show every machine of Motley's at every provider."""
    from motley.accounting import Books, list_machines

    list_machines(Books(file, journal, json_file, compose_file=engine, project=project))


@providers.command("sweep")
def providers_sweep(
    yes: Annotated[bool, typer.Option("--yes", help="End them; else they are only shown.")] = False,
    keep: Annotated[list[str] | None, typer.Option(metavar="RUN", help="A run that lives all the same.")] = None,
    over: Annotated[list[str] | None, typer.Option(metavar="RUN", help="A run that is over already.")] = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="End those of other journals, too.")] = False,
    file: AccountsFile = DEFAULT_ACCOUNTS,
    journal: JournalOption = DEFAULT_JOURNAL,
    engine: EngineFleet = None,
    project: ProjectOption = None,
    json_file: JsonFile = None,
) -> None:
    """Find the machines that no live run owns, and with --yes end them."""
    from motley.accounting import Books, SweepOptions, sweep_machines

    books = Books(file, journal, json_file, compose_file=engine, project=project)
    if not sweep_machines(books, SweepOptions(keep or [], over or [], yes, unknown)):
        raise typer.Exit(1)
