"""What exporters read of a monitor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from motley.resource_limits import LimitKind, ResourceLimits
from motley.samples import Sample


class Exported(Protocol):
    """A ResourceMonitor, or what stands for one."""

    @property
    def current(self) -> Sample | None: ...

    @property
    def limits(self) -> ResourceLimits: ...

    @property
    def event_counts(self) -> Mapping[LimitKind, int]: ...

    @property
    def over(self) -> frozenset[LimitKind]: ...
