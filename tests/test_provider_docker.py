"""The provider `docker` without an engine: its options, and who gets the room that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pytest
from factories import MIB, ROOT
from hypothesis import given
from hypothesis import strategies as st

from motley.clock import ManualClock
from motley.errors import InputError
from motley.providers.base import Launch, Needs, ProviderError, Quote

docker = pytest.importorskip("docker")

from motley.providers.docker import DockerProvider, make, place_of  # noqa: E402
from motley.providers.docker_engine import Engine, Room  # noqa: E402

FILE = {"file": str(ROOT / "docker-compose.yml")}
NANO = 10**9


class FakeEngine:
    """Answers what is asked about room; `containers` as the engine describes each."""

    def __init__(self, containers: Sequence[Mapping[str, Any]], cpus: int) -> None:
        self._containers = {each["Id"]: each for each in containers}
        self._cpus = cpus

    def containers(self, all: bool) -> list[dict[str, Any]]:
        return [
            {"Id": name, "State": each["State"]["Status"], "Labels": each["Config"]["Labels"] or {}}
            for name, each in self._containers.items()
        ]

    def inspect_container(self, name: str) -> Mapping[str, Any]:
        if name not in self._containers:
            raise docker.errors.NotFound("gone")
        return self._containers[name]

    def info(self) -> dict[str, Any]:
        return {"NCPU": self._cpus, "MemTotal": 1024 * MIB}


def container(name: str, cpus: float, status: str = "running", created: str = "", token: str = "") -> dict[str, Any]:
    host = {"NanoCpus": round(cpus * NANO), "CpuQuota": 0, "CpuPeriod": 0, "Memory": 100 * MIB}
    labels = {"motley-token": token} if token else None
    return {
        "Id": name,
        "State": {"Status": status},
        "Config": {"Labels": labels},
        "Created": f"2026-01-01T00:00:0{created}Z",
        "HostConfig": host,
    }


def engine(containers: Sequence[Mapping[str, Any]], cpus: int = 4) -> Engine:
    fake: Any = FakeEngine(containers, cpus)
    return Engine(lambda: fake, "a-project", ManualClock(), None, None)


def test_room_is_what_running_containers_leave() -> None:
    left = engine([container("a", 1.5), container("b", 0.5, "paused"), container("c", 1.0, "exited")]).room()
    assert left == Room(2.0, 824 * MIB)


def test_a_quota_in_another_form_counts() -> None:
    other = container("a", 0.0)
    other["HostConfig"] |= {"CpuQuota": 50_000, "CpuPeriod": 100_000}
    assert engine([other]).room().cpus == 3.5


def test_what_waits_to_be_started_counts_where_it_is_motleys() -> None:
    waiting = [container("a", 1.0, "created", "1", token="t"), container("b", 1.0, "created")]
    assert engine(waiting).room().cpus == 3.0


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    running=st.integers(0, 40),
    fractions=st.lists(st.sampled_from(["1", "1.5", "1.51", "2", "2.000000001"]), min_size=6, max_size=6),
)
def test_callers_at_once_never_take_more_than_there_is(sizes: list[int], running: int, fractions: list[str]) -> None:
    """All have created their containers before any of them looks; the first of them is not turned away for others."""
    waiting = [
        container(f"c{number}", size / 10, "created", fractions[number], token=f"t{number}")
        for number, size in enumerate(sizes)
    ]
    there = engine([container("running", running / 10), *waiting])
    taken = [size / 10 for number, size in enumerate(sizes) if there.room(f"t{number}").holds(Room(size / 10, 0.0))]
    assert sum(taken) <= 4 - running / 10 + 1e-5
    first = min(range(len(sizes)), key=lambda number: (fractions[number], number))
    assert (sizes[first] / 10 in taken) or sizes[first] + running > 40


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("network lab_fleet not found", "network lab_fleet not found; start the fleet first, with: motley up"),
        ("No such image: motley:1", "No such image: motley:1; build it with: docker compose build"),
        ("one line\nand another, hunter2", "one line and another, ***"),
    ],
)
def test_what_the_engine_says_becomes_one_line_with_advice(said: str, expected: str) -> None:
    def connect() -> NoReturn:
        raise docker.errors.DockerException(said)

    provider = DockerProvider(place_of(FILE), connect, secrets=["hunter2"])
    assert provider.available() == f"docker: asking whether the engine answers: {expected}"
    with pytest.raises(ProviderError) as error:
        provider.quote(Needs(cpus=0.1, memory_bytes=MIB))
    assert str(error.value) == f"docker: asking what the engine has left: {expected}"


def test_quotes_are_the_classes_that_fit_by_their_price() -> None:
    fake: Any = FakeEngine([container("a", 3.46)], 4)
    provider = DockerProvider(place_of({**FILE, "usd_per_cpu_hour": "0.1"}), lambda: fake)
    quotes = provider.quote(Needs(cpus=0.3, memory_bytes=400 * MIB))
    assert [(quote.kind, round(quote.usd_per_hour, 4)) for quote in quotes] == [("middle", 0.0425), ("fast", 0.05)]
    assert provider.quote(Needs(cpus=0.3, memory_bytes=MIB), spot=True) == []


def test_a_class_that_is_not_in_the_file_is_not_launched() -> None:
    provider = DockerProvider(place_of(FILE), lambda: pytest.fail("the engine was asked"))
    quote = Quote("docker", "fats", "", 0.5, MIB, 0.0)
    with pytest.raises(ProviderError, match="no device class 'fats'; did you mean 'fast'"):
        provider.launch(Launch("t", quote, "run", "client-9", {}, "server:8000"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": "many"}, "cpus 'many' is not a number from 0 on"),
        ({"cpus": "nan"}, "cpus 'nan'"),
        ({"usd_per_cpu_hour": "-1"}, "usd_per_cpu_hour '-1'"),
        ({"memory": "512"}, "memory: .*has no unit"),
        ({"hots": "tcp://x"}, "has no option 'hots'; did you mean 'host'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make({**FILE, **options}, {})


def test_the_place_is_that_of_the_compose_file_unless_told_otherwise() -> None:
    usual = place_of(FILE)
    assert (usual.project, usual.network) == ("motley-laptop", "motley-laptop_fleet")
    other = place_of({**FILE, "project": "lab", "cpus": "8", "memory": "2g", "usd_per_cpu_hour": "0.02"})
    assert (other.project, other.network, other.cpus, other.memory_bytes) == ("lab", "lab_fleet", 8.0, 2048 * MIB)
    assert place_of({**FILE, "network": "bridge"}).network == "bridge"
