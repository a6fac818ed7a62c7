"""Where a watch's figures go besides the screen: a file that grows, Prometheus, OpenTelemetry."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TextIO

from motley.errors import InputError, MotleyError
from motley.monitor.exported import Exported
from motley.monitor.saving import as_csv, as_json_lines
from motley.samples import Sample


class Recorder:
    """Appends each sample to a file at once, so that a kill loses none.

    The formats are those of `ResourceMonitor.save_metrics`. Raises InputError where the file can't
    be opened, MotleyError where it can't be written later.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.samples = path, 0
        is_table = path.suffix.lower() == ".csv"
        self._render: Callable[[Sequence[Sample]], str] = as_csv if is_table else as_json_lines
        self._is_table = is_table
        try:
            self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise InputError(f"--save {path}: {error.strerror}") from None

    def add(self, sample: Sample) -> None:
        text = self._render([sample])
        if self._is_table and self.samples:
            text = text.split("\n", 1)[1]
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise MotleyError(f"{self.path}: can't be written: {error.strerror}") from None
        self.samples += 1

    def close(self) -> None:
        self._file.close()


@contextmanager
def serving(monitor: Exported, port: int) -> Iterator[str]:
    """Show the monitor to Prometheus on loopback; gives the address. Port 0: any that is free."""
    from prometheus_client import CollectorRegistry, start_http_server

    from motley.monitor.prometheus import MonitorCollector

    registry = CollectorRegistry()
    registry.register(MonitorCollector(monitor))
    try:
        server, thread = start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        raise InputError(f"--serve {port}: {error.strerror}; take another port, or 0 for any that is free") from None
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class LastComplaint(logging.Handler):
    """Keeps the last warning of a library for the picture, in place of lines across it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.text = shorten(record.getMessage(), 100, placeholder=" …")
        self.heard.set()


@contextmanager
def sending(monitor: Exported) -> Iterator[LastComplaint]:
    """Export over OTLP within the block; gives what the SDK last complained of.

    The SDK's warnings stay off the screen after it too: a thread that was given up may still have some.
    """
    from motley.monitor.otel import exporting

    log, complaint = logging.getLogger("opentelemetry"), LastComplaint()
    log.propagate = False
    log.handlers = [complaint]
    with exporting(monitor):
        yield complaint
