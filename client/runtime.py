"""A task of Flower's SuperNode and its reply, as both travel between SuperNode, executor and child.

Everything is protobuf bytes until the child opens it: the executor stays as lean as it was forked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from flwr.app import Context, Message
from flwr.app.error import Error
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    fab_from_proto,
    message_from_proto,
    message_to_proto,
    run_from_proto,
)
from flwr.proto import message_pb2, runtime_pb2
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run


@dataclass(frozen=True)
class OpenTask:
    """One message for the ClientApp, with all that Flower sends along."""

    message: Message
    context: Context
    run: Run
    fab: Fab


@dataclass(frozen=True)
class Task:
    """The same as it travels: what the SuperNode gives, the bare message, and its objects by their ids."""

    given: bytes
    bare: bytes
    root: str
    """The object that is the message itself."""
    objects: dict[str, bytes]

    def parts(self) -> list[bytes]:
        return [self.given, self.bare, self.root.encode(), *_flat(self.objects)]

    @classmethod
    def from_parts(cls, parts: Sequence[bytes]) -> Task:
        given, bare, root, *rest = parts
        return cls(given, bare, root.decode(), _by_id(rest))

    @cached_property
    def envelope(self) -> Message:
        """The message without its content: enough to say what it is, and to reply with an error."""
        return message_from_proto(message_pb2.Message.FromString(self.bare))

    def open(self) -> OpenTask:
        """Inflate it; what it held is given up on the way, to save memory."""
        given = runtime_pb2.PullTaskInputResponse.FromString(self.given)
        message = inflate_object_from_contents(self.root, self.objects)
        if not isinstance(message, Message):
            raise TypeError(f"the task brings a {type(message).__name__} in place of a Message")
        message.metadata.__dict__["_message_id"] = self.root
        context, run, fab = context_from_proto(given.context), run_from_proto(given.run), fab_from_proto(given.fab)
        return OpenTask(message, context, run, fab)


@dataclass(frozen=True)
class Reply:
    """A reply as it travels: protobuf bytes of message, object tree and (if it changed) context."""

    message: bytes
    tree: bytes
    objects: dict[str, bytes]
    context: bytes
    failure: str
    """Why the task failed; empty when it did not."""
    figures: str = ""
    """What the ClientApp reports of its work, as a JSON object; empty where nothing."""

    def parts(self) -> list[bytes]:
        head = [self.message, self.tree, self.context, self.failure.encode(), self.figures.encode()]
        return [*head, *_flat(self.objects)]

    @classmethod
    def from_parts(cls, parts: Sequence[bytes]) -> Reply:
        message, tree, context, failure, figures, *rest = parts
        return cls(message, tree, _by_id(rest), context, failure.decode(), figures.decode())


def reply_of(message: Message, context: Context | None = None, failure: str = "", figures: str = "") -> Reply:
    """A reply Message, ready to travel."""
    message.metadata.__dict__["_message_id"] = message.object_id
    with no_object_id_recompute():
        tree = get_object_tree(message)
        objects = {object_id: each.deflate() for object_id, each in get_all_nested_objects(message).items()}
        bare = message_to_proto(remove_content_from_message(message) if message.has_content() else message)
    return Reply(
        message=bare.SerializeToString(),
        tree=tree.SerializeToString(),
        objects=objects,
        context=context_to_proto(context).SerializeToString() if context else b"",
        failure=failure,
        figures=figures,
    )


def error_reply(task: Task, reason: str, code: int = ErrorCode.CLIENT_APP_CRASHED) -> Reply:
    """The reply for a task that ended without one."""
    return reply_of(Message(Error(code=code, reason=reason), reply_to=task.envelope), failure=reason)


def _flat(objects: dict[str, bytes]) -> list[bytes]:
    return list(chain.from_iterable((object_id.encode(), content) for object_id, content in objects.items()))


def _by_id(parts: Sequence[bytes]) -> dict[str, bytes]:
    return {parts[i].decode(): parts[i + 1] for i in range(0, len(parts), 2)}
