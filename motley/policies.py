"""The named policies: which selection, local work, aggregation and pacing belong together, and their options.

A policy is what a fleet file's `training.policy` names. Its parts can be replaced one by one with
`training.local_work`, `training.aggregation`, `training.compression` and `training.width`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

LocalWork = Literal["fixed", "partial", "sized"]
Aggregation = Literal["fedavg", "fednova", "fedbuff", "momentum", "refl", "adaptive"]
Compression = Literal["none", "int8", "topk", "auto"]
Width = Literal["full", "auto"]
Pacing = Literal["rounds", "buffered"]

_Factor = Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class Options(BaseModel):
    """Options of one policy; most have none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


_Kind = TypeVar("_Kind", bound=Options)


def options_as(kind: type[_Kind], options: Options) -> _Kind:
    """`options` where they are of `kind`, else its defaults: parts of different policies can be mixed."""
    return options if isinstance(options, kind) else kind()


class OverCommitOptions(Options):
    over_commit: _Factor = 1.3
    """Devices asked, for each one whose reply is kept."""


class EnergyOptions(Options):
    floor: _Share = 0.2
    """Charge below which a device rests unless it is charging."""


class DeadlineOptions(Options):
    quantile: _Share = 0.5
    """The deadline, as a quantile of the expected durations, where the fleet file sets none."""


class FedProxOptions(Options):
    quantile: _Share = 0.5
    mu: _Weight = 0.01
    """Weight of the proximal term."""


class FedCSOptions(Options):
    quantile: _Share = 0.5
    candidates: _Factor = 3.0
    """Devices drawn as candidates, for each one wanted."""


class TiFLOptions(Options):
    tiers: Annotated[int, Field(ge=1, le=100)] = 5
    interval: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Rounds between two looks at the tiers' accuracies."""
    credits: _Factor = 2.0
    """Rounds that a tier may serve at most, as a multiple of an equal share of them."""


class OortOptions(OverCommitOptions):
    """Defaults are the paper's own release; `oort_fedscale` has the other published setting."""

    quantile: _Share = 0.1
    clip: _Share = 0.98
    exploration: _Share = 0.9
    decay: _Share = 0.95
    floor: _Share = 0.2
    cutoff: _Share = 0.7
    penalty: _Weight = 2.0
    pacer_step: _Share = 0.05
    pacer_interval: Annotated[int, Field(ge=1, le=100_000)] = 20


class OortFedScaleOptions(OortOptions):
    quantile: _Share = 0.3
    clip: _Share = 0.9
    decay: _Share = 0.98
    floor: _Share = 0.3
    cutoff: _Share = 0.05


class REFLOptions(OverCommitOptions):
    damping: _Share = 0.35
    """β of the weight of a stale update."""
    limit: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 10.0
    """c of the weight of a stale update."""
    memory: _Share = 0.25
    """Weight of the past in the moving average of the rounds' durations, which sets the deadline."""


class FedBuffOptions(Options):
    buffer: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Arrivals that make a new version of the model."""


class MomentumOptions(Options):
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    server_rate: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0


class AdaptiveOptions(Options):
    passes: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 0.7
    """Passes over its own examples for which a device of median speed gets time."""
    buffer: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.7
    """Arrivals that make a new version of the model, as a share of the devices at work at once."""
    smallest_batch: Annotated[int, Field(ge=1, le=65_536)] = 2
    gain: _Share = 0.5
    """How far rates make up for the momentum that a short run can't build up."""
    staleness: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.5
    """Exponent by which an update loses weight with the versions made since it began."""
    normalisation: _Share = 0.25
    """Between weighing by work (0, FedAvg) and making up for it (1, FedNova)."""
    averaging: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    """Weight of the past in the average of versions that is served; 0 serves the newest."""
    value: _Share = 0.5
    """Weight of a device's worth against chance, within a turn."""
    floor: _Share = 0.2
    """Charge below which a device rests unless it is charging."""


def buffer_size(options: Options, devices: int) -> int:
    """Arrivals that make a new version of the model, with so many devices at work at once.

    FedBuff counts them; ours is a share of those at work, which suits fleets of any size.
    """
    if isinstance(options, FedBuffOptions):
        return options.buffer
    return max(1, round(options_as(AdaptiveOptions, options).buffer * devices))


@dataclass(frozen=True)
class Policy:
    """The parts of a policy, each by its name."""

    selection: str
    options: type[Options] = Options
    pacing: Pacing = "rounds"
    local_work: LocalWork = "fixed"
    aggregation: Aggregation = "fedavg"
    compression: Compression = "none"
    width: Width = "full"
    purpose: str = ""
    """When to choose it, in a few words."""

    @property
    def uses_stale(self) -> bool:
        """Whether updates count that arrive after their round."""
        return self.pacing == "buffered" or self.aggregation in ("refl", "adaptive")


POLICIES: dict[str, Policy] = {
    "adaptive": Policy(
        "adaptive",
        AdaptiveOptions,
        pacing="buffered",
        local_work="sized",
        aggregation="adaptive",
        compression="auto",
        width="auto",
        purpose="the default: work sized to each device, nothing wasted, nobody left out",
    ),
    "random": Policy("random", purpose="FedAvg, the baseline: K at random, waits for all"),
    "over_commit": Policy("over_commit", OverCommitOptions, purpose="asks 1.3 K, keeps the first K"),
    "fastest": Policy("fastest", purpose="the K who are expected to be done first"),
    "fair": Policy("fair", purpose="the K who took part least often"),
    "energy_aware": Policy("energy_aware", EnergyOptions, purpose="the fullest batteries, those charging first"),
    "priority": Policy("priority", purpose="the classes with the highest priority"),
    "deadline": Policy("deadline", DeadlineOptions, purpose="at random among those who can keep the deadline"),
    "fedprox": Policy(
        "random", FedProxOptions, local_work="partial", purpose="partial work counts, with a proximal term"
    ),
    "fednova": Policy("random", aggregation="fednova", purpose="normalises by the steps really done"),
    "momentum": Policy("random", MomentumOptions, aggregation="momentum", purpose="server momentum (FedAvgM)"),
    "fedbuff": Policy(
        "random", FedBuffOptions, pacing="buffered", aggregation="fedbuff", purpose="asynchronous, every K arrivals"
    ),
    "fedcs": Policy("fedcs", FedCSOptions, purpose="as many as fit into a deadline, greedily"),
    "tifl": Policy("tifl", TiFLOptions, purpose="tiers of similar speed, the worst served first"),
    "oort": Policy("oort", OortOptions, purpose="statistical times system utility"),
    "oort_fedscale": Policy("oort", OortFedScaleOptions, purpose="Oort with FedScale's settings"),
    "refl": Policy("refl", REFLOptions, aggregation="refl", purpose="least available first, stale updates damped"),
    "heterofl": Policy("random", width="auto", purpose="narrower models for devices that can't hold the whole"),
}
