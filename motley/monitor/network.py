"""Bytes received and sent."""

from __future__ import annotations

from pathlib import Path

from motley.kernel_files import parse_number, read_text
from motley.limits import PROC
from motley.monitor.reading import Missing, Reading

_LOOPBACK = "lo"
_RECEIVED, _SENT, _COLUMNS = 0, 8, 16


class Network:
    """Over all interfaces of this network namespace but the loopback, since they came up."""

    fields = ("received_bytes", "sent_bytes")

    def __init__(self, proc: Path = PROC) -> None:
        self._file = proc / "net" / "dev"

    def read(self, now_s: float) -> Reading:
        rows = [row for line in read_text(self._file).splitlines()[2:] if (row := _row(line)) is not None]
        if not rows:
            return dict.fromkeys(self.fields, Missing("no network interface but the loopback"))
        return {"received_bytes": sum(row[0] for row in rows), "sent_bytes": sum(row[1] for row in rows)}

    def close(self) -> None:
        pass


def _row(line: str) -> tuple[int, int] | None:
    """Received and sent bytes of one interface. Its name may hold colons, its counters do not."""
    name, _, counters = line.rpartition(":")
    numbers = [parse_number(word) for word in counters.split()]
    if name.strip() == _LOOPBACK or len(numbers) < _COLUMNS:
        return None
    received, sent = numbers[_RECEIVED], numbers[_SENT]
    return None if received is None or sent is None else (received, sent)
