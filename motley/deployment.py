"""Write the compose file: options in, checked files out, never half of one."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from motley.compose import Block, Mapping, Merge, Origin, Paths, compose_file, scrape_targets
from motley.errors import HostError, InputError, did_you_mean
from motley.fleetfile import read_fleet
from motley.spec import MAX_DEVICES, MAX_ROUNDS, MIN_CPUS, Fleet

DEFAULT_OUTPUT = Path("docker-compose.yml")
DEFAULT_TARGETS = Path("config/prometheus/targets")
ROOT = Path(__file__).resolve().parents[1]
"""The repository, which holds what the containers mount."""

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Options:
    """What `motley compose` was asked for."""

    fleet: Path
    output: Path = DEFAULT_OUTPUT
    preset: str | None = None
    total_clients: int | None = None
    rounds: int | None = None
    random: bool = False
    seed: int | None = None
    fit_host: bool = False
    host_cores: int | None = None


@dataclass(frozen=True)
class Deployment:
    """Files ready to be written, by path, and what the user should hear."""

    fleet: Fleet
    files: dict[Path, str]
    warnings: tuple[str, ...]

    def write(self) -> None:
        """Write each file whole, or leave what was there. Raises InputError where that can't be done."""
        for path, text in self.files.items():
            half = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                half.write_text(text)
                half.replace(path)
            except OSError as error:
                with suppress(OSError):
                    half.unlink()
                raise InputError(f"{path}: can't write it: {error.strerror}; pass another with --output") from None

    def outdated(self) -> list[Path]:
        """The files that are missing or say something else."""
        return [path for path, text in self.files.items() if not path.exists() or path.read_text() != text]


def deploy(options: Options) -> Deployment:
    """Work out the files for `options`. Raises InputError or HostError; writes nothing."""
    fleet, changes = _chosen(read_fleet(options.fleet), options)
    cores = options.host_cores or len(os.sched_getaffinity(0))
    fleet, factor, warnings = _fitted(fleet, cores, options)
    origin = Origin(_relative(options.fleet, ROOT), changes, factor)
    targets = targets_directory(options.output)
    paths = Paths(_relative(ROOT, options.output.parent), _relative(targets, options.output.parent))
    compose = _header(fleet, origin, cores) + dump(compose_file(fleet, origin, paths))
    scrape = json.dumps(scrape_targets(fleet), indent=1) + "\n"
    return Deployment(fleet, {options.output: compose, targets / "fleet.json": scrape}, warnings)


def dump(data: Mapping) -> str:
    """YAML in which mappings that stand in `data` more than once are anchors, named after their keys."""
    text: str = yaml.dump(data, Dumper=_ComposeDumper, sort_keys=False, width=1000, default_flow_style=None)
    found: list[tuple[str, str]] = re.findall(r"^\s*([\w-]+): &(id\d+)\b", text, re.MULTILINE)
    names = {anchor: key.removeprefix("x-") for key, anchor in found}
    return re.sub(r"([&*])(id\d+)\b", lambda match: match[1] + names.get(match[2], match[2]), text)


class _ComposeDumper(_Dumper):  # type: ignore[misc]
    """PyYAML's dumper, with merge keys left bare and blocks of text left whole."""


_ComposeDumper.add_representer(
    Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), "|")
)
_ComposeDumper.add_representer(Merge, lambda dumper, key: dumper.represent_scalar("tag:yaml.org,2002:merge", str(key)))


def _chosen(fleet: Fleet, options: Options) -> tuple[Fleet, tuple[str, ...]]:
    """The fleet with preset, number of devices and rounds as asked for, and the changes in words."""
    changes = []
    if options.preset is not None:
        if options.preset not in fleet.presets:
            hint = did_you_mean(options.preset, fleet.presets)
            raise InputError(f"--preset '{options.preset}' is not in {options.fleet}{hint}")
        try:
            fleet = fleet.with_preset(options.preset)
        except ValidationError as error:
            raise InputError(f"--preset '{options.preset}': {error.errors()[0]['ctx']['error']}") from None
        changes.append(f"preset {options.preset}")
    total = options.total_clients
    if total is not None and not 1 <= total <= MAX_DEVICES:
        raise InputError(f"--total-clients {total}: write 1 to {MAX_DEVICES}")
    asked = fleet.training.devices_per_round
    if total is not None and asked > total:
        raise InputError(f"--total-clients {total} is fewer than the fleet's devices_per_round of {asked}")
    if options.random:
        seed = fleet.seed if options.seed is None else options.seed
        fleet = fleet.drawn(total or fleet.total_devices, seed)
        changes.append(f"{fleet.total_devices} devices drawn at random with seed {seed}")
    elif options.seed is not None:
        raise InputError(f"--seed {options.seed} has no effect without --random; add it")
    elif total is not None:
        fleet = fleet.with_total(total)
        changes.append(f"{total} devices in the file's proportions")
    if options.rounds is not None:
        if not 1 <= options.rounds <= MAX_ROUNDS:
            raise InputError(f"--rounds {options.rounds}: write 1 to {MAX_ROUNDS}")
        fleet = fleet.with_rounds(options.rounds)
        changes.append(f"{options.rounds} rounds")
    return fleet, tuple(changes)


def _fitted(fleet: Fleet, cores: int, options: Options) -> tuple[Fleet, float, tuple[str, ...]]:
    """The fleet on a host of `cores`, the factor on its quotas, and warnings.

    More devices than the file holds are asked for on purpose, perhaps for another host: that warns.
    """
    need = fleet.total_cpus
    if need <= cores + 1e-9:
        return fleet, 1.0, ()
    factor = int(10_000 * cores / need) / 10_000
    smallest = min(fleet.server.cpus, *(device.spec.cpus for device in fleet.devices()))
    problem = f"fleet '{fleet.name}' needs {need:g} cores (devices {fleet.client_cpus:g}, server {fleet.server.cpus:g})"
    problem += f", this host has {cores}"
    if options.fit_host:
        if smallest * factor < MIN_CPUS:
            room = cores * smallest / MIN_CPUS - fleet.server.cpus
            most = int(room * fleet.total_devices / fleet.client_cpus)
            few = f"use at most about {most} devices (--total-clients {most})"
            raise HostError(
                f"{problem}: scaled to fit, the smallest container would get {smallest * factor:.4f} cores, less than "
                f"Docker's {MIN_CPUS}; {few if most else 'use smaller classes'}"
            )
        return fleet.scaled(factor), factor, ()
    advice = f"scale every quota by {factor} with --fit-host"
    if options.total_clients is None:
        raise HostError(f"{problem}; contention would fake the devices' speeds: {advice}, or use smaller classes")
    return fleet, 1.0, (f"{problem}; run the file on a host that has them, or {advice}",)


def _header(fleet: Fleet, origin: Origin, cores: int) -> str:
    lines = [f"Generated by motley from {origin.fleet_file}; change that and run: motley compose"]
    lines += [f"Changed: {change}." for change in origin.changes]
    if origin.factor != 1.0:
        lines.append(f"Every CPU quota is the fleet file's times {origin.factor}, to fit a host of {cores} cores.")
    lines.append(f"{fleet.total_devices} devices and the server share {fleet.total_cpus:.3f} cores.")
    return "".join(f"# {line}\n" for line in lines)


def targets_directory(output: Path) -> Path:
    """The committed file's targets lie in config/; another file's lie beside it."""
    if output.resolve() == (ROOT / DEFAULT_OUTPUT).resolve():
        return ROOT / DEFAULT_TARGETS
    return output.parent / f"{output.stem}-targets"


def _relative(path: Path, start: Path) -> str:
    """`path` as seen from `start`, in the form that Compose takes for a path."""
    relative = os.path.relpath(path.resolve(), start.resolve())
    return relative if relative.startswith(".") else f"./{relative}"
