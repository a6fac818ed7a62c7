"""What crosses the boundaries between device, plan and history: frozen, and with units in the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

REPLY_GRACE_S = 60.0
"""How long after an order's deadline its reply is still taken: its message lives so much longer."""


@dataclass(frozen=True)
class DeviceLimits:
    """What a container may use. None stands for "no limit"."""

    cpus: float | None
    """CPU quota in cores."""
    memory_bytes: int | None
    """Memory limit; the kernel kills what goes over it."""
    swap_bytes: int | None = None
    """Swap on top of the memory limit; 0 where swap is off."""
    pids: int | None = None
    """Most processes and threads at one time."""


@dataclass(frozen=True)
class DeviceProfile:
    """What a device says of itself when asked (Flower's `query`)."""

    device: str
    device_class: str
    host_cores: int
    """Cores of the machine under the device, whatever its quota."""
    cpus: float
    """Cores it may use: its quota, or the host's cores where it has none."""
    memory_bytes: int
    """Memory it may use: its limit, or the host's memory where it has none."""
    memory_used_bytes: int
    """Of that, in use while idle."""
    examples: int
    """Training examples in its shard."""
    gflops: float
    """Result of a short speed probe: billions of floating-point operations a second, under its quota."""
    pinned_batch_size: int = 0
    """Batch size fixed by the fleet file; 0 where free."""
    pinned_learning_rate: float = 0.0
    """Learning rate fixed by the fleet file; 0 where free."""
    down_bits_per_s: float = 0.0
    """Download rate of the emulated link; 0 where it is not shaped."""
    up_bits_per_s: float = 0.0
    latency_s: float = 0.0
    battery_level: float = -1.0
    """0–1; -1 where there is no battery."""
    charging: bool = False
    resting: bool = False
    """It takes no work now: its battery is empty, or it is too hot."""
    priority: float = 1.0
    """For the policy `priority`: higher comes first."""
    accelerators: int = 0
    versions: str = ""
    """Python, PyTorch and Flower, for the report."""

    def as_mapping(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `as_mapping` gave; keys of a newer version are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(frozen=True)
class WorkOrder:
    """What one device is asked to do in one round."""

    device: str
    batch_size: int
    learning_rate: float
    steps: int
    """Optimiser steps."""
    deadline_s: float
    """Seconds from the sending of the order until its reply counts as late."""
    expected_s: float | None = None
    """How long past rounds let us expect it to take; None before its first."""
    expected_low_s: float | None = None
    expected_high_s: float | None = None
    """With the one before, what holds it in 90 of 100 cases; None where nothing was learned that tells."""
    expected_by: str = ""
    """Tier of the predictor that says so; empty where none was asked."""
    stop_after_s: float | None = None
    """Seconds from the sending of the order after which the device stops training and sends what it has."""
    proximal: float = 0.0
    """Weight of FedProx's proximal term."""
    width: float = 1.0
    """Share of the model's channels that the device trains (HeteroFL)."""
    compression: str = "none"
    """How the update travels: none, int8 or topk."""
    fit: bool = False
    """The device may take the largest batch that its memory holds in place of `batch_size`, for as many examples."""
    physical_batch: int = 0
    """Most examples that the device may hold in memory at one time; 0 where nothing is known against more."""
    rate_scaling: str = "none"
    """How `learning_rate` follows a batch that the device has changed: sqrt, linear or none."""
    warm_up: float = 1.0
    """How far the warm-up of a linearly scaled rate has come, 0–1."""


class Outcome(StrEnum):
    """What became of one device in one round."""

    FINISHED = "finished"
    LATE = "late"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    REFUSED = "refused"
    BATTERY_EMPTY = "battery_empty"
    TOO_HOT = "too_hot"
    UNREACHABLE = "unreachable"


class DeviceStop(BaseException):
    """The device ends its work now, without an update. Not an Exception, so that nobody on the way handles it.

    figures: what may be reported of the work all the same.
    """

    def __init__(self, outcome: Outcome, reason: str, figures: Mapping[str, float] | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.figures = figures or {}


@dataclass(frozen=True)
class RoundOutcome:
    """One device in one round: how it ended and what it really did."""

    device: str
    device_class: str
    outcome: Outcome
    reason: str = ""
    """Why, in words; empty when finished."""
    batch_size: int = 0
    learning_rate: float = 0.0
    steps: int = 0
    examples: int = 0
    """Examples processed, epochs counted."""
    wall_s: float = 0.0
    """On the device, from message to reply."""
    cpu_s: float = 0.0
    round_trip_s: float = 0.0
    """At the server, from sending the order to reading its reply."""
    peak_memory_bytes: int = 0
    train_loss: float | None = None
    expected_s: float | None = None
    """This and the next three are the order's."""
    expected_low_s: float | None = None
    expected_high_s: float | None = None
    expected_by: str = ""
    known_s: float = 0.0
    """When the server came to know of it, in seconds since the epoch."""
    attempt: int = 0
    """How many orders the device had in this round before."""
    used: bool = False
    """Its update went into the model, at once or late."""
    staleness: int = 0
    """Versions of the model made between the sending of the order and the use of the update."""
    down_bytes: int = 0
    """Arrays received with the order, as they travel."""
    up_bytes: int = 0
    """Arrays sent with the reply, as they travel."""
    energy_wh: float = 0.0
    """Measured, or modelled where the fleet runs on a virtual clock."""
    squared_loss: float | None = None
    """Mean of the squared losses of single examples."""
    accuracy: float | None = None
    """Share of its local examples that the model got right while training."""
    width: float = 1.0
    """Share of the model's channels that it trained."""
    compression: str = "none"
    """How its update travelled."""
    physical_batch: int = 0
    """The most examples it held in memory at one time; 0 where it did not say."""
    threads: int = 0
    """Of its numeric library; 0 where it did not say."""
    celsius: float | None = None
    """Its temperature at the end; None where nothing measures or models one."""
    paused_s: float = 0.0
    """Of its seconds, those in which a limit of the device let it pause."""


@dataclass(frozen=True)
class RoundPlan:
    """What the server decided for one round. Same inputs and seed, same plan."""

    round: int
    orders: tuple[WorkOrder, ...]
    deadline_s: float
    quorum: int
    """Replies after which the round may end before its deadline."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """For every device taken, why."""
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For every reason, the known devices that were left out for it."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the policy wants to remember until the next plan; plain data."""
