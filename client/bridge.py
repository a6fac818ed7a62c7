"""Inside the SuperNode's process: hands each task to the executor and its reply back to the SuperNode.

The SuperNode's own Runtime handlers are called directly, one task at a time, in the thread that pulled
the message and will push the reply. Tokens and heartbeats of tasks stay here.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from flwr.proto import message_pb2, runtime_pb2
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supernode.servicer.runtime import runtime_handlers

from client.frames import Frames, pack
from client.runtime import Reply, Task

CONNECTED, TASK, CANCEL, REPLY, ABANDONED = b"connected", b"task", b"cancel", b"reply", b"abandoned"
"""The first part of a frame. The executor answers each task with one frame, a reply or abandoned."""

HEARTBEAT_S = 15.0


class Bridge:
    """The SuperNode's end of the channel to the executor."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._frames = Frames(channel)

    def connected(self) -> None:
        """Tell the executor that the SuperLink has been reached."""
        self._channel.sendall(pack([CONNECTED]))

    def answer(self, state: Any) -> None:
        """Have the executor answer the message that the NodeState `state` holds, if it holds one."""
        request = runtime_pb2.AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        claim = runtime_handlers.acquire_task(request, state)
        if not claim.HasField("task"):
            return
        self._channel.sendall(pack([TASK, *_take(state, claim.task).parts()]))
        kind, *parts = self._await(state, claim.task.task_id)
        if kind == REPLY and state.get_task_by_token(claim.token) is not None:
            _hand_in(state, claim.task, Reply.from_parts(parts))

    def _await(self, state: Any, task_id: int) -> list[bytes]:
        """The executor's answer. It is told to stop once the SuperNode gives up on the task."""
        beat_at, wanted = time.monotonic() + HEARTBEAT_S, True
        while True:
            if select.select([self._channel], [], [], max(0.0, beat_at - time.monotonic()))[0]:
                for frame in self._frames.read():
                    return frame
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + HEARTBEAT_S
                if wanted and not state.acknowledge_task_heartbeat(task_id):
                    wanted = False
                    self._channel.sendall(pack([CANCEL]))


def _take(state: Any, task: Any) -> Task:
    """The input of a claimed task."""
    given = runtime_handlers.pull_task_input(runtime_pb2.PullTaskInputRequest(), state, task)
    pulled = runtime_handlers.pull_messages(runtime_pb2.PullAppMessagesRequest(), state, task)
    (message,), (tree,) = pulled.messages_list, pulled.message_object_trees
    objects = {each.object_id: state.get_object(task.run_id, each.object_id) for each in iterate_object_tree(tree)}
    confirm = message_pb2.ConfirmMessageReceivedRequest(run_id=task.run_id, message_object_id=tree.object_id)
    runtime_handlers.confirm_message_received(confirm, state, task)
    return Task(given.SerializeToString(), message.SerializeToString(), tree.object_id, objects)


def _hand_in(state: Any, task: Any, reply: Reply) -> None:
    """Store the reply and end the task. Once for each: the SuperNode pairs them by order alone."""
    request = runtime_pb2.PushAppMessagesRequest(
        messages_list=[message_pb2.Message.FromString(reply.message)],
        message_object_trees=[message_pb2.ObjectTree.FromString(reply.tree)],
    )
    pushed = runtime_handlers.push_messages(request, state, task)
    for object_id in pushed.objects_to_push:
        content = message_pb2.PushObjectRequest(
            run_id=task.run_id,
            session_id=pushed.session_id,
            object_id=object_id,
            object_content=reply.objects[object_id],
        )
        runtime_handlers.push_object(content, state, task)
    output = runtime_pb2.PushTaskOutputRequest(
        context=message_pb2.Context.FromString(reply.context) if reply.context else None,
        sub_status="failed" if reply.failure else "completed",
        details=reply.failure,
    )
    runtime_handlers.push_task_output(output, state, task)
