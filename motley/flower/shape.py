"""Does Flower still look as it did when it was measured?"""

from __future__ import annotations

import inspect
import warnings
from typing import Any


class Changed(Exception):
    """Something of Flower is not as expected; says what."""


SURPRISES = (Changed, ImportError, AttributeError, OSError, TypeError)
"""What looking at a Flower that has changed may raise."""


def expect_parameters(owner: Any, name: str, parameters: list[str]) -> Any:
    """`owner.name`, if it is there and takes exactly these parameters. Raises Changed."""
    function = getattr(owner, name, None)
    if function is None:
        raise Changed(f"no {owner.__name__}.{name}")
    given = list(inspect.signature(function).parameters)
    if given != parameters:
        raise Changed(f"{owner.__name__}.{name} takes {', '.join(given)}")
    return function


def expect_source(owner: Any, *texts: str) -> None:
    """Raises Changed unless each text stands in the source of `owner`."""
    source = inspect.getsource(owner)
    for text in texts:
        if text not in source:
            raise Changed(f"no {text.strip()!r} in {owner.__name__}")


def stay_stock(what: str, problem: Exception) -> bool:
    """Warn that `what` runs unadapted; returns False, for the caller to return."""
    warnings.warn(f"Flower's {what} is not as expected ({problem}); it runs unadapted", stacklevel=3)
    return False
