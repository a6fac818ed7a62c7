"""The fleet file: the committed ones read, and a wrong one is answered with file, line, value and way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import MIB, ROOT, fleet, fleet_data
from hypothesis import given
from hypothesis import strategies as st

from motley.errors import FleetFileError, InputError, did_you_mean
from motley.fleetfile import MAX_FILE_BYTES, parse_fleet, read_fleet
from motley.spec import MEMORY_FLOOR_BYTES, Fleet

DEFAULT = ROOT / "config" / "fleet.yaml"
COMMITTED = [DEFAULT, *sorted((ROOT / "config" / "fleets").rglob("*.yaml"))]
GIB = 1024 * MIB
GOOD = "name: tiny\nclasses:\n  fast: {cpus: 1, memory: 1g}\n"


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_committed_fleets_read_and_so_do_their_presets(path: Path) -> None:
    made = read_fleet(path)
    assert made.total_devices == len(list(made.devices())) >= 1
    assert min(device.spec.memory for device in made.devices()) >= MEMORY_FLOOR_BYTES
    for preset in made.presets:
        assert made.with_preset(preset).classes == made.presets[preset]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "fleets" / "suite").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_workloads_of_the_suite_can_be_read_at_a_glance(path: Path) -> None:
    text, made = path.read_text(), read_fleet(path)
    assert text.startswith("# ")
    assert text.count("\n") <= 40
    assert (made.name, made.training.devices_per_round) == (path.stem, 10)


def test_the_preset_original_is_the_original_example() -> None:
    original = read_fleet(DEFAULT).presets["original"].values()
    held = [(each.memory, each.cpus, each.batch_size, each.learning_rate) for each in original]
    assert held == [
        (3 * GIB, 3.5, 32, 0.001),
        (4 * GIB, 3, 64, 0.02),
        (5 * GIB, 2.5, 128, 0.09),
        (6 * GIB, 1, 256, 0.15),
    ]


def test_the_default_keeps_the_original_proportions() -> None:
    classes = [device.spec for device in read_fleet(DEFAULT).devices()]
    assert [each.cpus / classes[-1].cpus for each in classes] == pytest.approx([3.5, 3, 2.5, 1])
    assert [each.memory / classes[0].memory * 3 for each in classes] == pytest.approx([3, 4, 5, 6])


BAD: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "empty file": ("", 1, ("mapping", "'name' and 'classes'")),
    "only a comment": ("# later\n", 1, ("mapping",)),
    "a list": ("- name: tiny\n", 1, ("mapping",)),
    "a scalar": ("tiny\n", 1, ("mapping",)),
    "no name": ("classes:\n  fast: {cpus: 1, memory: 1g}\n", 1, ("'name' is missing",)),
    "no classes": ("name: tiny\n", 1, ("'classes' is missing",)),
    "no cpus": ("name: tiny\nclasses:\n  fast:\n    memory: 1g\n", 3, ("'cpus' is missing",)),
    "empty class": ("name: tiny\nclasses:\n  fast:\n", 3, ("fast is empty", "must be a mapping")),
    "class a word": ("name: tiny\nclasses:\n  fast: quick\n", 3, ("'quick'", "must be a mapping")),
    "classes a list": ("name: tiny\nclasses: [fast]\n", 2, ("classes", "must be a mapping")),
    "no class": ("name: tiny\nclasses: {}\n", 2, ("classes", "at least 1")),
    "unknown key": (GOOD + "sed: 1\n", 4, ("unknown key 'sed'", "did you mean 'seed'?")),
    "unknown key below": (GOOD + "training:\n  round: 3\n", 5, ("unknown key 'round'", "did you mean 'rounds'?")),
    "unknown key in class": (
        "name: tiny\nclasses:\n  fast:\n    cpus: 1\n    memory: 1g\n    cpu: 2\n",
        6,
        ("unknown key 'cpu'", "did you mean 'cpus'?"),
    ),
    "unknown key in network": (
        "name: tiny\nclasses:\n  fast:\n    cpus: 1\n    memory: 1g\n    network:\n      upp: 1mbit\n",
        7,
        ("unknown key 'upp'", "did you mean 'up'?"),
    ),
    "unknown key in preset": (
        GOOD + "presets:\n  small:\n    one:\n      cpus: 1\n      memory: 1g\n      batchsize: 3\n",
        9,
        ("unknown key 'batchsize'", "did you mean 'batch_size'?"),
    ),
    "first of two faults": (GOOD + "seed: -1\nfoo: 2\n", 4, ("seed '-1'", "nearest allowed value is 0")),
    "key twice": (GOOD + "name: other\n", 4, ("key 'name' stands twice",)),
    "class twice": (GOOD + "  fast: {cpus: 2, memory: 2g}\n", 4, ("key 'fast' stands twice",)),
    "key twice in flow": ("name: tiny\nclasses:\n  fast: {cpus: 1,\n    cpus: 2}\n", 4, ("key 'cpus' stands twice",)),
    "alias": ("name: &it tiny\nclasses: *it\n", 2, ("alias '*it'", "write it out")),
    "alias bomb": ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 2, ("alias '*a'",)),
    "merge key": (GOOD + "<<: {seed: 1}\n", 4, ("unknown key '<<'",)),
    "deep flow": ("name: tiny\nclasses: " + "[" * 5000, 2, ("deeper than 16",)),
    "deep blocks": ("\n".join(" " * i + "a:" for i in range(40)), 17, ("deeper than 16",)),
    "many values": ("name: tiny\nclasses: [" + "1," * 60_000 + "]", 2, ("longer than 50000",)),
    "two documents": (GOOD + "---\n" + GOOD, 4, ("second document",)),
    "tab": ("name: tiny\nclasses:\n\tfast: 1\n", 3, ("not valid YAML",)),
    "unclosed": ("name: tiny\nclasses: {fast: {cpus: 1\n", 3, ("not valid YAML",)),
    "directive": ("%YAML 3.0\n---\n" + GOOD, 1, ("not valid YAML",)),
    "control character": (GOOD + "# é\nseed: \x07\n", 5, ("'\\x07'", "not allowed")),
    "key a list": (GOOD + "? [a]\n: 1\n", 4, ("a key must be a plain word",)),
    "key a number": (GOOD + "1: 2\n", 4, ("unknown key '1'", "known: ")),
    "class a number": ("name: tiny\nclasses:\n  1: {cpus: 1, memory: 1g}\n", 3, ("'1' is not a name", "lower-case")),
    "name with capitals": ("name: Tiny\nclasses: {}\n", 1, ("'Tiny' is not a name",)),
    "name empty": ("name:\nclasses: {}\n", 1, ("name is empty", "string")),
    "name a date": ("name: 2020-01-01\nclasses: {}\n", 1, ("'2020-01-01'", "string")),
    "name a bool": ("name: yes\nclasses: {}\n", 1, ("name 'True'", "string")),
    "count a bool": (GOOD.replace("cpus: 1", "cpus: 1, count: true"), 3, ("count 'True'", "integer")),
    "count a float": (GOOD.replace("cpus: 1", "cpus: 1, count: 1.5"), 3, ("count '1.5'", "integer")),
    "count quoted": (GOOD.replace("cpus: 1", 'cpus: 1, count: "3"'), 3, ("count '3'", "integer")),
    "count negative": (GOOD.replace("cpus: 1", "cpus: 1, count: -2"), 3, ("count '-2'", "nearest allowed value is 0")),
    "count too many": (GOOD.replace("cpus: 1", "cpus: 1, count: 100001"), 3, ("'100001'", "allowed value is 100000")),
    "count in base 60": (GOOD.replace("cpus: 1", "cpus: 1, count: 1:30"), 3, ("count '1:30'", "integer")),
    "count in base 8": (GOOD.replace("cpus: 1", "cpus: 1, count: 010"), 3, ("count '010'", "integer")),
    "nobody": (GOOD.replace("cpus: 1", "cpus: 1, count: 0"), 2, ("0 devices", "1 to 100000")),
    "cpus NaN": (GOOD.replace("cpus: 1", "cpus: .nan"), 3, ("cpus 'nan'", "must be")),
    "cpus infinite": (GOOD.replace("cpus: 1", "cpus: .inf"), 3, ("cpus 'inf'", "must be")),
    "cpus none": (GOOD.replace("cpus: 1", "cpus: 0"), 3, ("cpus '0'", "nearest allowed value is 0.01")),
    "cpus a bool": (GOOD.replace("cpus: 1", "cpus: on"), 3, ("cpus 'True'", "number")),
    "memory bare": (GOOD.replace("1g", "512"), 3, ("512 has no unit", "'512m'")),
    "memory below floor": (GOOD.replace("1g", "335m"), 3, ("'335m'", "floor of 336m", "write at least '336m'")),
    "memory too much": (GOOD.replace("1g", "2000t"), 3, ("memory", "at most '1024t'")),
    "rate a mapping": (
        GOOD.replace("1g", "1g, network: {up: {uniform: {low: {a: 1}, high: 2mbit}}}"),
        3,
        ("low: a mapping is not a number", "'6mbit'"),
    ),
    "policy very long": (GOOD + "training:\n  policy: " + "x" * 900 + "\n", 5, ("policy 'xxx", "known: adaptive")),
    "memory misspelt": (GOOD.replace("1g", "1gg"), 3, ("unknown unit 'gg'", "did you mean 'g'?")),
    "rate misspelt": (GOOD.replace("1g", "1g, network: {down: 6mbps}"), 3, ("down", "did you mean '6mbit'?")),
    "rate none": (GOOD.replace("1g", "1g, network: {up: 0bit}"), 3, ("up '0bit'", "greater than 0")),
    "heat upside down": (
        GOOD.replace("1g", "1g, heat: {throttle_celsius: 70}"),
        3,
        ("throttle_celsius 70", "ambient 25", "limit 60"),
    ),
    "governor misspelt": (GOOD.replace("1g", "1g, governor: dynamik"), 3, ("'dynamik'", "did you mean 'dynamic'?")),
    "own limit above the memory": (
        GOOD.replace("1g", "1g, limits: {memory: 2g}"),
        3,
        ("limits.memory '2g'", "between", "memory of 1g"),
    ),
    "own limit below the floor": (GOOD.replace("1g", "1g, limits: {memory: 100m}"), 3, ("limits.memory '100m'",)),
    "own limit misspelt": (GOOD.replace("1g", "1g, limits: {cpu: 50}"), 3, ("unknown key 'cpu'", "cpu_percent")),
    "policy misspelt": (GOOD + "training:\n  policy: randm\n", 5, ("policy 'randm'", "did you mean 'random'?")),
    "task misspelt": (GOOD + "training:\n  task: digit\n", 5, ("unknown task 'digit'", "did you mean 'digits'?")),
    "deadline in base 60": (GOOD + "training:\n  deadline: 1:30\n", 5, ("'1:30'", "write it like '30s'")),
    "deadline bare": (GOOD + "training:\n  deadline: 30\n", 5, ("30 has no unit", "'30s'")),
    "deadline none": (GOOD + "training:\n  deadline: 0s\n", 5, ("deadline '0.0'", "greater than 0")),
    "batch a word": (GOOD + "training:\n  batch_size: big\n", 5, ("'big'", "'auto'")),
    "devices a word": (GOOD + "training:\n  devices_per_round: some\n", 5, ("'some'", "'all'")),
    "devices zero": (GOOD + "training:\n  devices_per_round: 0\n", 5, ("from 1, or 'all'",)),
    "devices too many": (GOOD + "training:\n  devices_per_round: 2\n", 5, ("devices_per_round 2", "1 to 1, or 'all'")),
    "quorum": (GOOD + "training:\n  quorum: 1.5\n", 5, ("quorum '1.5'", "nearest allowed value is 1")),
    "after_run off": (GOOD + "server:\n  after_run: off\n", 5, ("after_run", "'stay' or 'exit'")),
    "ports equal": (GOOD + "monitoring:\n  grafana_port: 9090\n", 5, ("grafana_port 9090", "write another")),
    "option misspelt": (
        GOOD + "training:\n  policy: oort\n  options:\n    clp: 0.9\n",
        7,
        ("policy 'oort' has no option 'clp'", "did you mean 'clip'?"),
    ),
    "option out of range": (
        GOOD + "training:\n  policy: oort\n  options:\n    decay: 0.9\n    clip: 1.5\n",
        8,
        ("clip '1.5'", "'oort' needs a number from 0 to 1"),
    ),
    "option of another policy": (
        GOOD + "training:\n  policy: random\n  options: {clip: 0.9}\n",
        6,
        ("policy 'random' has no options", "remove 'clip'"),
    ),
    "options a list": (GOOD + "training:\n  options: [clip]\n", 5, ("options", "must be a mapping")),
    "aggregation misspelt": (
        GOOD + "training:\n  aggregation: fednow\n",
        5,
        ("aggregation 'fednow' is not known", "did you mean 'fednova'?"),
    ),
    "max_time none": (GOOD + "training:\n  max_time: 0s\n", 5, ("max_time '0", "greater than 0")),
    "natural without a division": (
        GOOD + "data:\n  partition: natural\n",
        5,
        ("task 'digits' has no natural division", "'dirichlet'"),
    ),
    "distribution misspelt": (
        GOOD.replace("cpus: 1", "cpus: {lognorml: {median: 1, sigma: 1}}"),
        3,
        ("unknown key 'lognorml'", "did you mean 'lognormal'?"),
    ),
    "no distribution": (GOOD.replace("cpus: 1", "cpus: {min: 1}"), 3, ("lognormal, uniform or choice", "none")),
    "two distributions": (
        GOOD.replace("cpus: 1", "cpus: {uniform: {low: 1, high: 2}, choice: {1: 1}}"),
        3,
        ("here: uniform and choice",),
    ),
    "uniform upside down": (GOOD.replace("cpus: 1", "cpus: {uniform: {low: 2, high: 1}}"), 3, ("low is above high",)),
    "clipped upside down": (
        GOOD.replace("cpus: 1", "cpus: {choice: {1: 1}, min: 2, max: 1}"),
        3,
        ("min is above max",),
    ),
    "choice without weight": (GOOD.replace("cpus: 1", "cpus: {choice: {1: 0}}"), 3, ("all weights are 0",)),
    "choice negative": (
        "name: tiny\nclasses:\n  fast:\n    memory: 1g\n    cpus:\n      choice:\n        1: 1\n        2: -1\n",
        8,
        ("'-1'", "nearest allowed value is 0"),
    ),
    "choice no number": (
        GOOD.replace("cpus: 1", "cpus: {choice: {one: 1}}"),
        3,
        ("one 'one'", "must be a valid number"),
    ),
    "choice of memory bare": (GOOD.replace("1g", "{choice: {512: 1}}"), 3, ("has no unit", "'512m'")),
    "sigma too much": (
        "name: x\nclasses:\n  fast:\n    memory: 1g\n    cpus:\n      lognormal:\n       median: 1\n       sigma: 6\n",
        8,
        ("sigma '6'", "nearest allowed value is 5"),
    ),
    "median none": (
        GOOD.replace("1g", "1g, network: {latency: {lognormal: {median: 0s, sigma: 1}}}"),
        3,
        ("median", "above 0"),
    ),
    "memory without lower bound": (
        GOOD.replace("1g", "{lognormal: {median: 1g, sigma: 1}}"),
        3,
        ("no lower bound", "add 'min: 336m'"),
    ),
    "memory drawn below floor": (GOOD.replace("1g", "{choice: {1g: 5, 200m: 1}}"), 3, ("'200m'", "at least '336m'")),
    "never there": (GOOD.replace("1g", "1g, availability: {ready: 0, session: 3m}"), 3, ("ready must be above 0",)),
    "idle above busy": (GOOD.replace("1g", "1g, power: {idle: 5w, busy: 4w}"), 3, ("idle '5w' is above busy",)),
    "power in watt-hours": (GOOD.replace("1g", "1g, power: {busy: 4wh}"), 3, ("busy", "did you mean '4w'?")),
    "huge integer": (GOOD + "seed: 0x" + "f" * 5000 + "\n", 4, ("seed '0xffff", "must be less than")),
    "digits without end": (GOOD + "seed: " + "9" * 5000 + "\n", 4, ("'9999", "...")),
    "tag without value": (GOOD + "seed: !!int ''\n", 4, ("not a plain value",)),
    "tagged bool": (GOOD + "seed: !!bool maybe\n", 4, ("'maybe' is not a plain value",)),
    "tagged time": (GOOD + "seed: !!timestamp now\n", 4, ("'now' is not a plain value",)),
    "python object": (GOOD + "seed: !!python/name:os.system x\n", 4, ("not a plain value",)),
    "a long name": ("name: " + "a" * 5000 + "\nclasses: {}\n", 1, ("aaa...' is not a name",)),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_answered_with_line_value_and_way_out(case: str) -> None:
    text, line, phrases = BAD[case]
    with pytest.raises(FleetFileError) as caught:
        parse_fleet(text.encode(), "my.yaml")
    message = str(caught.value)
    assert message.startswith(f"my.yaml:{line}: "), message
    assert [phrase for phrase in phrases if phrase not in message] == [], message
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize(
    ("raw", "line", "phrase"),
    [
        (GOOD.encode() + b"# caf\xe9\n", 4, "byte 0xe9 is not UTF-8"),
        (GOOD.encode("utf-16"), 1, "is not UTF-8"),
        (GOOD.encode() + b"\0", 4, "'\\x00' is not allowed"),
        (b"#" * (MAX_FILE_BYTES + 1), 1, "at most 1048576 bytes"),
        (b"#\n" * 200 + GOOD.encode() + "# é\n".encode() * 100 + b"seed: \x07\n", 304, "'\\x07' is not allowed"),
    ],
    ids=["latin 1", "utf-16", "zero byte", "too long", "control character after many accents"],
)
def test_bytes_that_are_no_text(raw: bytes, line: int, phrase: str) -> None:
    with pytest.raises(FleetFileError) as caught:
        parse_fleet(raw, "my.yaml")
    assert str(caught.value).startswith(f"my.yaml:{line}: ")
    assert phrase in str(caught.value)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(FleetFileError, match="at most 1048576 bytes"):
        read_fleet("/dev/zero")


@pytest.mark.parametrize("path", ["/nonexistent/fleet.yaml", "/"])
def test_a_file_that_can_not_be_read_says_so(path: str) -> None:
    with pytest.raises(InputError, match=f"{path}: can't read the fleet file: .*--fleet"):
        read_fleet(path)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        "--- \n" + GOOD,
        GOOD.replace("\n", "\r\n"),
        "!fleet\n" + GOOD,
        GOOD + "...\n",
        "%YAML 1.1\n---\n" + GOOD,
    ],
    ids=["byte order mark", "document start", "CRLF", "tag", "document end", "directive"],
)
def test_harmless_oddities_are_accepted(text: str) -> None:
    assert parse_fleet(text.encode()).name == "tiny"


def test_on_and_off_are_switches() -> None:
    assert not parse_fleet((GOOD + "monitoring: {enabled: off}\n").encode()).monitoring.enabled


def lognormal(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"lognormal": st.fixed_dictionaries({"median": values, "sigma": st.floats(0, 5)})}, optional={"max": values}
    )


def choice(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    weighted = st.dictionaries(values, st.floats(0.001, 10**6), min_size=1, max_size=4)
    return st.fixed_dictionaries({"choice": weighted}, optional={"min": values})


memories = st.integers(MEMORY_FLOOR_BYTES // MIB, 10**6).map("{}m".format)

classes = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
    st.fixed_dictionaries(
        {"cpus": st.floats(0.01, 64) | lognormal(st.floats(0.01, 64)), "memory": memories | choice(memories)},
        optional={
            "count": st.integers(1, 50),
            "batch_size": st.integers(1, 512) | st.just("auto"),
            "learning_rate": st.floats(1e-6, 10),
            "network": st.fixed_dictionaries(
                {
                    "down": lognormal(st.integers(1, 10**7).map("{}kbit".format)),
                    "latency": st.integers(0, 10**6).map("{}ms".format),
                }
            ),
            "battery": st.fixed_dictionaries({"capacity": st.integers(1, 10**7).map("{}wh".format)}),
            "ms_per_example": lognormal(st.floats(0.001, 10**6)) | choice(st.floats(0.001, 10**6)) | st.floats(0.1, 9),
            "power": st.fixed_dictionaries({"busy": st.integers(1, 10**6).map(lambda value: f"{value / 8 + 1}w")}),
        },
    ),
    min_size=1,
    max_size=4,
)


@given(
    classes,
    st.integers(0, 2**31 - 1),
    st.none() | st.integers(1, 86_400_000).map("{}ms".format),
    st.integers(0, 10**10).map("{}ms".format),
)
def test_a_fleet_reads_back_from_its_own_mapping(
    held: dict[str, object], seed: int, deadline: str | None, patience: str
) -> None:
    training = {"deadline": deadline} if deadline else {}
    data = {"name": "any", "seed": seed, "classes": held, "training": training, "server": {"join_timeout": patience}}
    made = Fleet.model_validate(data)
    text = yaml.safe_dump(made.as_mapping())
    assert parse_fleet(text.encode()) == made


def test_every_committed_fleet_reads_back() -> None:
    for path in COMMITTED:
        made = read_fleet(path)
        again = parse_fleet(yaml.safe_dump(made.as_mapping()).encode())
        assert again.as_mapping() == made.as_mapping()
        assert again.presets == {}


def test_fleets_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        fleet().name = "other"  # type: ignore[misc]


def test_devices_stand_class_by_class_and_partitions_count_from_zero() -> None:
    devices = list(fleet().devices())
    assert [(each.name, each.class_name, each.partition) for each in devices] == [
        ("client-1", "fast", 0),
        ("client-2", "fast", 1),
        ("client-3", "slow", 2),
    ]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(any), st.integers(1, 2000))
def test_a_total_keeps_the_proportions_to_within_one_device(counts: list[int], total: int) -> None:
    held = {f"c{index}": {"count": count, "cpus": 1, "memory": "1g"} for index, count in enumerate(counts)}
    made = fleet(classes=held).with_total(total)
    assert made.total_devices == total
    for index, count in enumerate(counts):
        here = made.classes[f"c{index}"].count if f"c{index}" in made.classes else 0
        assert abs(here - total * count / sum(counts)) < 1 + 1e-9


@given(st.integers(1, 200), st.integers(0, 1000))
def test_a_draw_depends_on_its_seed_and_skips_empty_classes(total: int, seed: int) -> None:
    held = fleet_data()["classes"] | {"none": {"count": 0, "cpus": 1, "memory": "1g"}}
    made = fleet(classes=held)
    assert made.drawn(total, seed) == made.drawn(total, seed)
    assert made.drawn(total, seed).total_devices == total
    assert "none" not in made.drawn(total, seed).classes


def test_a_draw_follows_the_counts() -> None:
    drawn = fleet().drawn(3000, 1)
    assert drawn.classes["fast"].count == pytest.approx(2000, abs=120)


def test_scaling_touches_every_quota_and_nothing_else() -> None:
    made = fleet()
    half = made.scaled(0.5)
    assert [each.cpus for each in half.classes.values()] == [0.25, 0.1]
    assert half.server.cpus == 0.25
    assert half.client_cpus == pytest.approx(made.client_cpus / 2)
    assert [each.memory for each in half.classes.values()] == [512 * MIB, 768 * MIB]


@pytest.mark.parametrize("cpus", [0.29, 0.57, 0.01, 0.07, 1.13])
def test_a_factor_of_one_keeps_every_quota(cpus: float) -> None:
    made = fleet(classes={"x": {"cpus": cpus, "memory": "1g"}}).scaled(1.0)
    assert made.classes["x"].cpus == pytest.approx(cpus, abs=1e-12)


def test_the_floor_is_a_whole_number_of_mebibytes() -> None:
    assert MEMORY_FLOOR_BYTES % MIB == 0


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("Digit", ["digits", "cifar10"], "; did you mean 'digits'?"),
        ("zzz", ["a", "b"], "; known: a, b"),
        ("zzz", [], ""),
    ],
)
def test_hints(word: str, known: list[str], hint: str) -> None:
    assert did_you_mean(word, known) == hint
