"""The adaptations fit the installed Flower; where Flower looks different they warn and leave it alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motley.clock import ManualClock
from motley.flower import inbox, link
from motley.flower.shape import Changed, expect_parameters, expect_source

ROOT = Path(__file__).resolve().parents[1]

ADAPTATIONS = {
    "adapt_http": "adapt_http()",
    "adapt_object_pulls": "adapt_object_pulls()",
    "adapt_superlink": "adapt_superlink()",
    "adapt_supernode": "adapt_supernode(print, print)",
    "postpone_database": "postpone_database()",
}

BREAKS = {
    "adapt_http": "import flwr.superlink.main as m; m._get_middleware = lambda: []",
    "adapt_object_pulls": "import flwr.supercore.inflatable.inflatable_utils as m; m.pull_objects = lambda ids: {}",
    "adapt_superlink": (
        "from flwr.supercore.corestate.sql_corestate import SqlCoreState as C; "
        "C.get_object = lambda self, object_id: b''"
    ),
    "adapt_supernode": "import flwr.supernode.start_client_internal as m; del m._push_messages",
    "postpone_database": "import flwr.supercore.object_store",
}
"""For each adaptation, a Flower that looks different."""


def in_fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", sorted(ADAPTATIONS))
def test_fits_the_installed_flower(name: str) -> None:
    code = f"""
        import warnings
        warnings.simplefilter("error", UserWarning)
        from motley.flower import {name}
        print({ADAPTATIONS[name]})
    """
    assert in_fresh_python(code) == "True"


@pytest.mark.parametrize("name", sorted(ADAPTATIONS))
def test_stays_stock_where_flower_looks_different(name: str) -> None:
    code = f"""
        import warnings
        from motley.flower import {name}
        {BREAKS[name]}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print({ADAPTATIONS[name]}, sum("runs unadapted" in str(each.message) for each in caught))
    """
    assert in_fresh_python(code) == "False 1"


def test_a_device_loads_no_database_until_one_is_opened(tmp_path: Path) -> None:
    code = f"""
        import sys
        from motley.flower import postpone_database
        postpone_database()
        from importlib import import_module
        import_module("flwr.supernode.cli.flower_supernode")
        print("sqlalchemy" in sys.modules)
        from flwr.supercore.object_store import ObjectStoreFactory
        print(type(ObjectStoreFactory({str(tmp_path / "objects.db")!r}).store()).__name__)
    """
    assert in_fresh_python(code).split() == ["False", "SqlObjectStore"]


def test_importing_the_package_imports_nothing_of_flower() -> None:
    assert in_fresh_python("import sys, motley.flower; print('flwr' in sys.modules)") == "False"


SHORT = """
    from motley.flower import adapt_http, adapt_superlink
    adapt_superlink(), adapt_http()
    from fastapi.testclient import TestClient
    from flwr.proto import fleet_pb2, runtime_pb2
    from flwr.superlink.main import create_app
    app = create_app()
    from motley.flower.http import short_answers
    client = TestClient(app)
    def post(path, message=fleet_pb2.PullMessagesRequest(), kind="application/protobuf", **headers):
        answer = client.post(path, content=message.SerializeToString(), headers={"content-type": kind, **headers})
        print(answer.status_code)
"""


def test_short_path_covers_what_a_message_needs() -> None:
    shown = in_fresh_python(SHORT + "    print(*short_answers(app))")
    fleet = {f"/v1/fleet/{each}-messages" for each in ("pull", "push")}
    fleet |= {"/v1/fleet/pull-object", "/v1/fleet/push-object", "/v1/fleet/confirm-message-received"}
    runtime = {each.replace("fleet", "runtime") for each in fleet}
    assert fleet | runtime <= set(shown.split())
    assert "/v1/runtime/acquire-task" not in shown.split()


def test_short_path_refuses_what_flower_refuses() -> None:
    """Without a node's signature, without a task's token, with the wrong content type."""
    code = (
        SHORT
        + """
    post("/v1/fleet/pull-messages")
    post("/v1/runtime/pull-messages", runtime_pb2.PullAppMessagesRequest())
    post("/v1/fleet/pull-messages", kind="text/plain")
    """
    )
    stock = code.replace("adapt_superlink(), adapt_http()", "")
    assert in_fresh_python(code) == in_fresh_python(stock)
    assert in_fresh_python(code).split()[:2] == ["401", "401"]


def test_expectations_name_what_is_different() -> None:
    with pytest.raises(Changed, match="takes text"):
        expect_parameters(textwrap, "dedent", ["string"])
    with pytest.raises(Changed, match=r"no textwrap\.undent"):
        expect_parameters(textwrap, "undent", ["text"])
    with pytest.raises(Changed, match="no 'import flwr'"):
        expect_source(textwrap, "import flwr")


class Counting:
    """Counts its calls."""

    def __init__(self, answer: Any = None) -> None:
        self.calls: list[Any] = []
        self.answer = answer

    def __call__(self, _: Any, *arguments: Any, **named: Any) -> Any:
        self.calls.append((*arguments, *named.values()))
        return self.answer

    __name__ = "counting"


def test_housekeeping_runs_once_a_second() -> None:
    clock, method = ManualClock(10.0), Counting()
    limited = link.at_most_once_in(method, clock.now_s)
    limited(None), limited(None)
    clock.sleep(link.HOUSEKEEPING_S)
    limited(None)
    assert len(method.calls) == 2


def test_answers_are_remembered_for_a_while_but_nothing_is_not() -> None:
    clock, method, nothing = ManualClock(10.0), Counting("task"), Counting(None)
    remembered = link.remembered(method, clock.now_s)
    assert [remembered(None, "token"), remembered(None, "token")] == ["task", "task"]
    clock.sleep(link.REMEMBER_S)
    remembered(None, "token")
    assert len(method.calls) == 2
    never = link.remembered(nothing, clock.now_s)
    never(None, "token"), never(None, "token")
    assert len(nothing.calls) == 2


def test_traffic_is_added_up_by_run() -> None:
    clock, method = ManualClock(10.0), Counting()
    add = link.added_up(method, clock.now_s)
    for _ in range(3):
        add(None, 7, bytes_sent=1, bytes_recv=2)
    clock.sleep(link.HOUSEKEEPING_S)
    add(None, 7, bytes_sent=1, bytes_recv=0)
    assert method.calls == [(7, 1, 2), (7, 3, 4)]


def test_objects_are_read_once_and_only_so_many_bytes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MOST_CACHED_BYTES", 5)
    clock, method = ManualClock(10.0), Counting(b"1234")
    get = link.cached(method, clock.now_s)
    get(None, 1, "a"), get(None, 1, "a")
    assert len(method.calls) == 1
    get(None, 1, "b"), get(None, 1, "a")
    assert len(method.calls) == 3


def test_an_object_that_is_not_there_yet_is_asked_for_again() -> None:
    method = Counting(b"")
    get = link.cached(method, ManualClock(10.0).now_s)
    get(None, 1, "a"), get(None, 1, "a")
    assert len(method.calls) == 2


def message(node: int, reply_to: str = "") -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(dst_node_id=node, reply_to_message_id=reply_to, run_id=5))


def test_an_empty_inbox_is_not_read_again_until_a_message_comes() -> None:
    clock, method = ManualClock(10.0), Counting([])
    inboxes = inbox.Inboxes(clock.now_s)
    get = inbox.asked_when_open(inboxes)(method)
    get(None, 1, 1), get(None, 1, 1)
    assert len(method.calls) == 1
    inboxes.stored(1, [])
    get(None, 1, 1)
    assert len(method.calls) == 2
    clock.sleep(inbox.EMPTY_S)
    get(None, 1, 1)
    assert len(method.calls) == 3


def test_a_message_that_comes_while_the_database_is_read_is_not_overlooked() -> None:
    inboxes = inbox.Inboxes(ManualClock(10.0).now_s)
    before = inboxes.version
    inboxes.stored(1, [])
    inboxes.found_empty(1, before)
    assert not inboxes.is_closed(1)


def test_a_message_waits_for_its_objects_but_not_for_ever() -> None:
    clock = ManualClock(10.0)
    inboxes = inbox.Inboxes(clock.now_s)
    inboxes.stored(1, ["a", "b"])
    inboxes.stored(2, ["b"])
    inboxes.uploaded("b")
    assert inboxes.is_closed(1)
    assert not inboxes.is_closed(2)
    inboxes.uploaded("a")
    assert not inboxes.is_closed(1)
    inboxes.stored(1, ["c"])
    clock.sleep(inbox.HOLD_S)
    assert not inboxes.is_closed(1)


def test_a_poll_ends_as_soon_as_the_message_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "POLL_S", 60.0)
    inboxes = inbox.Inboxes()
    inboxes.stored(1, ["a"])

    async def poll() -> None:
        waiting = asyncio.create_task(inboxes.opened(1))
        await asyncio.sleep(0)
        await asyncio.to_thread(inboxes.uploaded, "a")
        await asyncio.wait_for(waiting, 5)

    asyncio.run(poll())


def test_replies_are_asked_for_when_one_has_been_stored() -> None:
    clock, method = ManualClock(10.0), Counting([])
    replies, inboxes = inbox.Replies(clock.now_s), inbox.Inboxes(clock.now_s)
    get = inbox.asked_when_replied(replies)(method)
    store = inbox.noting_messages(inboxes, replies)(Counting((True, [])))
    get(None, {"a", "b"}, 5), get(None, {"a"}, 5)
    assert len(method.calls) == 1
    get(None, {"c"}, 5)
    assert len(method.calls) == 2
    store(None, message(1, reply_to="c"), None, "session")
    get(None, {"c"}, 5)
    assert len(method.calls) == 3
    clock.sleep(inbox.EMPTY_S)
    get(None, {"c"}, 5)
    assert len(method.calls) == 4


def test_an_upload_may_be_repeated() -> None:
    """Its name is the hash of its content: what is there already is as good as what comes."""
    there, missing = SimpleNamespace(get_object=lambda *_: b"x"), SimpleNamespace(get_object=lambda *_: None)
    store = inbox.noting_uploads(inbox.Inboxes())(Counting(False))
    assert store(there, 5, "session", "a", b"x")
    assert not store(missing, 5, "session", "a", b"x")
