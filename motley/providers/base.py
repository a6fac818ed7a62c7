"""What all providers have in common: machines on offer, launched, listed and ended.

A provider decides nothing: what to launch, for how much and on whose account is decided elsewhere.
Whatever it launches carries the tags of its order, so that a sweep finds what no run owns any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from motley.errors import MotleyError

RUN_TAG, TOKEN_TAG, DEVICE_TAG = "motley-run", "motley-token", "motley-device"
"""On everything that a provider makes. What lacks them is none of Motley's business and never touched."""


class ProviderError(MotleyError):
    """A provider refused or failed; names provider, operation and what it said. Never holds a credential."""


class Unavailable(ProviderError):
    """No machine of the kind asked for is to be had now; another kind, place or time may do."""


class State(StrEnum):
    """Of a machine."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    GONE = "gone"


@dataclass(frozen=True)
class Needs:
    """What a machine must have at least."""

    cpus: float
    memory_bytes: int
    accelerators: int = 0
    accelerator_memory_bytes: int = 0
    """Of each."""
    disk_bytes: int = 0


@dataclass(frozen=True)
class Quote:
    """One kind of machine on offer."""

    provider: str
    kind: str
    """The provider's own name, such as `m7i.large`."""
    place: str
    """Region or zone; empty where there is but one."""
    cpus: float
    memory_bytes: int
    usd_per_hour: float
    spot: bool = False
    """May be taken away at short notice."""
    accelerators: int = 0
    accelerator_memory_bytes: int = 0


@dataclass(frozen=True)
class Launch:
    """What is asked of a provider. Equal tokens mean one and the same machine, however often it is asked for."""

    token: str
    """Made by whoever orders, for this machine alone: letters, digits and '-', at most 64.

    What a token does after its machine has ended is not defined.
    """
    quote: Quote
    run_id: str
    """The run that owns the machine."""
    device: str
    """The device that it becomes; its SuperNode says so when it joins."""
    environment: Mapping[str, str]
    """Of the device's agent, as in a compose file: no secrets."""
    superlink: str
    """host:port of the Fleet API, as the machine sees it."""
    image: str = ""
    """Container image of the agent; empty for the one that the provider's options name."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """In addition to those of `all_tags`."""

    def all_tags(self) -> dict[str, str]:
        """What the machine, and all that is made for it, must carry."""
        return {**self.tags, RUN_TAG: self.run_id, TOKEN_TAG: self.token, DEVICE_TAG: self.device}


@dataclass(frozen=True)
class Machine:
    """A machine that was launched."""

    provider: str
    machine_id: str
    """The provider's own."""
    token: str
    run_id: str
    device: str
    state: State
    kind: str
    place: str
    usd_per_hour: float
    spot: bool
    launched_s: float
    """Seconds since the epoch."""


class Provider(Protocol):
    """One account at one provider, usable from several threads and by several processes at a time.

    It keeps nothing: what was launched is known from its tags. All methods raise ProviderError and nothing
    else of their own. Where `launch` raises, it takes back what it has made; where it can't, because it was
    killed or cut off, what is left is listed.
    """

    name: str

    def available(self) -> str:
        """Why it can't be used now, such as missing credentials; empty where it can. Asks as little as possible."""

    def quote(self, needs: Needs, spot: bool = False) -> Sequence[Quote]:
        """What would do, the cheapest first; empty where there is nothing.

        spot: only offers that may be taken away at short notice, or else only those that may not.
        """

    def launch(self, launch: Launch) -> Machine:
        """Start a machine, or return the one with the same token. Raises Unavailable where there is none to be had."""

    def list(self, run_id: str | None = None) -> Sequence[Machine]:
        """Every machine of Motley's that is not gone, of one run or of all; those launched by halves, too."""

    def status(self, machine_id: str) -> Machine | None:
        """None where the provider knows no such machine any more, or it is not Motley's."""

    def terminate(self, machine_id: str) -> None:
        """End it, with all that was made for it; no error where it is gone already, or is not Motley's."""


def conceal(text: str, secrets: Iterable[str]) -> str:
    """`text` with `***` in place of every secret in it; for messages that quote what a provider said."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
