"""What the cloud providers share: options, references to the environment, prices, and errors without secrets.

Options are text, as they stand in an account's file. `${NAME}` in one stands for a variable of the
environment; a credential may be written in no other way, so that the file never holds it. What a reference
stands for is kept in memory only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from motley.errors import InputError
from motley.providers import check_options
from motley.providers.base import Launch, Needs, ProviderError, Quote, Unavailable, conceal
from motley.providers.startup import render, startup_of
from motley.units import parse_bytes

PRICE_TAG = "motley-usd-per-hour"
COMMON_OPTIONS = {"image": "", "max_hours": "24", "lost_minutes": "30", "endpoint_url": ""}
"""Of every cloud provider: container image, limit of a machine's life, patience without a SuperLink, REST endpoint."""

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MOST_SAID = 500
_SHORTEST_SECRET = 8
"""What is shorter is a word like any other."""


class NoAnswer(ProviderError):
    """The request may or may not have been carried out: its reply did not get through."""


class Options:
    """The options of one account. Raises InputError for one that is unknown or can't be read.

    known: all options with their defaults. secret: names of those that are credentials.
    """

    def __init__(
        self,
        provider: str,
        given: Mapping[str, str],
        environment: Mapping[str, str],
        known: Mapping[str, str],
        secret: Sequence[str] = (),
    ) -> None:
        self.provider = provider
        self._environment = environment
        self._unset: list[str] = []
        check_options(provider, given, frozenset(known))
        for name in secret:
            text = given.get(name, "")
            if text and not _REFERENCE.fullmatch(text) and text not in environment.values():
                wanted = "write a reference such as ${NAME}, and the credential into that variable"
                raise InputError(f"{provider}: the option '{name}' is a credential; {wanted}")
        self._values = {name: self._resolve(given.get(name, default), name in given) for name, default in known.items()}
        self.secrets = tuple(filter(None, (self._values[name] for name in secret)))

    @property
    def missing(self) -> str:
        """Which variables the options name that are not set; empty where there are none."""
        return f"not set in the environment: {', '.join(sorted(self._unset))}" if self._unset else ""

    def text(self, name: str) -> str:
        return self._values[name]

    def names(self, name: str) -> tuple[str, ...]:
        """Words between commas."""
        return tuple(filter(None, (word.strip() for word in self._values[name].split(","))))

    def number(self, name: str) -> float:
        """Above 0."""
        return self._number(name, self._values[name])

    def prices(self, name: str) -> dict[str, float]:
        """`kind=0.1` and `kind/spot=0.04` between commas, in dollars an hour."""
        pairs = (word.partition("=") for word in self.names(name))
        return {kind.strip(): self._number(name, price) for kind, _, price in pairs}

    def size_bytes(self, name: str) -> int:
        """Text such as `30g`."""
        try:
            return parse_bytes(self._values[name])
        except ValueError as error:
            raise InputError(f"{self.provider}: {name}: {error}") from None

    def endpoint(self, name: str = "endpoint_url") -> str:
        """Where to ask instead of the provider's own address: https, or http on the loopback."""
        url = self._values[name]
        if url and urlsplit(url).scheme != "https" and not is_loopback(url):
            raise InputError(f"{self.provider}: {name} '{url}' would send credentials in the clear; write https://…")
        return url.rstrip("/")

    def _number(self, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise InputError(f"{self.provider}: {name} '{text}' is not a number above 0")
        return value

    def _resolve(self, text: str, is_given: bool) -> str:
        if is_given:
            self._unset += [name for name in _REFERENCE.findall(text) if not self._environment.get(name)]
        return _REFERENCE.sub(lambda match: self._environment.get(match[1], ""), text)


def is_loopback(url: str) -> bool:
    """Whether it names this machine, over http."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def failure(options: Options, operation: str, said: object, kind: type[ProviderError] = ProviderError) -> ProviderError:
    """What to raise where the SDK has failed: one line, without credentials.

    Raise it `from None`: what the SDK raised may quote a request.
    """
    line = " ".join(conceal(str(said), options.secrets).split())
    return kind(f"{options.provider}: {operation}: {line[:_MOST_SAID] or 'no reason given'}")


def capacity_or(codes: Iterable[str], lacking: Iterable[str]) -> type[ProviderError]:
    """Unavailable where one of the codes of an error says that there is nothing to be had."""
    return Unavailable if set(codes) & set(lacking) else ProviderError


def fitting(quotes: Iterable[Quote], needs: Needs) -> list[Quote]:
    """Those that meet the needs, the cheapest first."""
    found = [quote for quote in quotes if _fits(quote, needs)]
    return sorted(found, key=lambda quote: (quote.usd_per_hour, quote.kind, quote.place))


def _fits(quote: Quote, needs: Needs) -> bool:
    if quote.cpus < needs.cpus or quote.memory_bytes < needs.memory_bytes or quote.accelerators < needs.accelerators:
        return False
    return not needs.accelerators or quote.accelerator_memory_bytes >= needs.accelerator_memory_bytes


def tags(launch: Launch) -> dict[str, str]:
    """All that a machine has to carry to be found and accounted for."""
    return {**launch.all_tags(), PRICE_TAG: repr(launch.quote.usd_per_hour)}


def number_of(tags: Mapping[str, str], name: str) -> float:
    """What a tag says; 0 where it was changed by hand."""
    try:
        return float(tags.get(name, "0"))
    except ValueError:
        return 0.0


def scripts(options: Options) -> Callable[[Launch], str]:
    """What makes the start-up script of a machine. Raises InputError for options that can't be read.

    The function raises ProviderError for an order that no machine could carry out, and for one that holds a
    credential of the account: scripts and tags can be read by others.
    """
    image, most_s, lost_s = (
        options.text("image"),
        3600 * options.number("max_hours"),
        60 * options.number("lost_minutes"),
    )

    def script(launch: Launch) -> str:
        text = render(startup_of(launch, image, most_s, lost_s))
        said = [text, *launch.environment.values(), *tags(launch).values()]
        secrets = [secret for secret in options.secrets if len(secret) >= _SHORTEST_SECRET]
        if any(secret in each for secret in secrets for each in said):
            raise ProviderError(f"{options.provider}: the order for {launch.device} holds a credential; take it out")
        return text

    return script


def digest(*words: object, length: int = 32) -> str:
    """Hexadecimal digits that stand for the words."""
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()[:length]
