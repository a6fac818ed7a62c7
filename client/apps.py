"""Load the ClientApp of a Flower App Bundle (FAB) and let it answer one message."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from flwr.app import Message
from flwr.app.error import Error
from flwr.cli.install import install_from_fab
from flwr.clientapp.client_app import ClientApp, LoadClientAppError
from flwr.clientapp.utils import get_load_client_app_fn
from flwr.common.config import get_project_dir
from flwr.common.constant import ErrorCode

from client import runtime


def execute(task: runtime.Task) -> runtime.Reply:
    """The ClientApp's reply to a task's message; an exception becomes an error reply."""
    opened = task.open()
    try:
        reply = _load(opened)(message=opened.message, context=opened.context)
    except Exception as error:
        traceback.print_exc()
        code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
        if isinstance(error, LoadClientAppError):
            code = ErrorCode.LOAD_CLIENT_APP_EXCEPTION
        reason = f"{type(error).__name__}: {error}"
        failed = Message(Error(code=code, reason=reason), reply_to=opened.message)
        return runtime.reply_of(failed, opened.context, failure=reason)
    return runtime.reply_of(reply, opened.context, figures=_figures(reply))


def _load(task: runtime.OpenTask) -> ClientApp:
    directory = get_project_dir(task.run.fab_id, task.run.fab_version, task.fab.hash_str)
    if not directory.exists():
        install_from_fab(task.fab.content, skip_prompt=True)
    _forget_other_versions(directory)
    load = get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
    return load(task.run.fab_id, task.run.fab_version, task.fab.hash_str)


def _forget_other_versions(directory: Path) -> None:
    """Drop warm modules that the bundle brings too, in another version: the bundle's word counts."""
    for bundled in directory.rglob("*.py"):
        name = ".".join(bundled.relative_to(directory).with_suffix("").parts).removesuffix(".__init__")
        source = getattr(sys.modules.get(name), "__file__", None)
        if source and Path(source).read_bytes() != bundled.read_bytes():
            del sys.modules[name]


def _figures(reply: Message) -> str:
    """The numbers that the ClientApp reports, for the exporter; empty where it reports none."""
    if not reply.has_content():
        return ""
    numbers: dict[str, object] = {}
    for record in reply.content.metric_records.values():
        numbers.update(record)
    return json.dumps(numbers)
