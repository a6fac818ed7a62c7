"""What the server has learned of its devices: one row a device, in columns, for plans over any number.

Expected seconds are the profile's own figures times a factor that past rounds have measured: of this
device where it has taken part, else the median of all that have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motley.device import DeviceProfile, Outcome, RoundOutcome
from motley.selection.base import Bools, Floats, Pool
from motley.spec import MEMORY_FLOOR_BYTES
from motley.workload import MIN_BATCH

REFERENCE_GFLOPS = 50.0
"""Result of the speed probe on the core for which recipes give their milliseconds per example."""

_COPIES = 4
_NEWEST = 0.3
_MIN_TRANSFER_S = 0.01
_KNOWN = (Outcome.FINISHED, Outcome.LATE)

_WHOLE = ("examples", "memory_bytes", "pinned_batch_size", "selected", "last_selected", "batch_limit", "looks", "seen")
_REAL = (
    *("gflops", "down_bits_per_s", "up_bits_per_s", "latency_s", "pinned_learning_rate", "priority", "battery"),
    *("nominal_example_s", "nominal_down_s", "nominal_up_s"),
    *("compute_factor", "link_factor", "loss", "squared_loss", "accuracy"),
)
_TYPES: dict[str, type] = {
    **dict.fromkeys(_WHOLE, np.int64),
    **dict.fromkeys(_REAL, np.float64),
    "charging": np.bool_,
    "resting": np.bool_,
}
_FROM_PROFILE = (
    *("examples", "memory_bytes", "gflops", "down_bits_per_s", "up_bits_per_s", "latency_s"),
    *("pinned_batch_size", "pinned_learning_rate", "priority", "charging", "resting"),
)
_UNKNOWN = ("compute_factor", "link_factor", "loss", "squared_loss", "accuracy")


@dataclass(frozen=True)
class TaskFigures:
    """What planning must know of a task. `learning_rate` is right at a batch of 32."""

    learning_rate: float
    ms_per_example: float
    """Training milliseconds of one reference core for one example."""
    model_bytes: int
    bytes_per_example: int = 0
    momentum: float = 0.0
    """Of local SGD."""

    def need_bytes(self, width: float = 1.0) -> int:
        """Memory to train the model at the smallest batch, at a share of its channels.

        Weights, gradients, momenta and the update, each of the model's size, which shrinks with the
        square of the width; activations shrink with the width.
        """
        model_bytes = _COPIES * self.model_bytes * width**2
        return MEMORY_FLOOR_BYTES + int(model_bytes + MIN_BATCH * self.bytes_per_example * width)


class Knowledge:
    """Columns over all devices of a run, in the order in which they joined."""

    def __init__(self, task: TaskFigures) -> None:
        self.task = task
        self.names: list[str] = []
        self._row_of: dict[str, int] = {}
        self._columns: dict[str, NDArray[Any]] = {name: np.zeros(0, kind) for name, kind in _TYPES.items()}

    def __len__(self) -> int:
        return len(self.names)

    def row(self, device: str) -> int:
        return self._row_of[device]

    def column(self, name: str) -> NDArray[Any]:
        """One column, shape (devices,); a view."""
        return self._columns[name][: len(self.names)]

    def join(self, profile: DeviceProfile) -> int:
        """Take a device in, or renew what its profile says; returns its row."""
        row = self._row_of.get(profile.device)
        if row is None:
            row = self._row_of[profile.device] = len(self.names)
            self._grow(row)
            self.names.append(profile.device)
        columns, size = self._columns, self.task.model_bytes
        for name in _FROM_PROFILE:
            columns[name][row] = getattr(profile, name)
        columns["battery"][row] = profile.battery_level if profile.battery_level >= 0 else np.nan
        columns["nominal_example_s"][row] = self._nominal_example_s(profile.gflops)
        columns["nominal_down_s"][row] = _nominal_transfer_s(profile.latency_s, profile.down_bits_per_s, size)
        columns["nominal_up_s"][row] = _nominal_transfer_s(profile.latency_s, profile.up_bits_per_s, size)
        return row

    def look(self, connected: Bools) -> None:
        """Note who was connected, of shape (devices,)."""
        self.column("looks")[:] += 1
        self.column("seen")[:] += connected

    def select(self, rows: Sequence[int], number: int) -> None:
        """Note whom round `number` has taken."""
        taken = np.asarray(rows, np.int64)
        self._columns["selected"][taken] += 1
        self._columns["last_selected"][taken] = number

    def learn(self, outcome: RoundOutcome) -> None:
        """Keep what the next plans need to know of this device."""
        row = self.row(outcome.device)
        self._columns["resting"][row] = outcome.outcome in (Outcome.BATTERY_EMPTY, Outcome.TOO_HOT)
        if outcome.outcome is Outcome.OUT_OF_MEMORY:
            before = int(self._columns["batch_limit"][row]) or outcome.batch_size
            self._columns["batch_limit"][row] = max(1, min(before, outcome.batch_size) // 2)
        if outcome.outcome in _KNOWN and outcome.examples:
            self._time(row, outcome)
            for name, value in (
                ("loss", outcome.train_loss),
                ("squared_loss", outcome.squared_loss),
                ("accuracy", outcome.accuracy),
            ):
                if value is not None:
                    self._columns[name][row] = value

    def set_battery(self, device: str, level: float, charging: bool) -> None:
        self._columns["battery"][self.row(device)] = level
        self._columns["charging"][self.row(device)] = charging

    def resting(self) -> list[str]:
        """Devices that took no work when they were last heard of: their battery was empty, or they were too hot."""
        return [self.names[row] for row in np.flatnonzero(self.column("resting"))]

    def example_s(self) -> Floats:
        """Expected training seconds for one example."""
        return self.column("nominal_example_s") * self._factor("compute_factor")

    def transfer_s(self) -> tuple[Floats, Floats]:
        """Expected seconds to receive and to send the whole model."""
        factor = self._factor("link_factor")
        return self.column("nominal_down_s") * factor, self.column("nominal_up_s") * factor

    def pool(self, free: Bools, local_epochs: int, at_work: Bools | None = None) -> Pool:
        """The columns that a policy sees; `free` and `at_work`, nobody where None, have shape (devices,)."""
        download_s, upload_s = self.transfer_s()
        return Pool(
            names=self.names,
            free=free,
            at_work=np.zeros(len(self), bool) if at_work is None else at_work,
            examples=self._copy("examples"),
            memory_bytes=self._copy("memory_bytes"),
            download_s=download_s,
            compute_s=self.example_s() * self.column("examples") * local_epochs,
            upload_s=upload_s,
            tried=~np.isnan(self.column("compute_factor")),
            selected=self._copy("selected"),
            last_selected=self._copy("last_selected"),
            loss=self._copy("loss"),
            squared_loss=self._copy("squared_loss"),
            accuracy=self._copy("accuracy"),
            battery=self._copy("battery"),
            charging=self._copy("charging"),
            ready=(self.column("seen") + 1.0) / (self.column("looks") + 1.0),
            priority=self._copy("priority"),
        )

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain data and arrays; `restore` takes it."""
        return {"names": list(self.names), "columns": {name: self._copy(name) for name in _TYPES}}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.names = list(state["names"])
        self._row_of = {name: row for row, name in enumerate(self.names)}
        self._columns = {name: np.array(state["columns"][name], kind) for name, kind in _TYPES.items()}

    def _grow(self, row: int) -> None:
        for name, column in self._columns.items():
            if row >= len(column):
                self._columns[name] = np.concatenate([column, np.zeros(max(16, len(column)), column.dtype)])
        for name in _UNKNOWN:
            self._columns[name][row] = np.nan

    def _copy(self, name: str) -> NDArray[Any]:
        return np.array(self.column(name))

    def _time(self, row: int, outcome: RoundOutcome) -> None:
        """Measure the device against its own profile."""
        columns, size = self._columns, self.task.model_bytes
        nominal_s = float(columns["nominal_example_s"][row]) * outcome.examples
        self._average("compute_factor", row, outcome.wall_s / nominal_s)
        latency_s = float(columns["latency_s"][row])
        nominal_transfer_s = sum(
            _nominal_transfer_s(latency_s, float(columns[way][row]), carried or size)
            for way, carried in (("down_bits_per_s", outcome.down_bytes), ("up_bits_per_s", outcome.up_bytes))
        )
        self._average("link_factor", row, max(outcome.round_trip_s - outcome.wall_s, 0.0) / nominal_transfer_s)

    def _average(self, name: str, row: int, value: float) -> None:
        """An exponential moving average, the newest weighing 0.3."""
        before = self._columns[name][row]
        self._columns[name][row] = value if np.isnan(before) else (1 - _NEWEST) * before + _NEWEST * value

    def _factor(self, name: str) -> Floats:
        own = self._copy(name)
        unknown = np.isnan(own)
        if unknown.any():
            own[unknown] = 1.0 if unknown.all() else np.median(own[~unknown])
        return own

    def _nominal_example_s(self, gflops: float) -> float:
        return self.task.ms_per_example / 1000 * REFERENCE_GFLOPS / max(gflops, 1e-6)


def _nominal_transfer_s(latency_s: float, bits_per_s: float, size_bytes: int) -> float:
    return latency_s + _MIN_TRANSFER_S + (8 * size_bytes / bits_per_s if bits_per_s > 0 else 0.0)
