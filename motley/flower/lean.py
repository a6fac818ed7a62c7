"""What a device never needs of Flower, loaded on first use in place of at once."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from motley.flower.shape import Changed, stay_stock

POSTPONED = {
    "flwr.supercore.object_store.sql_object_store": "SqlObjectStore",
    "flwr.server.superlink.linkstate.sql_linkstate": "SqlLinkState",
}
"""Modules with the SuperLink's database, and the class that Flower imports from each."""


def postpone_database() -> bool:
    """Load SQLAlchemy and Alembic when a database is first opened: a device has none, and saves 30 MB.

    Call before anything of Flower is imported; returns False, with a warning, where it is too late.
    """
    early = [name for name in POSTPONED if name in sys.modules]
    if early:
        return stay_stock("database", Changed(f"{early[0]} is loaded already"))
    for module, name in POSTPONED.items():
        sys.modules[module] = _postponed(module, name)
    return True


def _postponed(module: str, name: str) -> ModuleType:
    """Stands in for `module`. Its class is the real one once it is used; any other name is at once."""
    stand_in = ModuleType(module, f"Loads the real {module} on first use.")

    def real(wanted: str) -> Any:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        if sys.modules.get(module) is stand_in:
            del sys.modules[module]
        return getattr(import_module(module), wanted)

    def new(_: type, *args: Any, **kwargs: Any) -> Any:
        return real(name)(*args, **kwargs)

    vars(stand_in).update({"__getattr__": real, name: type(name, (), {"__new__": new})})
    return stand_in
