"""A short path through the SuperLink's HTTP API, past layers that do nothing for the request at hand.

A request to Flower's SuperLink goes through nine middleware layers, FastAPI's dependency solver and
several changes of thread. The short path does for the routes of devices and ServerApps what these do,
in the same order, with Flower's own functions and one change of thread: parse, authenticate, check the
version, call the handler, translate errors. Whatever needs more than that keeps the long way.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from motley.flower.shape import SURPRISES, Changed, expect_parameters, stay_stock

LAYERS = [
    "ControlSensitiveResponseMiddleware",
    "BaseHTTPMiddleware",  # http_error_translator
    "ControlAuthenticationMiddleware",
    "ControlLicenseMiddleware",
    "ProtobufTranslationMiddleware",
    "RuntimeTracingMiddleware",
    "ControlEventLogMiddleware",
    "NodeAuthMiddleware",
    "FleetEventLogMiddleware",
]
"""Of Flower's SuperLink, outermost first."""

FLEET, RUNTIME = "/v1/fleet/", "/v1/runtime/"
POLL = "/v1/fleet/pull-messages"
"""A device asks for its next message; the answer waits for one, a little."""

Answer = Callable[[Any], Awaitable[Any]]
"""From a Request to its Response."""


def adapt_http() -> bool:
    """Let the SuperLink of this process answer devices and ServerApps over the short path.

    Returns whether Flower could be adapted; False too where tracing or event logs want the long way.
    """
    if os.environ.get("FLWR_TRACING_ENABLED") == "1" or os.environ.get("FLWR_ENABLE_EVENT_LOG") == "1":
        return False
    try:
        import flwr.superlink.main as link
        from starlette.middleware import Middleware

        layers = [layer.cls.__name__ for layer in expect_parameters(link, "_get_middleware", [])()]
        if layers != LAYERS:
            raise Changed(f"its layers are {', '.join(layers)}")
        _expect_functions()
    except SURPRISES as problem:
        return stay_stock("HTTP API", problem)
    stock = link._get_middleware
    link._get_middleware = lambda: [Middleware(ShortPath), *stock()]
    return True


def _expect_functions() -> None:
    from flwr.supercore.dependencies import runtime, task
    from flwr.supercore.error import http
    from flwr.supercore.protobuf import translation
    from flwr.superlink.dependencies import linkstate
    from flwr.superlink.routers.fleet import node_auth

    expect_parameters(http, "http_error_translator", ["request", "call_next"])
    expect_parameters(node_auth, "authenticate_node", ["request"])
    expect_parameters(task, "authenticate_task", ["request", "token", "state"])
    expect_parameters(runtime, "get_runtime_state", ["request"])
    expect_parameters(runtime, "get_runtime_handlers", ["request"])
    expect_parameters(linkstate, "get_linkstate", ["request"])
    expect_parameters(translation, "get_protobuf_request", ["request"])
    expect_parameters(translation.ProtobufTranslationMiddleware, "_check_request_media_type", ["request"])
    expect_parameters(translation.ProtobufTranslationMiddleware, "_parse_request", ["body", "request_type"])


class ShortPath:
    """The outermost layer of the app: answers what it can by itself and hands on the rest."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._answers: dict[str, Answer] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from flwr.supercore.error import http_error_translator
        from starlette.requests import Request

        answer = self._answer_for(scope)
        if answer is None:
            await self._app(scope, receive, send)
            return
        response = await http_error_translator(Request(scope, receive), answer)
        await response(scope, receive, send)

    def _answer_for(self, scope: Any) -> Answer | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        if self._answers is None:
            self._answers = short_answers(scope["app"])
        return self._answers.get(scope["path"])


def short_answers(app: Any) -> dict[str, Answer]:
    """By path, for the routes of devices and ServerApps that need no more than the short path does."""
    from fastapi.routing import iter_route_contexts
    from flwr.supercore.dependencies.version import VersionDependency
    from flwr.supercore.protobuf.routing import ProtobufRoute
    from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

    if getattr(app.state, "fleet_event_log_plugin", None) is not None:
        return {}
    answers = {}
    for context in iter_route_contexts(app.routes):
        path, route = context.path or "", context.original_route
        if not path.startswith((FLEET, RUNTIME)) or type(route) is not ProtobufRoute:
            continue
        endpoint = inspect.unwrap(route.endpoint)
        arguments = _arguments_of(endpoint)
        checks = [each.dependency for each in context.dependencies]
        if arguments is not None and all(isinstance(check, VersionDependency) for check in checks):
            answers[path] = _answer(PROTOBUF_REQUEST_TYPES["POST", path], endpoint, arguments, checks, path)
    return answers


def _arguments_of(endpoint: Any) -> dict[str, Callable[[Any], Any]] | None:
    """How to get each of its arguments from a request; None where one is not known here."""
    hints, known = get_type_hints(endpoint, include_extras=True), _known_dependencies()
    arguments = {}
    for name in inspect.signature(endpoint).parameters:
        wanted = [getattr(each, "dependency", None) for each in getattr(hints.get(name), "__metadata__", ())]
        if len(wanted) != 1 or wanted[0] not in known:
            return None
        arguments[name] = known[wanted[0]]
    return arguments


def _known_dependencies() -> dict[Any, Callable[[Any], Any]]:
    from flwr.supercore.constant import TASK_TOKEN_HEADER
    from flwr.supercore.dependencies.runtime import get_runtime_handlers, get_runtime_state, get_task
    from flwr.supercore.dependencies.task import authenticate_task
    from flwr.supercore.protobuf.translation import get_protobuf_request
    from flwr.superlink.dependencies.linkstate import get_linkstate

    def task(request: Any) -> Any:
        return authenticate_task(request, request.headers.get(TASK_TOKEN_HEADER), get_runtime_state(request))

    as_they_are = (get_protobuf_request, get_linkstate, get_runtime_state, get_runtime_handlers)
    return {**{each: each for each in as_they_are}, get_task: task}


def _answer(request_type: Any, endpoint: Any, arguments: Any, checks: Any, path: str) -> Answer:
    from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
    from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware as Translation
    from flwr.superlink.routers.fleet.node_auth import authenticate_node
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response

    if path.startswith(FLEET):
        checks = [authenticate_node, *checks]

    def check(request: Any) -> None:
        for each in checks:
            each(request)

    def serve(request: Any) -> bytes:
        reply = endpoint(**{name: value(request) for name, value in arguments.items()})
        return bytes(reply.SerializeToString())

    def check_and_serve(request: Any) -> bytes:
        check(request)
        return serve(request)

    async def answer(request: Any) -> Any:
        Translation._check_request_media_type(request)
        request.state.protobuf_request = Translation._parse_request(await request.body(), request_type)
        if path != POLL:
            content = await run_in_threadpool(check_and_serve, request)
        else:
            await run_in_threadpool(check, request)
            if not await _opened(request):
                return Response(status_code=204)
            content = await run_in_threadpool(serve, request)
        return Response(content, media_type=PROTOBUF_MEDIA_TYPE)

    return answer


async def _opened(request: Any) -> bool:
    """Wait a little for a message for the device that polls; False if it has gone meanwhile."""
    from flwr.superlink.dependencies.linkstate import get_linkstate

    inboxes = getattr(get_linkstate(request), "inboxes", None)
    if inboxes is None:
        return True
    await inboxes.opened(request.state.protobuf_request.node.node_id)
    return not await request.is_disconnected()
