"""The fleet file as strict, frozen models: which devices there are and what they learn together.

Every model refuses unknown keys. `motley.fleetfile` reads the text and turns a validation error into
one line with file and line number; `motley.hardware` has the device classes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from motley.errors import InputError, did_you_mean
from motley.hardware import DeviceClass, DeviceSpec, Network
from motley.policies import POLICIES, Aggregation, Compression, LocalWork, Options, Policy, Width
from motley.population import Distribution
from motley.quantities import (
    ALL,
    BUILT_IN_TASKS,
    FIT,
    MAX_DEVICES,
    MAX_ROUNDS,
    MEMORY_FLOOR_BYTES,
    MIN_CPUS,
    Cores,
    Deadline,
    DevicesPerRound,
    FittingBatchSize,
    LearningRate,
    Memory,
    Name,
    Port,
    Ratio,
    RuleError,
    Seconds,
    Strict,
    Task,
    Weight,
)
from motley.scaling_spec import Scaling

__all__ = [
    "ALL",
    "BUILT_IN_TASKS",
    "FIT",
    "MAX_DEVICES",
    "MAX_ROUNDS",
    "MEMORY_FLOOR_BYTES",
    "MIN_CPUS",
    "POLICIES",
    "Data",
    "Device",
    "DeviceClass",
    "DeviceSpec",
    "Fleet",
    "Network",
    "RuleError",
    "Scaling",
    "Training",
]


def _policy(value: str) -> str:
    if value not in POLICIES:
        raise RuleError((), f"policy '{value[:60]}' is not known{did_you_mean(value[:60], POLICIES)}")
    return value


def _own_unless_told(value: object) -> object:
    return None if value == "auto" else value


class Training(Strict):
    """What is learned, and how each round is run."""

    task: Task = "digits"
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] = 20
    policy: Annotated[str, AfterValidator(_policy)] = "adaptive"
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the policy; `policy_options` has them checked and complete."""
    local_work: Annotated[LocalWork | None, BeforeValidator(_own_unless_told)] = None
    """This and the next three replace a part of the policy; None keeps the policy's own."""
    aggregation: Annotated[Aggregation | None, BeforeValidator(_own_unless_told)] = None
    compression: Compression | None = None
    width: Width | None = None
    proximal: Weight | None = None
    """μ of FedProx's proximal term, with any policy; None leaves it to the policy."""
    devices_per_round: DevicesPerRound = ALL
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch_size: FittingBatchSize = None
    learning_rate: LearningRate = None
    rate_scaling: Literal["sqrt", "linear"] | None = None
    """How a learning rate that is not pinned follows the batch; None: sqrt."""
    target_accuracy: Ratio | None = None
    deadline: Deadline = None
    quorum: Ratio = 1.0
    max_time: Annotated[Seconds, Field(gt=0)] | None = None
    """The run ends when so many seconds have passed, though rounds are left."""
    device_evaluation: Literal["never", "last", "every"] = "last"

    @model_validator(mode="after")
    def _options_fit(self) -> Training:
        _options_of(self.policy, self.options)
        return self

    @property
    def chosen(self) -> Policy:
        """The policy, with the parts that the file replaces."""
        parts = {name: getattr(self, name) for name in ("local_work", "aggregation", "compression", "width")}
        return replace(POLICIES[self.policy], **{name: part for name, part in parts.items() if part is not None})

    @property
    def policy_options(self) -> Options:
        """The options of the policy, each as the file says or at its default."""
        return _options_of(self.policy, self.options)


def _options_of(policy: str, options: Mapping[str, Any]) -> Options:
    """The checked options of a policy. Raises RuleError naming option, value and range."""
    model = POLICIES[policy].options
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] != "extra_forbidden":
            message = f"{name} {str(first['input'])[:60]!r}: policy '{policy}' needs {_range(model, name)}"
        elif model.model_fields:
            message = f"policy '{policy}' has no option '{name[:60]}'{did_you_mean(name, model.model_fields)}"
        else:
            message = f"policy '{policy}' has no options; remove '{name[:60]}'"
        raise RuleError(("options", name), message) from None


def _range(model: type[Options], name: str) -> str:
    """What an option may be, in words: 'a number from 1 to 10'."""
    field = model.model_fields[name]
    words = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "to below {}"}
    kind = "a whole number" if field.annotation is int else "a number"
    limits = [
        text.format(value)
        for key, text in words.items()
        for each in field.metadata
        if (value := getattr(each, key, None)) is not None
    ]
    return " ".join([kind, *limits])


class Data(Strict):
    """How the training set is divided among the devices."""

    partition: Literal["iid", "dirichlet", "shards", "by_speed", "natural"] = "dirichlet"
    alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 0.5
    shards_per_device: Annotated[int, Field(ge=1, le=1000)] = 2
    share: Ratio = 1.0
    examples_per_device: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Each device draws so many with replacement, in its partition's proportions of labels; None: all
    examples are dealt, each once."""


class Server(Strict):
    """Limits of the server container, and how it opens and closes a run."""

    cpus: Cores = 0.5
    memory: Memory = 1024**3
    join_timeout: Seconds = 180.0
    join_quorum: Ratio = 0.5
    after_run: Literal["stay", "exit"] = "stay"


class Monitoring(Strict):
    """Prometheus, cAdvisor and Grafana beside the fleet; ports are bound to the loopback address."""

    enabled: bool = True
    prometheus_port: Port = 9090
    grafana_port: Port = 3000


Classes = dict[Name, DeviceClass]
_WITHOUT_DIVISION = tuple(each for each in BUILT_IN_TASKS if each != "synthetic")


class Fleet(Strict):
    """A whole fleet file."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    training: Training = Training()
    data: Data = Data()
    classes: Annotated[Classes, Field(min_length=1)]
    presets: dict[Name, Annotated[Classes, Field(min_length=1)]] = Field(default_factory=dict)
    server: Server = Server()
    monitoring: Monitoring = Monitoring()
    scaling: Scaling | None = None

    @model_validator(mode="after")
    def _scaling_fits(self) -> Fleet:
        if self.scaling is not None:
            self.scaling.check_against({name: each.count for name, each in self.classes.items()})
        return self

    @model_validator(mode="after")
    def _counts(self) -> Fleet:
        total = self.total_devices
        if not 1 <= total <= MAX_DEVICES:
            raise RuleError(("classes",), f"the classes hold {total} devices; write 1 to {MAX_DEVICES}")
        asked = self.training.devices_per_round
        if asked != ALL and not 1 <= asked <= total:
            raise RuleError(
                ("training", "devices_per_round"),
                f"devices_per_round {asked} does not fit a fleet of {total}; write 1 to {total}, or 'all'",
            )
        if self.monitoring.prometheus_port == self.monitoring.grafana_port:
            raise RuleError(
                ("monitoring", "grafana_port"),
                f"grafana_port {self.monitoring.grafana_port} is Prometheus's port too; write another",
            )
        if self.data.partition == "natural" and self.training.task in _WITHOUT_DIVISION:
            raise RuleError(
                ("data", "partition"),
                f"task '{self.training.task}' has no natural division; write 'dirichlet', or use task 'synthetic'",
            )
        return self

    @property
    def total_devices(self) -> int:
        return sum(each.count for each in self.classes.values())

    @property
    def shards(self) -> int:
        """Devices among which the data are dealt: those of the file, and all that scaling may add."""
        if self.scaling is None or not self.scaling.enabled:
            return self.total_devices
        return self.scaling.max

    def newcomer(self, number: int) -> Device:
        """The device that scaling adds as the `number`-th, from 1: like the first of its class.

        Its shard is one that none of the file's devices has; the shards of newcomers that have gone are dealt
        out again, in turn. Raises ValueError where scaling adds none.
        """
        spare = self.shards - self.total_devices
        if self.scaling is None or spare < 1:
            raise ValueError("this fleet does not grow")
        name = self.scaling.device_class
        spec = next(self.classes[name].model_copy(update={"count": 1}).specs(self.seed, name))
        shard = self.total_devices + (number - 1) % spare
        return Device(f"client-{self.total_devices + number}", name, shard, spec)

    @property
    def client_cpus(self) -> float:
        """CPU quotas of all devices together, in cores."""
        return sum(
            each.count * each.cpus
            if not isinstance(each.cpus, Distribution)
            else sum(device.cpus for device in each.specs(self.seed, name))
            for name, each in self.classes.items()
        )

    @property
    def total_cpus(self) -> float:
        """CPU quotas of all devices and the server together, in cores."""
        return self.client_cpus + self.server.cpus

    def devices(self) -> Iterator[Device]:
        """Every device, class by class; `partition` counts from 0 over the whole fleet.

        What a class leaves to chance is drawn here: from the fleet's seed, the names of class and field
        and the device's place in its class, so that more devices leave the first ones as they were.
        """
        partition = 0
        for class_name, each in self.classes.items():
            for spec in each.specs(self.seed, class_name):
                yield Device(f"client-{partition + 1}", class_name, partition, spec)
                partition += 1

    def slowness(self) -> list[float]:
        """How long the device of each shard takes for an example; see `DeviceSpec.slowness`."""
        newcomers = (self.newcomer(number) for number in range(1, self.shards - self.total_devices + 1))
        return [device.spec.slowness for device in chain(self.devices(), newcomers)]

    def with_preset(self, preset: str) -> Fleet:
        """The same fleet with the device classes of `preset`.

        Raises KeyError when there is none, ValidationError when the rest of the fleet does not suit it.
        """
        return self._replace(classes=self.presets[preset])

    def with_rounds(self, rounds: int) -> Fleet:
        return self._replace(training=self.training.model_copy(update={"rounds": rounds}))

    def with_policy(self, name: str, options: Mapping[str, Any] | None = None) -> Fleet:
        """The same fleet under a policy as published: with `options`, and none of its parts replaced.

        Raises InputError for an unknown policy or option, or a value out of its range.
        """
        if name not in POLICIES:
            raise InputError(f"policy '{name}' is not known{did_you_mean(name, POLICIES)}")
        try:
            _options_of(name, options or {})
        except RuleError as error:
            raise InputError(str(error)) from None
        parts = dict.fromkeys(("local_work", "aggregation", "compression", "width", "proximal"))
        changes = {"policy": name, "options": dict(options or {}), **parts}
        return self._replace(training=self.training.model_copy(update=changes))

    def with_seed(self, seed: int) -> Fleet:
        """The same fleet file with other devices drawn, other data dealt and another run."""
        return self._replace(seed=seed)

    def with_max_time(self, seconds: float) -> Fleet:
        return self._replace(training=self.training.model_copy(update={"max_time": seconds}))

    def leaving_after_run(self) -> Fleet:
        """The same fleet with a server that ends when its run has ended."""
        return self._replace(server=self.server.model_copy(update={"after_run": "exit"}))

    def with_total(self, total: int) -> Fleet:
        """The same fleet with `total` devices in the file's proportions (largest remainder)."""
        if total == self.total_devices:
            return self
        exact = {name: total * each.count / self.total_devices for name, each in self.classes.items()}
        counts = {name: int(value) for name, value in exact.items()}
        by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
        for name in by_remainder[: total - sum(counts.values())]:
            counts[name] += 1
        return self._with_counts(counts)

    def drawn(self, total: int, seed: int) -> Fleet:
        """The same fleet with `total` devices drawn at random, each class as likely as its count."""
        names = list(self.classes)
        weights = [self.classes[name].count for name in names]
        return self._with_counts(Counter(random.Random(seed).choices(names, weights, k=total)))

    def scaled(self, factor: float) -> Fleet:
        """The same fleet with every CPU quota times `factor`, rounded down to a thousandth of a core.

        A distribution is scaled as a whole; what is drawn from it is rounded down to a ten-thousandth.
        """

        def less(cpus: float) -> float:
            return int(cpus * factor * 1000 + 1e-6) / 1000

        def scaled(cpus: float | Distribution[float]) -> float | Distribution[float]:
            return cpus.times(factor) if isinstance(cpus, Distribution) else less(cpus)

        classes = {name: each.model_copy(update={"cpus": scaled(each.cpus)}) for name, each in self.classes.items()}
        return self._replace(
            classes=classes, server=self.server.model_copy(update={"cpus": less(self.server.cpus)}), presets={}
        )

    def as_mapping(self) -> dict[str, Any]:
        """Plain data that reads back as the same fleet; presets, which are not in use, are left out."""
        return self.model_dump(mode="json", exclude={"presets"}, exclude_none=True)

    def _with_counts(self, counts: Mapping[str, int]) -> Fleet:
        classes = {
            name: each.model_copy(update={"count": counts.get(name, 0)})
            for name, each in self.classes.items()
            if counts.get(name, 0) or (self.scaling is not None and name == self.scaling.device_class)
        }
        total = sum(counts.values())
        if self.scaling is not None and total > self.scaling.max:
            raise InputError(f"{total} devices are above scaling.max {self.scaling.max}; raise that first")
        return self._replace(classes=classes)

    def _replace(self, **changes: Any) -> Fleet:
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Fleet(**{**fields, **changes})


class Device:
    """One device of the fleet, as planned: its name, its class, its shard of the data and its hardware."""

    __slots__ = ("class_name", "name", "partition", "spec")

    def __init__(self, name: str, class_name: str, partition: int, spec: DeviceSpec) -> None:
        self.name = name
        self.class_name = class_name
        self.partition = partition
        self.spec = spec
