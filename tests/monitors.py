"""A sample of which everything is known, and stand-ins for what gives samples."""

from __future__ import annotations

from dataclasses import dataclass, field

from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import GpuSample, Sample

MIB = 2**20
FULL = Sample(
    at_s=1_700_000_000.0,
    process_memory_bytes=100 * MIB,
    memory_bytes=300 * MIB,
    memory_limit_bytes=400 * MIB,
    machine_memory_bytes=5000 * MIB,
    machine_memory_total_bytes=16000 * MIB,
    cpu_share=0.5,
    throttled_share=0.25,
    cpu_pressure=0.125,
    memory_pressure=0.0,
    oom_kills=2,
    gpus=(GpuSample(1, "NVIDIA X", 10 * MIB, 20 * MIB, 0.75, 90.0, 61.0),),
    power_w=7.5,
    power_source="modelled",
    celsius=48.0,
    celsius_source="hwmon",
    battery_level=0.875,
    charging=False,
    battery_source="psutil",
    received_bytes=1000,
    sent_bytes=10,
)
LIMITS = ResourceLimits(350 * MIB, 80.0, 15 * MIB, 10.0, 70.0, 0.25)


@dataclass
class Watched:
    """As much of a monitor as the exporters read."""

    current: Sample | None = FULL
    limits: ResourceLimits = LIMITS
    event_counts: dict[LimitKind, int] = field(default_factory=lambda: {LimitKind.MEMORY: 3})
    over: frozenset[LimitKind] = frozenset({LimitKind.MEMORY})


UNKNOWN = Watched(None, ResourceLimits(), {}, frozenset())


class Half:
    """A source of one figure, 0.5."""

    fields = ("cpu_share",)

    def read(self, now_s: float) -> dict[str, float]:
        return {"cpu_share": 0.5}

    def close(self) -> None:
        pass
