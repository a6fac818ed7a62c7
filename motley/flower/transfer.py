"""Transfer of objects between SuperLink, SuperNode and apps."""

from __future__ import annotations

import inspect
from typing import Any

from motley.flower.shape import Changed, stay_stock

FIRST_BACK_OFF_S, LAST_BACK_OFF_S = 0.02, 1.0


def adapt_object_pulls() -> bool:
    """Ask again sooner for objects whose upload is still under way; Flower waits 1 s, 2 s, 4 s …

    Returns whether Flower could be adapted.
    """
    import flwr.supercore.inflatable.inflatable_utils as inflatable

    wanted = {"initial_backoff": FIRST_BACK_OFF_S, "backoff_cap": LAST_BACK_OFF_S}
    functions = [getattr(inflatable, name, None) for name in ("pull_objects", "pull_and_inflate_object_from_tree")]
    for function in functions:
        if function is None or not set(wanted) <= set(inspect.signature(function).parameters):
            return stay_stock("object transfer", Changed("no back-off to set"))
    for function in functions:
        _set_defaults(function, wanted)
    return True


def _set_defaults(function: Any, wanted: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    with_default = [each for each in parameters if each.default is not each.empty]
    positional = [each for each in with_default if each.kind is each.POSITIONAL_OR_KEYWORD]
    keyword = [each for each in with_default if each.kind is each.KEYWORD_ONLY]
    function.__defaults__ = tuple(wanted.get(each.name, each.default) for each in positional) or None
    function.__kwdefaults__ = {each.name: wanted.get(each.name, each.default) for each in keyword} or None
