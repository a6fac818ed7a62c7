"""Read and extend the accounts file; say what is wrong with it in one line that names file, line and value.

No message quotes a key: what looks like one is refused before anything else reads the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from motley.accounts import Account
from motley.credentials import ADVICE, has_known_key, looks_like_key
from motley.errors import FleetFileError, InputError, did_you_mean
from motley.fleetfile import MAX_FILE_BYTES, _compose, _construct, _decode, _explain, _line, _models_in, _short
from motley.quantities import Name, RuleError, Strict

EXAMPLE = "config/accounts.example.yaml"

_Path = tuple[str, ...]


class AccountsFileError(FleetFileError):
    """An accounts file is wrong; names the file, the line and the value, but never a key."""


class _File(Strict):
    accounts: dict[Name, Account]


def read_accounts(path: Path) -> dict[str, Account]:
    """All accounts of the file, by name. Raises InputError if it can't be read, AccountsFileError if it is wrong."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        hint = f"begin with a copy of {EXAMPLE}, or with: motley accounts add"
        raise InputError(f"{path}: can't read the accounts file: {error.strerror}; {hint}") from None
    return parse_accounts(raw, path)


def parse_accounts(raw: bytes, path: Path | str = "<accounts>") -> dict[str, Account]:
    """Validate the text of an accounts file; `path` is only for messages. Raises AccountsFileError."""
    lines: dict[_Path, int] = {}
    _refuse_known_keys(raw, path)
    try:
        data = _construct(_compose(_decode(raw, path), path), (), lines)
    except RuleError as error:
        raise AccountsFileError(path, lines[error.where], str(error)) from None
    except FleetFileError as error:
        raise AccountsFileError(
            path, error.line, _reworded(str(error).removeprefix(f"{path}:{error.line}: "))
        ) from None
    _refuse_keys(data, path, lines)
    try:
        return _File.model_validate(data).accounts
    except ValidationError as error:
        where, message = min((_fault(each) for each in error.errors()), key=lambda each: _line(lines, each[0]))
        raise AccountsFileError(path, _line(lines, where), message) from None


def make_account(name: str, plain: Mapping[str, Any]) -> Account:
    """One account of plain data, as a file would hold it. Raises InputError for what is wrong, or seems to be a key."""
    for where, _ in _keys_in(plain, ()):
        raise InputError(f"account '{name}': '{where[0]}' holds what looks like a key; {ADVICE}")
    try:
        return _File.model_validate({"accounts": {name: plain}}).accounts[name]
    except ValidationError as error:
        raise InputError(f"account '{name}': {_fault(error.errors()[0])[1]}") from None


def added(text: str, name: str, account: Account, path: Path | str = "<accounts>") -> str:
    """The text of an accounts file with one more account at its end; all else stays as it is.

    text: empty for a new file. Raises AccountsFileError where the text is wrong, InputError for a name that is
    taken.
    """
    is_new = not text.strip()
    known = {} if is_new else parse_accounts(text.encode(), path)
    if name in known:
        raise InputError(f"{path}: account '{name}' is there already; change it there, or take another name")
    plain = account.model_dump(mode="json", exclude_defaults=True)
    plain["monthly"] = plain["monthly"] or "unlimited"
    block = yaml.safe_dump({name: plain}, sort_keys=False, allow_unicode=True, width=1000)
    made = f"accounts:\n{_indented(block, 2)}" if is_new else _inserted(text, block) if known else ""
    try:
        if made and parse_accounts(made.encode()) == {**known, name: account}:
            return made
    except AccountsFileError:
        pass
    raise InputError(f"{path}: its layout leaves no place for one more account; add it by hand:\n{block}")


def _inserted(text: str, block: str) -> str:
    """`text` with `block` as the last entry of its mapping `accounts`, as deep as the entries that are there."""
    root: Any = yaml.compose(text, yaml.SafeLoader)
    accounts = next(value for key, value in root.value if key.value == "accounts")
    lines = text.splitlines(keepends=True)
    at = _last_line(accounts) + 1
    before, after = "".join(lines[:at]), "".join(lines[at:])
    newline = "" if before.endswith("\n") else "\n"
    return before + newline + _indented(block, accounts.value[0][0].start_mark.column) + after


def _last_line(node: yaml.Node) -> int:
    """Where the text of a node ends, before any comments that follow; counted from 0."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    end: yaml.Mark = node.end_mark
    return end.line - (end.column == 0)


def _indented(block: str, columns: int) -> str:
    return "".join(" " * columns + line for line in block.splitlines(keepends=True))


def _refuse_known_keys(raw: bytes, path: Path | str) -> None:
    """Before anything else reads the text, so that no other message can quote a key; comments count, too."""
    for number, line in enumerate(raw.decode(errors="replace").splitlines(), 1):
        if has_known_key(line):
            raise AccountsFileError(path, number, f"this line holds what looks like a key; {ADVICE}")


def _refuse_keys(data: Any, path: Path | str, lines: dict[_Path, int]) -> None:
    for where, name in _keys_in(data, ()):
        told = f"'{name}' looks like a key" if name else "this line holds what looks like a key"
        raise AccountsFileError(path, _line(lines, where), f"{told}; {ADVICE}")


def _keys_in(data: Any, where: _Path, name: str = "") -> Iterator[tuple[_Path, str]]:
    """Path and name of every value that looks like a key; no name where a name itself looks like one."""
    if isinstance(data, dict):
        for key, value in data.items():
            known = "" if looks_like_key("", str(key)) else str(key)
            if not known:
                yield (*where, str(key)), ""
            yield from _keys_in(value, (*where, str(key)), known)
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _keys_in(value, (*where, str(number)), name)
    elif isinstance(data, (str, int)) and not isinstance(data, bool) and looks_like_key(name, str(data)):
        yield where, name


def _fault(error: Any) -> tuple[_Path, str]:
    """One pydantic error as the path to blame and a message."""
    if error["type"] == "extra_forbidden":
        where = tuple(map(str, error["loc"]))
        return where, f"unknown key '{_short(where[-1])}'{did_you_mean(where[-1], _known_keys(where[:-1]))}"
    return _explain(error)


def _known_keys(where: _Path) -> Iterable[str]:
    """The keys of the model at `where`: accounts, NAME, and what is below."""
    model: Any = _File if not where else Account
    for part in where[2:]:
        field = model.model_fields.get(part)
        model = next(_models_in(field.annotation), model) if field else model
    return list(model.model_fields)


_WORDS = {
    "a fleet file is a mapping with at least 'name' and 'classes'": "an accounts file is a mapping with 'accounts'",
    "a fleet file": "an accounts file",
    "write one fleet in one file": "write all accounts under one 'accounts'",
}


def _reworded(message: str) -> str:
    """What `motley.fleetfile` says of YAML, said of an accounts file."""
    for said, meant in _WORDS.items():
        message = message.replace(said, meant)
    return message
