"""The start-up script: as text, and as bash runs it among stand-ins for the commands of a machine."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from motley.providers.base import Launch, ProviderError, Quote
from motley.providers.startup import Startup, agent_command, render, startup_of

GIB = 1024**3
REAL = ("bash", "cat", "chmod", "date", "mkdir", "mv", "printf", "rm", "timeout", "touch")
"""Commands that the script may really run in these tests; everything else is a stand-in or missing."""

RECORD = """#!{bash}
{{ printf '%s\\0' "${{0##*/}}" "$@"; printf '\\1'; }} >>"{log}"
"""


def startup(**changes: Any) -> Startup:
    known: dict[str, Any] = {"image": "registry.example/motley:1", "environment": {"MOTLEY_DEVICE": "client-1"}}
    known |= {"superlink": "127.0.0.1:9", "cpus": 2.0, "memory_bytes": GIB}
    return Startup(**{**known, **changes})


class Sandbox:
    """A directory for a root, and a PATH that holds nothing which could touch the real machine."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin, self.log = root, root / "bin", root / "log"
        self.bin.mkdir(parents=True)
        for name in REAL:
            (self.bin / name).symlink_to(shutil.which(name) or "/nowhere")
        for name in ("docker", "poweroff", "shutdown", "systemctl", "apt-get"):
            self.command(name)
        self.command("sleep", f'[ "$1" != 60 ] || exec {shutil.which("sleep")} 0.05')

    def command(self, name: str, does: str = "") -> None:
        """A stand-in that notes how it was called and then does `does`."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(RECORD.format(bash=self.bin / "bash", log=self.log) + does)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, what: Startup, *arguments: str) -> list[list[str]]:
        """Run the script to its end; returns the commands that it called, but for the naps of its watch."""
        script = self.root / "script"
        script.write_text(render(what, root=str(self.root)))
        environment = {"PATH": str(self.bin)}
        subprocess.run(
            [self.bin / "bash", script, *arguments], env=environment, capture_output=True, timeout=60, check=False
        )
        return [call for call in self.calls() if call != ["sleep", "60"]]

    def calls(self) -> list[list[str]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [call.split("\0")[:-1] for call in text.split("\1")[:-1]]

    def called(self, *words: str) -> list[list[str]]:
        return [call for call in self.calls() if call[: len(words)] == list(words)]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


# As text

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
hostile = st.sampled_from(["$(reboot)", "`id`", "'; rm -rf /", '"', "a\nEOF\nb", "\\", "${HOME}", "!x", "-v", "*", ""])


@example(values=["$(touch /tmp/x)", "'\"'\"'", "line\nline", ")"])
@given(values=st.lists(texts | hostile, max_size=5))
def test_hostile_values_reach_docker_unchanged(values: list[str]) -> None:
    """bash itself reads the array, and says what it has read."""
    what = startup(environment={f"V{number}": value for number, value in enumerate(values)})
    line_of_array = render(what).split("AGENT=", 1)[1].split("\nHOST=", 1)[0]
    code = f"set -f; AGENT={line_of_array}\nprintf '%s\\0' \"${{AGENT[@]}}\""
    read = subprocess.run(["bash", "-c", code], capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == agent_command(what)


@given(value=texts | hostile)
def test_bash_takes_it_for_a_script(value: str) -> None:
    script = render(startup(environment={"VALUE": value}))
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=False).returncode == 0


def test_equal_orders_give_equal_scripts() -> None:
    assert render(startup()) == render(startup())
    assert render(startup()) != render(startup(most_s=60.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ""}, "'' is not a container image; name one in the order or the option 'image'"),
        ({"image": "--privileged"}, "'--privileged' is not a container image"),
        ({"image": "motley:1 --privileged"}, "is not a container image"),
        ({"superlink": "server"}, "the SuperLink 'server' is not of the form host:port"),
        ({"superlink": "server:80;reboot"}, "not of the form host:port"),
        ({"environment": {"A B": "1"}}, "'A B' can't be passed to the agent"),
        ({"environment": {"A": "1\0"}}, "'A' can't be passed to the agent"),
    ],
)
def test_what_no_machine_could_run_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProviderError) as error:
        startup(**changes)
    assert message in str(error.value)


# From an order

QUOTE = Quote("aws", "m7i.large", "us-east-1", cpus=2, memory_bytes=8 * GIB, usd_per_hour=0.1)
ORDER = Launch("t-1", QUOTE, "run-1", "client-7", {"MOTLEY_DEVICE_CLASS": "rented"}, "fleet.example:9092")


def test_an_agent_is_told_what_it_is_and_whom_to_join() -> None:
    what = startup_of(ORDER, "motley:1", most_s=3600.0, lost_s=60.0)
    assert what.environment == {
        "MOTLEY_DEVICE_CLASS": "rented",
        "MOTLEY_DEVICE": "client-7",
        "MOTLEY_SUPERLINK": "fleet.example:9092",
        "MOTLEY_DATA": "/data",
    }
    assert (what.image, what.superlink, what.most_s, what.lost_s) == ("motley:1", "fleet.example:9092", 3600.0, 60.0)
    assert startup_of(replace(ORDER, image="motley:2"), "motley:1", 1.0, 1.0).image == "motley:2"


@pytest.mark.parametrize(
    ("environment", "quote", "limits"),
    [
        ({}, QUOTE, (2.0, 8 * GIB - int(0.1 * 8 * GIB))),
        ({}, replace(QUOTE, memory_bytes=GIB), (2.0, GIB - 256 * 1024**2)),
        ({"MOTLEY_CPUS": "0.5", "MOTLEY_MEMORY": "1073741824"}, QUOTE, (0.5, GIB)),
        ({"MOTLEY_CPUS": "64", "MOTLEY_MEMORY": "1e15"}, QUOTE, (2.0, 8 * GIB - int(0.1 * 8 * GIB))),
    ],
)
def test_limits_are_the_devices_and_never_above_the_machine(
    environment: dict[str, str], quote: Quote, limits: tuple[float, int]
) -> None:
    what = startup_of(replace(ORDER, quote=quote, environment=environment), "motley:1", 1.0, 1.0)
    assert (what.cpus, what.memory_bytes) == limits
    command = agent_command(what)
    assert command[command.index("--cpus") + 1] == f"{limits[0]:g}"
    assert command[command.index("--memory") + 1] == command[command.index("--memory-swap") + 1] == str(limits[1])


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(ProviderError, match="MOTLEY_CPUS 'many' is not a number"):
        startup_of(replace(ORDER, environment={"MOTLEY_CPUS": "many"}), "motley:1", 1.0, 1.0)


def test_accelerators_are_passed_on_where_there_are_some() -> None:
    assert "--gpus" not in agent_command(startup())
    command = agent_command(startup(accelerators=2))
    assert command[command.index("--gpus") + 1] == "all"


# As it runs


def test_it_becomes_a_service_and_leaves_the_rest_to_that(sandbox: Sandbox) -> None:
    what = startup()
    sandbox.run(what)
    service = sandbox.root / "usr/local/sbin/motley-device"
    assert service.read_text() == render(what, root=str(sandbox.root))
    unit = (sandbox.root / "etc/systemd/system/motley-device.service").read_text()
    assert f"ExecStart=/bin/bash {service} run\n" in unit
    assert sandbox.called("systemctl", "start") == [["systemctl", "start", "--no-block", "motley-device"]]
    assert not sandbox.called("docker")
    assert not sandbox.called("shutdown")


def test_without_services_it_does_the_work_itself(sandbox: Sandbox) -> None:
    sandbox.command("systemctl", "exit 1")
    calls = sandbox.run(startup())
    assert sandbox.called("docker", "run")
    assert calls[-1] == ["shutdown", "-h", "now"]


def test_an_agent_that_ends_on_purpose_ends_the_machine(sandbox: Sandbox) -> None:
    what = startup(environment={"ODD": "$(reboot) 'x'\n"}, most_s=90 * 60.0)
    calls = sandbox.run(what, "run")
    assert sandbox.called("docker", "run") == [agent_command(what)]
    assert calls[0] == ["shutdown", "-h", "+90"]
    assert calls[-1] == ["shutdown", "-h", "now"]


def test_an_agent_that_keeps_failing_ends_the_machine(sandbox: Sandbox) -> None:
    sandbox.command("docker", '[ "$1" != run ]')
    calls = sandbox.run(startup(), "run")
    assert len(sandbox.called("docker", "run")) == 5
    assert [call for call in sandbox.called("sleep") if call[1] != "60"] == [
        ["sleep", str(seconds)] for seconds in (10, 20, 30, 40, 50)
    ]
    assert calls[-1] == ["shutdown", "-h", "now"]


def test_a_machine_that_can_not_get_docker_ends(sandbox: Sandbox) -> None:
    (sandbox.bin / "docker").unlink()
    calls = sandbox.run(startup(), "run")
    assert [call[-1] for call in sandbox.called("apt-get")] == ["update", "docker.io"]
    assert calls[-1] == ["shutdown", "-h", "now"]


def test_a_shutdown_that_fails_is_forced(sandbox: Sandbox) -> None:
    sandbox.command("shutdown", "exit 1")
    assert sandbox.run(startup(), "run")[-1] == ["poweroff", "--force"]


def test_a_restart_does_not_put_off_the_end(sandbox: Sandbox) -> None:
    sandbox.command("date", "echo 1000")
    sandbox.run(startup(most_s=7200.0), "run")
    ends = sandbox.root / "var/lib/motley/ends"
    assert ends.read_text() == "8200\n"
    sandbox.log.unlink()
    sandbox.command("date", "echo 7000")
    sandbox.run(startup(most_s=7200.0), "run")
    assert ends.read_text() == "8200\n"
    assert sandbox.called("shutdown")[1] == ["shutdown", "-h", "+20"]


def test_a_machine_restarted_after_its_end_runs_nothing(sandbox: Sandbox) -> None:
    sandbox.command("date", "echo 1000")
    sandbox.run(startup(most_s=60.0), "run")
    sandbox.log.unlink()
    sandbox.command("date", "echo 1061")
    calls = sandbox.run(startup(most_s=60.0), "run")
    assert not sandbox.called("docker")
    assert calls[-1] == ["shutdown", "-h", "now"]


WAIT_FOR_STOP = """
case $1 in
  run) until [ -e "{stopped}" ]; do {sleep} 0.02; done; exit 137;;
  stop) touch "{stopped}";;
esac
"""


@pytest.fixture
def running(sandbox: Sandbox) -> Callable[[str], list[list[str]]]:
    """Runs the script with an agent that ends only when it is stopped."""
    agent = WAIT_FOR_STOP.format(stopped=sandbox.root / "stopped", sleep=shutil.which("sleep"))

    def run(superlink: str) -> list[list[str]]:
        sandbox.command("docker", agent)
        return sandbox.run(startup(superlink=superlink, lost_s=0.0), "run")

    return run


def test_a_machine_that_nobody_needs_ends(sandbox: Sandbox, running: Callable[[str], list[list[str]]]) -> None:
    """Nothing answers at the SuperLink's address, so the agent is stopped, and not started again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        calls = running(f"127.0.0.1:{unused.getsockname()[1]}")
    assert sandbox.called("docker", "stop") == [["docker", "stop", "-t", "20", "motley-agent"]]
    assert len(sandbox.called("docker", "run")) == 1
    assert calls[-1] == ["shutdown", "-h", "now"]


def test_a_machine_whose_superlink_answers_goes_on(sandbox: Sandbox, running: Callable[[str], list[list[str]]]) -> None:
    """The agent sees three connections from the watch, ends on purpose, and was not stopped by it."""
    with socket.create_server(("127.0.0.1", 0)) as superlink:
        superlink.settimeout(30)

        def accept() -> None:
            for _ in range(3):
                superlink.accept()[0].close()
            (sandbox.root / "stopped").touch()

        thread = threading.Thread(target=accept)
        thread.start()
        running(f"127.0.0.1:{superlink.getsockname()[1]}")
        thread.join()
    assert not sandbox.called("docker", "stop")


def test_being_stopped_with_the_machine_is_no_reason_to_end_it(sandbox: Sandbox) -> None:
    """As in a restart: systemd stops the service with SIGTERM."""
    real = shutil.which("sleep")
    sandbox.command("docker", f'[ "$1" != run ] || {{ touch "{sandbox.root}/runs"; {real} 0.3; }}')
    script = sandbox.root / "script"
    script.write_text(render(startup(), root=str(sandbox.root)))
    process = subprocess.Popen([sandbox.bin / "bash", script, "run"], env={"PATH": str(sandbox.bin)})
    while not (sandbox.root / "runs").exists():
        assert process.poll() is None
        os.sched_yield()
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert ["shutdown", "-h", "now"] not in sandbox.calls()
