"""What all strategies share: CPU, power, temperature, battery and a granted share of the CPU. Pure.

CPU and power are held by feedback, once a step: cut when over, then raised a little at a time when
well below. Work is slowed by fewer threads first, and by pauses between steps below one thread. Heat
slows it in proportion to how near the limit is; at the limit the load waits until it has cooled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from motley.governor.base import Adjustment, Load
from motley.governor.memory import Pressure, within
from motley.resource_limits import ResourceLimits
from motley.samples import Sample

LEAST_DUTY = 0.05
RECOVERY = 0.05
"""Of the full speed, added each step while well below a limit."""
CALM = 0.9
"""Of a limit; below this there is room."""
HEAT_BAND_CELSIUS = 5.0
"""How far below the limit slowing down begins."""
COOLED_CELSIUS = 3.0
"""How far below the limit a load that waits goes on."""


@dataclass(frozen=True)
class Effort:
    """How hard the load may work, as shares of its full speed, 0–1."""

    by_cpu: float = 1.0
    """Of the most threads; below one thread the rest is made of pauses."""
    by_power: float = 1.0
    too_hot: bool = False
    step: int = -1
    """In which the feedback last acted."""


def next_effort(effort: Effort, sample: Sample, limits: ResourceLimits, load: Load, cut: float | None = None) -> Effort:
    """The effort after one more sample.

    cut: multiply by this when over a limit; None: by limit over use.
    """
    effort = replace(effort, too_hot=_too_hot(effort.too_hot, sample.celsius, limits.celsius))
    if load.steps <= effort.step:
        return effort
    used = None if sample.cpu_share is None else 100 * sample.cpu_share
    return replace(
        effort,
        by_cpu=_fed_back(effort.by_cpu, used, limits.cpu_percent, cut),
        by_power=_fed_back(effort.by_power, sample.power_w, limits.power_w, cut),
        step=load.steps,
    )


def _too_hot(was: bool, celsius: float | None, limit: float | None) -> bool:
    if celsius is None or limit is None:
        return False
    return celsius >= limit or (was and celsius > limit - COOLED_CELSIUS)


def _fed_back(share: float, used: float | None, limit: float | None, cut: float | None) -> float:
    if limit is None:
        return 1.0
    if used is None:
        return share
    if used > limit:
        return max(LEAST_DUTY, share * (limit / used if cut is None else cut))
    return min(1.0, share + RECOVERY) if used <= CALM * limit else share


def adjustment(
    batch_size: float, why: str, effort: Effort, sample: Sample, limits: ResourceLimits, load: Load
) -> Adjustment:
    """All that the load shall do; what stays as it is is None."""
    batch = within(batch_size, load)
    threads, duty = _threads_and_duty(effort, load)
    duty = max(LEAST_DUTY, min(duty, effort.by_power, _coolness(sample.celsius, limits.celsius)))
    stop = _battery_is_low(sample, limits)
    changed = batch != load.batch_size
    return Adjustment(
        batch_size=batch if changed else None,
        threads=threads if threads != load.threads else None,
        pause_s=max(0.0, load.step_s) * (1 / duty - 1),
        wait=effort.too_hot,
        stop=stop,
        reason="; ".join(filter(None, [why if changed else "", *_reasons(effort, stop, duty, threads, load)])),
    )


def _threads_and_duty(effort: Effort, load: Load) -> tuple[int, float]:
    most = max(1, load.most_threads)
    cores = effort.by_cpu * most
    if load.grant is not None and load.grant.cores is not None:
        cores = min(cores, load.grant.cores)
    threads = min(most, max(1, math.ceil(cores - 1e-9)))
    return threads, min(1.0, cores / threads)


def _coolness(celsius: float | None, limit: float | None) -> float:
    """The duty that heat allows: 1 below the band, falling to 0 at the limit."""
    if celsius is None or limit is None:
        return 1.0
    return min(1.0, max(0.0, (limit - celsius) / HEAT_BAND_CELSIUS))


def _battery_is_low(sample: Sample, limits: ResourceLimits) -> bool:
    if sample.battery_level is None or limits.battery_floor is None or sample.charging:
        return False
    return sample.battery_level <= limits.battery_floor


def _reasons(effort: Effort, stop: bool, duty: float, threads: int, load: Load) -> list[str]:
    return [
        "battery at its floor" if stop else "",
        "too hot, waits until cool" if effort.too_hot else "",
        f"works {100 * duty:.0f} % of the time" if duty < 1 else "",
        f"{threads} of {load.most_threads} threads" if threads != load.threads else "",
    ]


def in_words(action: str, pressure: Pressure, share: float) -> str:
    """Why a batch changes, such as "batch lowered: memory at 88 % of its limit"."""
    return f"batch {action}: {pressure.kind.replace('_', ' ')} at {100 * share:.0f} % of its limit"
