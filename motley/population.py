"""Distributions in a fleet file, and what the devices of a class draw from them.

Write a distribution where the devices of a class differ: `{lognormal: {median: 176, sigma: 0.744}}`,
`{uniform: {low: 1, high: 2}}` or `{choice: {4g: 29, 6g: 23}}` (value: weight), each with `min` or
`max` beside it, to which draws outside are clipped.
"""

from __future__ import annotations

import math
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, repeat
from statistics import NormalDist
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from motley.quantities import (
    BitRate,
    Cores,
    Memory,
    Milliseconds,
    RuleError,
    Seconds,
    Share,
    Spread,
    Strict,
    Weight,
)

Q = TypeVar("Q", int, float)

PLAIN, DRAWN = "[plain]", "[drawn]"
"""Marks that pydantic puts into the path of an error; they stand for no key of the file."""

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,24})?([eE][-+]?[0-9]{1,3})?")
_NORMAL = NormalDist()
_LEAST_U = 2.0**-54


class Lognormal(Strict, Generic[Q]):
    """exp(N(ln median, sigma²)): most of what is measured of devices has this shape."""

    median: Q
    sigma: Spread

    @model_validator(mode="after")
    def _has_logarithm(self) -> Lognormal[Q]:
        if self.median <= 0:
            raise RuleError(("median",), "median of a lognormal distribution must be above 0")
        return self


class Uniform(Strict, Generic[Q]):
    """Any value from low to high, all as likely."""

    low: Q
    high: Q


class Distribution(Strict, Generic[Q]):
    """One of three shapes, clipped to `min` and `max`."""

    lognormal: Lognormal[Q] | None = None
    uniform: Uniform[Q] | None = None
    choice: Annotated[dict[Q, Weight], Field(min_length=1)] | None = None
    min: Q | None = None
    max: Q | None = None

    @field_validator("choice", mode="before")
    @classmethod
    def _keys(cls, value: object) -> object:
        """Keys are text in YAML and JSON, numbers too."""
        return {_number(key): weight for key, weight in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_shape(self) -> Distribution[Q]:
        shapes = [name for name in ("lognormal", "uniform", "choice") if getattr(self, name) is not None]
        if len(shapes) != 1:
            found = " and ".join(shapes) or "none"
            raise RuleError((), f"a distribution is one of lognormal, uniform or choice; here: {found}")
        if self.uniform is not None and self.uniform.low > self.uniform.high:
            raise RuleError(("uniform", "low"), "uniform: low is above high; swap them")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise RuleError(("min",), "min is above max; swap them")
        if self.choice is not None and not sum(self.choice.values()):
            raise RuleError(("choice",), "choice: all weights are 0; write at least one above")
        return self

    @property
    def least(self) -> float:
        """No draw is below; 0 for a lognormal distribution without `min`."""
        if self.uniform is not None:
            least: float = self.uniform.low
        else:
            least = min(self.choice) if self.choice is not None else 0.0
        return self._clipped(least)

    @property
    def quantile(self) -> Callable[[float], float]:
        """The inverse of the distribution function: a number within 0–1 to a value."""
        if self.lognormal is not None:
            mu, sigma = math.log(self.lognormal.median), self.lognormal.sigma
            return lambda u: self._clipped(math.exp(mu + sigma * _NORMAL.inv_cdf(max(u, _LEAST_U))))
        if self.uniform is not None:
            low, high = self.uniform.low, self.uniform.high
            return lambda u: self._clipped(low + u * (high - low))
        values = list(self.choice or {})
        bounds = list(accumulate((self.choice or {}).values()))
        return lambda u: self._clipped(values[bisect_right(bounds, u * bounds[-1], hi=len(bounds) - 1)])

    def times(self, factor: float) -> Distribution[Any]:
        """The distribution of `factor` times what is drawn from this one."""

        def scaled(value: Any) -> Any:
            if isinstance(value, dict):
                return {key * factor: weight for key, weight in value.items()}
            if isinstance(value, Strict):
                places = value.model_fields_set - {"sigma"}
                return value.model_copy(update={name: getattr(value, name) * factor for name in places})
            return None if value is None else value * factor

        return self.model_copy(update={name: scaled(getattr(self, name)) for name in type(self).model_fields})

    def _clipped(self, value: float) -> float:
        if self.min is not None and value < self.min:
            return self.min
        return self.max if self.max is not None and value > self.max else value


def _number(key: object) -> object:
    """The number that a key spells; what reads like it afterwards, so that its line is found."""
    if not isinstance(key, str) or not _NUMBER.fullmatch(key):
        return key
    return int(key) if key.isdigit() else float(key)


def draws(quantity: Any, *key: object) -> Iterator[Any]:
    """Endless values of a plain quantity or a distribution; the n-th depends on `key` and n alone."""
    if not isinstance(quantity, Distribution):
        return repeat(quantity)
    rng, quantile = random.Random("/".join(map(str, key))), quantity.quantile
    return (quantile(rng.random()) for _ in repeat(None))


def least(quantity: Any) -> float:
    """The smallest value that a quantity can come to."""
    smallest: float = quantity.least if isinstance(quantity, Distribution) else quantity
    return smallest


def _kind(value: object) -> str:
    return DRAWN if isinstance(value, (dict, BaseModel)) else PLAIN


_EITHER = Discriminator(_kind)

AnyCores = Annotated[Annotated[Cores, Tag(PLAIN)] | Annotated[Distribution[Cores], Tag(DRAWN)], _EITHER]
AnyMemory = Annotated[Annotated[Memory, Tag(PLAIN)] | Annotated[Distribution[Memory], Tag(DRAWN)], _EITHER]
AnyMilliseconds = Annotated[
    Annotated[Milliseconds, Tag(PLAIN)] | Annotated[Distribution[Milliseconds], Tag(DRAWN)], _EITHER
]
AnyBitRate = Annotated[Annotated[BitRate, Tag(PLAIN)] | Annotated[Distribution[BitRate], Tag(DRAWN)], _EITHER]
AnySeconds = Annotated[Annotated[Seconds, Tag(PLAIN)] | Annotated[Distribution[Seconds], Tag(DRAWN)], _EITHER]
AnyShare = Annotated[Annotated[Share, Tag(PLAIN)] | Annotated[Distribution[Share], Tag(DRAWN)], _EITHER]
