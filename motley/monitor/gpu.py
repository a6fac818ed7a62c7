"""GPUs through NVML, whose Python module and library are loaded on the first read."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from motley.monitor.reading import Missing, Reading, reason_of
from motley.samples import GpuSample


def load_nvml() -> Any:
    """The module of nvidia-ml-py. Raises ImportError."""
    return importlib.import_module("pynvml")


class Gpus:
    """All GPUs that NVML shows. A figure that one of them lacks is None with a reason of its own."""

    fields = ("gpus",)

    def __init__(self, load: Callable[[], Any] = load_nvml) -> None:
        self._load = load
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._names: list[str] = []
        self._absent: Missing | None = None

    def read(self, now_s: float) -> Reading:
        if self._nvml is None and self._absent is None:
            self._absent = self._open()
        if self._absent is not None:
            return {"gpus": self._absent}
        missing: dict[str, Missing] = {}
        gpus = tuple(self._gpu(index, missing) for index in range(len(self._handles)))
        return {"gpus": gpus, **missing}

    def close(self) -> None:
        nvml, self._nvml, self._absent, self._handles = self._nvml, None, None, []
        if nvml is not None:
            nvml.nvmlShutdown()

    def _open(self) -> Missing | None:
        """Why there are no GPUs, if so. Asked once: a driver does not appear while a process runs."""
        try:
            nvml = self._load()
        except ImportError:
            return Missing("nvidia-ml-py is not installed")
        try:
            nvml.nvmlInit()
        except Exception as error:
            return Missing(f"NVML can't be used: {error}")
        self._nvml = nvml
        self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        self._names = [_text(nvml.nvmlDeviceGetName(handle)) for handle in self._handles]
        return None if self._handles else Missing("NVML shows no GPU")

    def _gpu(self, index: int, missing: dict[str, Missing]) -> GpuSample:
        nvml, handle = self._nvml, self._handles[index]
        questions: dict[str, Callable[[], Any]] = {
            "memory_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "memory_total_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total,
            "utilisation": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "celsius": lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        }
        figures: dict[str, Any] = {}
        for name, ask in questions.items():
            try:
                figures[name] = ask()
            except Exception as error:
                missing[f"gpu{index}_{name}"] = Missing(reason_of(error))
        return GpuSample(index, self._names[index], **figures)


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
