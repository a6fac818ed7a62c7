"""The fleet file as strict, frozen models: which devices there are and what they learn together.

Every model refuses unknown keys. Text with units is parsed here, once; everywhere else quantities
are plain numbers whose names carry the unit. `motley.fleetfile` reads the text and turns a
validation error into one line with file and line number.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from motley import units

MEMORY_FLOOR_BYTES = 288 * units.parse_bytes("1m")
"""Least memory in which a device container starts, trains and answers; measured, see docs/limits.md."""

MIN_CPUS = 0.01
"""Docker's smallest CPU quota: 1 ms in each period of 100 ms."""

MAX_DEVICES = 10_000
MAX_ROUNDS = 100_000
MAX_MEMORY_BYTES = 2**50

ALL = 0
"""The value of `devices_per_round: all`."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_OBJECT_REF = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

BUILT_IN_TASKS = ("digits", "cifar10", "fashion_mnist")
POLICIES = ("random", "fastest", "fair")


class RuleError(ValueError):
    """A rule that spans fields is broken; `where` is the path of the value to blame."""

    def __init__(self, where: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.where = where


def _auto(value: object) -> object:
    """`auto` becomes None: whoever plans the round decides."""
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"'{value}' is neither a number nor 'auto'")
    return None if value == "auto" else value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"'{value}' is not a name; use lower-case letters, digits and '-', starting with a letter")
    return value


def _task(value: str) -> str:
    if value not in BUILT_IN_TASKS and not _OBJECT_REF.fullmatch(value):
        from motley.errors import did_you_mean

        raise ValueError(f"unknown task '{value}'{did_you_mean(value, BUILT_IN_TASKS)} (or your own 'module:function')")
    return value


def _as_text(parse: Any, form: Any) -> Any:
    return [BeforeValidator(parse), PlainSerializer(lambda value: None if value is None else form(value))]


def _all(value: object) -> object:
    if isinstance(value, str) and value != "all":
        raise ValueError(f"'{value}' is neither a number nor 'all'")
    if value == ALL and not isinstance(value, bool):
        raise ValueError("0 devices learn nothing; write a number from 1, or 'all'")
    return ALL if value == "all" else value


def _memory(value: int) -> int:
    if value > MAX_MEMORY_BYTES:
        raise ValueError(f"no machine has that much; write at most '{units.format_bytes(MAX_MEMORY_BYTES)}'")
    return value


_or_all = PlainSerializer(lambda value: "all" if value == ALL else value)
_or_auto = PlainSerializer(lambda value: "auto" if value is None else value)

Name = Annotated[str, AfterValidator(_name)]
Memory = Annotated[int, *_as_text(units.parse_bytes, units.format_bytes), Field(gt=0), AfterValidator(_memory)]
BitRate = Annotated[float, *_as_text(units.parse_bits_per_s, units.format_bits_per_s), Field(gt=0)]
Seconds = Annotated[float, *_as_text(units.parse_seconds, units.format_seconds), Field(ge=0)]
WattHours = Annotated[float, *_as_text(units.parse_watt_hours, units.format_watt_hours), Field(gt=0)]
Cores = Annotated[float, Field(ge=MIN_CPUS, le=1024, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
BatchSize = Annotated[Annotated[int, Field(ge=1, le=65536)] | None, BeforeValidator(_auto), _or_auto]
LearningRate = Annotated[
    Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None, BeforeValidator(_auto), _or_auto
]
Port = Annotated[int, Field(ge=1, le=65535)]


def _auto_or_seconds(value: object) -> float | None:
    return None if value == "auto" else units.parse_seconds(value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Training(_Strict):
    """What is learned, and how each round is run."""

    task: Annotated[str, AfterValidator(_task)] = "digits"
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] = 20
    policy: Literal["random", "fastest", "fair"] = "random"
    devices_per_round: Annotated[int, BeforeValidator(_all), _or_all] = ALL
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch_size: BatchSize = None
    learning_rate: LearningRate = None
    target_accuracy: Ratio | None = None
    deadline: Annotated[
        Annotated[float, Field(gt=0, le=86_400)] | None,
        BeforeValidator(_auto_or_seconds),
        PlainSerializer(lambda value: "auto" if value is None else units.format_seconds(value)),
    ] = None
    quorum: Ratio = 1.0
    device_evaluation: Literal["never", "last", "every"] = "last"


class Data(_Strict):
    """How the training set is divided among the devices."""

    partition: Literal["iid", "dirichlet", "shards"] = "dirichlet"
    alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 0.5
    shards_per_device: Annotated[int, Field(ge=1, le=1000)] = 2
    share: Ratio = 1.0


class Network(_Strict):
    """A device's link. Rates shape the container's own interface; latency is added to each packet sent."""

    down: BitRate | None = None
    up: BitRate | None = None
    latency: Seconds | None = None


class Battery(_Strict):
    """A device's battery: its capacity, how full it starts, and the level below which it rests."""

    capacity: WattHours
    level: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    floor: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    charging: bool = False


class Heat(_Strict):
    """Temperatures in degrees Celsius: of the surroundings, where throttling starts, and the limit."""

    ambient_celsius: Annotated[float, Field(ge=-40, le=60, allow_inf_nan=False)] = 25.0
    throttle_celsius: Annotated[float, Field(ge=0, le=120, allow_inf_nan=False)] = 45.0
    limit_celsius: Annotated[float, Field(ge=0, le=120, allow_inf_nan=False)] = 60.0

    @model_validator(mode="after")
    def _in_order(self) -> Heat:
        if not self.ambient_celsius < self.throttle_celsius <= self.limit_celsius:
            raise RuleError(
                ("throttle_celsius",),
                f"throttle_celsius {self.throttle_celsius:g} must lie between ambient {self.ambient_celsius:g} "
                f"and limit {self.limit_celsius:g}",
            )
        return self


class DeviceClass(_Strict):
    """Devices described together."""

    count: Annotated[int, Field(ge=0, le=MAX_DEVICES)] = 1
    cpus: Cores
    memory: Memory
    batch_size: BatchSize = None
    learning_rate: LearningRate = None
    network: Network | None = None
    battery: Battery | None = None
    heat: Heat | None = None
    accelerators: Annotated[int, Field(ge=0, le=16)] = 0

    @model_validator(mode="after")
    def _above_floor(self) -> DeviceClass:
        if self.memory < MEMORY_FLOOR_BYTES:
            floor = units.format_bytes(MEMORY_FLOOR_BYTES)
            raise RuleError(
                ("memory",),
                f"memory '{units.format_bytes(self.memory)}' is below the measured floor of {floor}: a device "
                f"needs that much to start PyTorch and Flower; write at least '{floor}'",
            )
        return self


class Server(_Strict):
    """Limits of the server container, and how it opens and closes a run."""

    cpus: Cores = 0.5
    memory: Memory = 1024**3
    join_timeout: Seconds = 180.0
    join_quorum: Ratio = 0.5
    after_run: Literal["stay", "exit"] = "stay"


class Monitoring(_Strict):
    """Prometheus, cAdvisor and Grafana beside the fleet; ports are bound to the loopback address."""

    enabled: bool = True
    prometheus_port: Port = 9090
    grafana_port: Port = 3000


Classes = dict[Name, DeviceClass]


class Fleet(_Strict):
    """A whole fleet file."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    training: Training = Training()
    data: Data = Data()
    classes: Annotated[Classes, Field(min_length=1)]
    presets: dict[Name, Annotated[Classes, Field(min_length=1)]] = {}
    server: Server = Server()
    monitoring: Monitoring = Monitoring()

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
        return self

    @property
    def total_devices(self) -> int:
        return sum(each.count for each in self.classes.values())

    @property
    def client_cpus(self) -> float:
        """CPU quotas of all devices together, in cores."""
        return sum(each.count * each.cpus for each in self.classes.values())

    @property
    def total_cpus(self) -> float:
        """CPU quotas of all devices and the server together, in cores."""
        return self.client_cpus + self.server.cpus

    def devices(self) -> Iterator[Device]:
        """Every device, class by class; `partition` counts from 0 over the whole fleet."""
        partition = 0
        for class_name, each in self.classes.items():
            for _ in range(each.count):
                yield Device(f"client-{partition + 1}", class_name, partition, each)
                partition += 1

    def with_preset(self, preset: str) -> Fleet:
        """The same fleet with the device classes of `preset`.

        Raises KeyError when there is none, ValidationError when the rest of the fleet does not suit it.
        """
        return self._replace(classes=self.presets[preset])

    def with_rounds(self, rounds: int) -> Fleet:
        return self._replace(training=self.training.model_copy(update={"rounds": rounds}))

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
        """The same fleet with every CPU quota times `factor`, rounded down to a thousandth of a core."""

        def less(cpus: float) -> float:
            return int(cpus * factor * 1000 + 1e-6) / 1000

        classes = {name: each.model_copy(update={"cpus": less(each.cpus)}) for name, each in self.classes.items()}
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
            if counts.get(name, 0)
        }
        return self._replace(classes=classes)

    def _replace(self, **changes: Any) -> Fleet:
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Fleet(**{**fields, **changes})


class Device:
    """One device of the fleet, as planned: its name, its class and which shard of the data is its own."""

    __slots__ = ("class_name", "name", "partition", "spec")

    def __init__(self, name: str, class_name: str, partition: int, spec: DeviceClass) -> None:
        self.name = name
        self.class_name = class_name
        self.partition = partition
        self.spec = spec
