"""Wait for the fleet to join, submit the run through Flower's Control API, wait for its end.

    python -m server.submit --superlink HOST:PORT --fleet FILE --state DIR --data DIR

The exit code is 0 when the run completed, 1 when it failed or no device came.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    StartRunRequest,
    StopRunRequest,
    StreamLogsRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from motley.errors import MotleyError, RunFailed
from motley.fleetfile import read_fleet
from motley.spec import Fleet

POLL_S = 0.5
ROOT = Path(__file__).resolve().parents[1]
_FINISHED = "finished"


def connect(address: str) -> ControlHttpClient:
    """The Control API of the SuperLink on `address`."""
    interceptors: list[Any] = [CliClientHttpInterceptor(), RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
    return ControlHttpClient.from_server_address(address, True, None, interceptors)


def stop_former(control: ControlHttpClient) -> None:
    """Stop what the SuperLink still takes for runs under way: their ServerApps ended with the former SuperLink."""
    for run_id, run in control.ListRuns(ListRunsRequest()).run_dict.items():
        if run.status.status != _FINISHED:
            with suppress(httpx.HTTPStatusError):  # it may have ended meanwhile
                control.StopRun(StopRunRequest(run_id=run_id))
            _say(f"Flower run {run_id} ended with the former server")


def await_fleet(control: ControlHttpClient, fleet: Fleet) -> int:
    """Until every device has joined, or a quorum once the time is up; returns how many have.

    Raises RunFailed when fewer than the quorum have joined by then.
    """
    expected, quorum = fleet.total_devices, max(1, round(fleet.server.join_quorum * fleet.total_devices))
    until = time.monotonic() + fleet.server.join_timeout
    said = -1
    while True:
        joined = online(control)
        if joined != said:
            _say(f"{joined} of {expected} devices have joined")
            said = joined
        if joined >= expected:
            return joined
        if time.monotonic() > until:
            break
        time.sleep(POLL_S)
    waited = f"after {fleet.server.join_timeout:g} s {joined} of {expected} devices have joined"
    if joined < quorum:
        raise RunFailed(f"{waited}, fewer than the quorum of {quorum}; see the devices' logs")
    _say(f"{waited}; starting with this quorum")
    return joined


def submit(control: ControlHttpClient, app: bytes, config: dict[str, Any]) -> int:
    """Start a run of the app bundle `app`; returns its id."""
    fab = Fab(hashlib.sha256(app).hexdigest(), app, {})
    request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(config))
    answer = control.StartRun(request)
    if not answer.HasField("run_id"):
        raise RunFailed("the SuperLink did not accept the run; see its log")
    return int(answer.run_id)


def follow(control: ControlHttpClient, run_id: int, say: Callable[[str], None]) -> bool:
    """Pass on the ServerApp's log until the run has ended, over restarts of the SuperLink.

    Returns whether the run completed.
    """
    latest = 0.0
    while True:
        try:
            for piece in control.StreamLogs(StreamLogsRequest(run_id=run_id, after_timestamp=latest)):
                latest = max(latest, piece.latest_timestamp)
                say(piece.log_output)
            status = control.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id].status
        except httpx.HTTPError:
            time.sleep(POLL_S)
            continue
        if status.status == _FINISHED:
            return str(status.sub_status) == "completed"
        time.sleep(POLL_S)


def app_bundle(root: Path = ROOT) -> bytes:
    """Client and server as a Flower App Bundle; the library is installed on both sides."""
    wanted = [root / "pyproject.toml", root / "LICENSE", *root.glob("client/*.py"), *root.glob("server/*.py")]
    bundle, _ = build_fab_from_files({str(path.relative_to(root)): path for path in wanted})
    return bundle


def online(control: ControlHttpClient) -> int:
    try:
        nodes = control.ListNodes(ListNodesRequest()).nodes_info
    except httpx.HTTPError:
        return 0
    return sum(node.status == "online" for node in nodes)


def _pass_on(text: str) -> None:
    print(text, end="", flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m server.submit", description=__doc__)
    for name in ("superlink", "fleet", "state", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--runtime", default="processes")
    parser.add_argument("--cleared", type=Path, help="Made once no run of a former server is left.")
    options = parser.parse_args(argv)
    control = connect(options.superlink)
    try:
        stop_former(control)
        if options.cleared is not None:
            options.cleared.touch()
        await_fleet(control, read_fleet(options.fleet))
        config = {name: str(getattr(options, name)) for name in ("fleet", "state", "data", "runtime")}
        run_id = submit(control, app_bundle(), config)
        _say(f"run {run_id} submitted")
        return 0 if follow(control, run_id, _pass_on) else 1
    except MotleyError as error:
        print(f"submit: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    finally:
        control.close()


if __name__ == "__main__":
    sys.exit(main())
