"""`motley scale`: from a compose file to the loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from motley.accounting import ENGINE, engine_account, open_launcher
from motley.accounts import Account
from motley.accounts_file import read_accounts
from motley.clock import SystemClock
from motley.compose import SERVER_PORT
from motley.deployment import targets_directory
from motley.errors import InputError
from motley.fleetfile import parse_fleet
from motley.growing.link import ComposeLink
from motley.growing.loop import Growth
from motley.launches import Launches
from motley.spec import Fleet


def scale(
    file: Path,
    project: str | None = None,
    accounts: Path | None = None,
    journal: Path = Path("runs/launches.db"),
    say: Callable[[str], None] = print,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Grow and shrink the fleet that runs from a compose file, until its run has ended. Ctrl-C ends what was added.

    Raises InputError where the compose file is not Motley's or its fleet does not scale; RunFailed where the
    server is gone for long.
    """
    name, fleet = fleet_of(file)
    if fleet.scaling is None or not fleet.scaling.enabled:
        raise InputError(f"{file}: its fleet has no section 'scaling' that is enabled; add one, then: motley compose")
    project = project or name
    chosen = _accounts(fleet, file, project, accounts)
    launches = Launches(journal)
    clock = SystemClock()
    launcher, problems = open_launcher(chosen, launches, clock, os.environ)
    for account, problem in problems.items():
        say(f"scaling: account '{account}' can't be used: {problem}")
    superlink = fleet.scaling.superlink or f"server:{SERVER_PORT}"
    link = ComposeLink(file, project)
    growth = Growth(fleet, launcher, link, targets_directory(file), superlink, clock, say)
    try:
        growth.run(is_over)
    except KeyboardInterrupt:
        say("scaling: ended, and with it the devices that it had added")
    finally:
        launches.close()


def fleet_of(file: Path) -> tuple[str, Fleet]:
    """Compose's project name, and the effective fleet, of a compose file that Motley wrote. Raises InputError."""
    hint = f"write it with: motley compose --output {file}"
    try:
        content = yaml.safe_load(file.read_text())
        text = content["services"]["server"]["environment"]["MOTLEY_FLEET"]
        name = str(content["name"])
    except OSError as error:
        raise InputError(f"{file}: can't read it: {error.strerror}; {hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise InputError(f"{file} is not a compose file of Motley's; {hint}") from None
    return name, parse_fleet(str(text).replace("$$", "$").encode(), file)


def _accounts(fleet: Fleet, file: Path, project: str, path: Path | None) -> Mapping[str, Account]:
    """Those of the file; this host's own engine where none is named and none is needed."""
    if path is not None:
        return read_accounts(path)
    if fleet.scaling is not None and (fleet.scaling.provider != "docker" or fleet.scaling.account):
        raise InputError("scaling needs an account of its provider; name the accounts file with --accounts")
    return {ENGINE: engine_account(file, project)}
