"""What keeps one training within the device's own limits: its governor, joined with what battery and heat say.

The strategy is `motley.governor`'s, chosen in the fleet file. It sees the container as it is while the work
goes on: what else runs there, and sensors, which the emulation of battery and heat stands for where it is on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from client.emulation import Control, Emulation
from client.emulator import modelled
from client.limits import limits_of
from motley.broker import Broker, Budget
from motley.errors import InputError, did_you_mean
from motley.governing import Governed, Listeners, Monitor
from motley.governor import GOVERNORS, Adjustment, Load
from motley.monitor import ResourceMonitor
from motley.resource_limits import ResourceLimits
from motley.samples import Sample

INTERVAL_S = 0.1
ASK_AGAIN_S = 0.5
BUDGET_DIRECTORY = Path(tempfile.gettempdir()) / "motley-budget"
"""Whatever else runs on the device joins its budget here; see `motley.broker`."""


class Governing:
    """Asked between the pieces of one training; use it in a `with` block around them.

    condition: what battery and heat say; govern: puts the strategy to work, None where there is none.
    """

    def __init__(self, condition: Control, govern: Callable[[Listeners], Governed] | None = None) -> None:
        self._condition = condition
        self._governed = None if govern is None else govern(Listeners(on_adjustment=self._count))
        self._adjustments, self._paused_s = 0, 0.0
        self._allowed: int | None = None

    @classmethod
    def of_node(
        cls,
        node: Mapping[str, object],
        emulation: Emulation,
        condition: Control,
        load: Load,
        memory_bytes: int | None,
        interval_s: float = INTERVAL_S,
    ) -> Governing:
        """As the fleet file has it.

        memory_bytes: the container's limit, which is what a cooperative device shares with its neighbours.
        """
        name = str(node.get("governor", "none"))
        if name == "none":
            return cls(condition)
        if name not in GOVERNORS:
            raise InputError(f"MOTLEY_GOVERNOR '{name}' is not known{did_you_mean(name, ['none', *GOVERNORS])}")
        limits = limits_of(node)
        budget_bytes = limits.memory_bytes or memory_bytes
        broker = Broker(BUDGET_DIRECTORY, Budget(budget_bytes)) if name == "cooperative" and budget_bytes else None

        def govern(listeners: Listeners) -> Governed:
            return Governed(
                GOVERNORS[name],
                limits,
                load,
                interval_s=interval_s,
                broker=broker,
                listeners=listeners,
                make_monitor=_monitor_with(emulation),
            )

        return cls(condition, govern)

    def __enter__(self) -> Self:
        if self._governed is not None:
            self._governed.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._governed is not None:
            self._governed.stop()

    def adjust(self) -> Adjustment:
        """What to do before the next piece. Raises DeviceStop where battery or heat end the work."""
        own = self._condition.adjust()
        if self._governed is None or own.wait:
            return own
        told = self._governed.adjustment()
        self._allowed = told.batch_size or self._allowed
        pause_s = max(own.pause_s, told.pause_s, ASK_AGAIN_S if told.wait else 0.0)
        self._paused_s += pause_s - own.pause_s
        return replace(told, pause_s=pause_s, reason="; ".join(filter(None, [own.reason, told.reason])))

    def fits(self, examples: int) -> None:
        """So many examples fit into memory by what was measured; the governor may allow fewer."""
        if self._governed is not None:
            self._governed.adopt(min(examples, self._allowed or examples))

    def figures(self) -> dict[str, float]:
        """For the report: condition, energy, pauses, and how often the governor changed what the work does."""
        known = self._condition.figures()
        if self._governed is None:
            return known
        return {**known, "paused_s": known.get("paused_s", 0.0) + self._paused_s, "adjustments": self._adjustments}

    def _count(self, adjustment: Adjustment, load: Load) -> None:
        self._adjustments += 1


def _monitor_with(emulation: Emulation) -> Callable[[float, ResourceLimits, Callable[[Sample], None]], Monitor]:
    """Makes the monitor: sensors, and the emulation's model in place of those that it stands for."""
    body = emulation.body

    def model(sample: Sample) -> Mapping[str, Any]:
        return {} if body is None else modelled(body, emulation.look(), time.monotonic())

    def make(interval_s: float, limits: ResourceLimits, on_sample: Callable[[Sample], None]) -> Monitor:
        return ResourceMonitor(interval_s, limits, on_sample=on_sample, model=model)

    return make
