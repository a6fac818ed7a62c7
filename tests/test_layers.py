"""The house's order: imports point down, and light modules stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("motley", "client", "server", "helpers")

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "motley",
        "motley.units",
        "motley.errors",
        "motley.clock",
        "motley.processes",
        "motley.fairness",
        "motley.kernel_files",
        "motley.database",
    ),
    (
        "motley.quantities",
        "motley.population",
        "motley.hardware",
        "motley.policies",
        "motley.spec",
        "motley.fleetfile",
        "motley.scaling_spec",
        "motley.device",
        "motley.samples",
        "motley.records",
    ),
    (
        "motley.workload",
        "motley.physics",
        "motley.resource_limits",
        "motley.selection",
        "motley.aggregation",
        "motley.compression",
        "motley.widths",
        "motley.knowledge",
        "motley.local_work",
        "motley.sizing",
        "motley.comparison",
        "motley.page",
        "motley.predictor",
        "motley.scaling",
        "motley.objectives",
        "motley.known_tasks",
        "motley.budgets",
        "motley.shutdown",
        "motley.credentials",
        "motley.accounts",
        "motley.accounts_file",
        "motley.fitness",
        "motley.compose",
        "motley.environment",
        "motley.report",
    ),
    ("motley.planning", "motley.governor", "motley.estimates"),
    (
        "motley.history",
        "motley.registry",
        "motley.checkpoint",
        "motley.resuming",
        "motley.reporting",
        "motley.launches",
        "motley.launcher",
        "motley.launched_crew",
        "motley.sweeping",
        "motley.spending",
        "motley.accounting",
        "motley.advice",
        "motley.scaler",
        "motley.scaling_log",
        "motley.growing",
        "motley.costing",
        "motley.limits",
        "motley.monitor",
        "motley.training",
        "motley.providers",
        "motley.simulation",
        "motley.pool",
        "motley.doctor",
        "motley.local",
        "motley.flower",
        "motley.messages",
        "motley.deployment",
        "motley.running",
        "motley.containers",
        "motley.broker",
        "motley.governing",
        "motley.simulated_load",
    ),
    ("server", "client"),
    (
        "helpers",
        "motley.cli",
        "motley.account_commands",
        "motley.simulation.engine",
        "motley.simulation.run",
        "motley.simulating",
        "motley.comparing",
        "motley.watching",
    ),
)
"""From the ground up. An entry stands for the module and for all below it; the longest one counts."""

LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}

HEAVY = ("torch", "flwr", "sklearn", "numpy", "rich")


def _modules() -> dict[str, Path]:
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {_name(path): path for path in files}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _entry(module: str) -> str | None:
    """The longest entry of the table that covers `module`; `motley` covers only itself."""
    parts = module.split(".")
    prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((each for each in prefixes if each in LEVELS and (each != "motley" or module == "motley")), None)


def _imports(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Every module that `source` names in an import, at the top or inside a function."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _fault(module: str, imported: str) -> str | None:
    """What is wrong with `module` importing `imported`, which may also be a name within a module."""
    if imported.partition(".")[0] == "torch" and _entry(module) != "motley.training":
        return f"{module} imports {imported}; only motley.training may"
    target = _entry(imported) if imported.partition(".")[0] in PACKAGES else None
    source = _entry(module)
    if source is None or target is None:
        return None
    if {source, target} == {"client", "server"}:
        return f"{module} imports {imported}; client and server never import each other"
    if LEVELS[target] > LEVELS[source]:
        return f"{module} (layer {LEVELS[source]}) imports {imported} (layer {LEVELS[target]})"
    return None


def _faults(module: str, path: Path) -> Iterator[str]:
    imported = _imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    yield from filter(None, (_fault(module, each) for each in imported))


def test_every_module_has_a_layer() -> None:
    missing = [module for module in _modules() if _entry(module) is None]
    assert not missing, f"add to LAYERS: {', '.join(missing)}"


def test_imports_point_down() -> None:
    faults = [fault for module, path in _modules().items() for fault in _faults(module, path)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("motley.units", "from motley import spec"),
        ("motley.units", "from . import spec"),
        ("motley.selection.fair", "from ..planning import plan_round"),
        ("motley.selection", "def pick():\n    import motley.history"),
        ("motley", "from motley.cli import main"),
        ("client.app", "from server.strategy import rounds"),
        ("server.app", "import client.app"),
        ("client.app", "import torch"),
        ("motley.history", "from torch import nn"),
    ],
)
def test_a_fault_is_seen(module: str, source: str) -> None:
    imported = _imports(source, module, is_package=module in ("motley", "motley.selection"))
    assert any(_fault(module, each) for each in imported)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("motley.spec", "from motley import units"),
        ("motley.selection.fair", "from .base import Candidate"),
        ("motley.training.model", "import torch.nn"),
        ("client.app", "from motley.training.loop import train"),
        ("motley.cli", "import server.app, client.app"),
        ("motley.compose", "from motley import __version__"),
    ],
)
def test_the_rest_is_allowed(module: str, source: str) -> None:
    assert not any(_fault(module, each) for each in _imports(source, module, is_package=False))


@pytest.mark.parametrize("module", ["motley.compose"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []
