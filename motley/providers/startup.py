"""The script that a rented machine runs when it starts: data in, text out; no I/O.

It puts itself into the machine's services, so that it also runs after a restart of the machine. It keeps
the agent of one device running in a container and shuts the machine down when

- the agent has ended on purpose, or failed five times in a row,
- nothing has answered at the address of the SuperLink for `lost_s`, or
- the machine has lived for `most_s`, whatever else happens.

What a shutdown does to the bill is the provider's affair: EC2 ends the machine, Google Cloud stops it and
ends it at its limit, Lambda goes on charging. The script holds no secrets.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from motley.compose import DEVICE_PIDS, USER
from motley.providers.base import Launch, ProviderError

_SUPERLINK = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYSTEM_SHARE, _SYSTEM_LEAST_BYTES = 0.1, 256 * 1024**2
"""Memory left to the machine's own system where the order does not limit the device."""


@dataclass(frozen=True)
class Startup:
    """What a machine is to run, and for how long. Raises ProviderError for what no machine could run."""

    image: str
    environment: Mapping[str, str]
    superlink: str
    """host:port."""
    cpus: float
    memory_bytes: int
    """Limits of the container."""
    accelerators: int = 0
    most_s: float = 86400.0
    lost_s: float = 1800.0

    def __post_init__(self) -> None:
        if not _IMAGE.fullmatch(self.image):
            raise ProviderError(f"'{self.image}' is not a container image; name one in the order or the option 'image'")
        if not _SUPERLINK.fullmatch(self.superlink):
            raise ProviderError(f"the SuperLink '{self.superlink}' is not of the form host:port")
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                raise ProviderError(f"'{name}' can't be passed to the agent: not a variable of an environment")


def startup_of(launch: Launch, image: str, most_s: float, lost_s: float) -> Startup:
    """Of the machine that `launch` asks for. The device's own limits, where its environment has them, go first."""
    environment = {"MOTLEY_DATA": "/data", **launch.environment}
    environment |= {"MOTLEY_DEVICE": launch.device, "MOTLEY_SUPERLINK": launch.superlink}
    machine_bytes = launch.quote.memory_bytes
    free_bytes = machine_bytes - max(_SYSTEM_LEAST_BYTES, int(_SYSTEM_SHARE * machine_bytes))
    return Startup(
        image=launch.image or image,
        environment=environment,
        superlink=launch.superlink,
        cpus=min(launch.quote.cpus, _number(environment, "MOTLEY_CPUS")),
        memory_bytes=int(min(free_bytes, _number(environment, "MOTLEY_MEMORY"))),
        accelerators=launch.quote.accelerators,
        most_s=most_s,
        lost_s=lost_s,
    )


def _number(environment: Mapping[str, str], name: str) -> float:
    """The limit in a variable; none where it is not set."""
    text = environment.get(name, "")
    try:
        return float(text) if text else math.inf
    except ValueError:
        raise ProviderError(f"{name} '{text}' is not a number") from None


def agent_command(startup: Startup) -> list[str]:
    """The command that runs the agent, with the hardening and the limits of a device in a compose file."""
    memory = str(startup.memory_bytes)
    command = ["docker", "run", "--name", "motley-agent", "--user", USER, "--read-only"]
    command += ["--tmpfs", "/tmp:size=64m,mode=1777", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"]
    command += ["--log-opt", "max-size=10m", "--log-opt", "max-file=3"]
    command += ["--cpus", f"{startup.cpus:.15g}", "--memory", memory, "--memory-swap", memory]
    command += ["--pids-limit", str(DEVICE_PIDS)]
    if startup.accelerators:
        command += ["--gpus", "all"]
    for name, value in startup.environment.items():
        command += ["--env", f"{name}={value}"]
    return [*command, startup.image, "python", "-m", "client.agent"]


def render(startup: Startup, root: str = "") -> str:
    """The script. Equal data give equal text. root: stands before the paths that it writes to; for tests."""
    address = _SUPERLINK.fullmatch(startup.superlink)
    host, port = (address["v6"] or address["host"], address["port"]) if address else ("", "")
    values = {
        "AGENT": f"({shlex.join(agent_command(startup))})",
        "HOST": shlex.quote(host),
        "PORT": shlex.quote(port),
        "MOST_S": str(math.ceil(startup.most_s)),
        "LOST_S": str(math.ceil(startup.lost_s)),
        "STATE": shlex.quote(f"{root}/var/lib/motley"),
        "SELF": shlex.quote(f"{root}/usr/local/sbin/motley-device"),
        "UNIT": shlex.quote(f"{root}/etc/systemd/system/motley-device.service"),
    }
    return "\n".join([_HEAD, *(f"{name}={value}" for name, value in values.items()), _BODY])


_HEAD = """\
#!/bin/bash
# Made by Motley: runs the agent of one device and ends this machine afterwards. Holds no secrets.
set -u"""

_BODY = r"""
end_machine() {
  kill "$WATCH" 2>/dev/null
  shutdown -h now || poweroff --force
}

limit_life() {  # The end stands in a file, so that a restart of the machine does not put it off.
  shutdown -h "+$(( (MOST_S + 59) / 60 ))"
  mkdir -p "$STATE"
  [ -s "$STATE/ends" ] || echo $(( $(date +%s) + MOST_S )) >"$STATE/ends"
  local left=$(( $(cat "$STATE/ends") - $(date +%s) ))
  [ "$left" -gt 0 ] || exit 0
  shutdown -h "+$(( (left + 59) / 60 ))"
}

become_service() {
  mkdir -p "${SELF%/*}" "${UNIT%/*}" && cat "$0" >"$SELF.new" && mv "$SELF.new" "$SELF" || return
  printf '%s\n' '[Unit]' 'Wants=network-online.target' 'After=network-online.target docker.service' \
    '[Service]' "ExecStart=/bin/bash $SELF run" '[Install]' 'WantedBy=multi-user.target' >"$UNIT" || return
  systemctl daemon-reload && systemctl enable motley-device && systemctl start --no-block motley-device
}

install_docker() {
  command -v docker >/dev/null && return
  if command -v apt-get >/dev/null; then
    apt-get -q -o DPkg::Lock::Timeout=300 update
    DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 install docker.io
  else
    dnf -qy install docker
  fi
  systemctl enable --now docker
}

is_superlink_there() { timeout 10 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$HOST" "$PORT" 2>/dev/null; }

watch_superlink() {
  local seen=$SECONDS
  while sleep 60; do
    if is_superlink_there; then
      seen=$SECONDS
    elif (( SECONDS - seen >= LOST_S )); then
      touch "$STATE/lost"
      docker stop -t 20 motley-agent
      return
    fi
  done
}

run_agent() {
  local failures=0 started
  while (( failures < 5 )); do
    docker rm --force motley-agent >/dev/null 2>&1
    started=$SECONDS
    "${AGENT[@]}" && return
    [ -e "$STATE/lost" ] && return
    if (( SECONDS - started > 600 )); then failures=1; else failures=$(( failures + 1 )); fi
    sleep $(( 10 * failures ))
  done
}

if [ "${1:-}" != run ] && become_service; then exit 0; fi
WATCH=
trap end_machine EXIT
trap 'trap - EXIT; kill "$WATCH"; exit 143' TERM  # The machine stops already.
limit_life
rm -f "$STATE/lost"
install_docker
watch_superlink &
WATCH=$!
run_agent
"""
