"""Flower's Grid on virtual time: messages to devices that are but models, training that is real."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import astuple
from typing import Any, NoReturn, Protocol, cast

import numpy as np
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from motley.compression import encoded_bytes
from motley.device import Outcome
from motley.knowledge import TaskFigures
from motley.messages import array_bytes
from motley.simulation.clock import VirtualClock
from motley.simulation.contexts import Contexts
from motley.simulation.device import Condition, Demand, VirtualDevice
from motley.simulation.flights import Flight, flights_of, flights_state
from motley.simulation.presence import Presence
from motley.training.model import shapes_of

DETECTION_S = 60.0
"""How long Flower's SuperLink takes to notice that a device has gone: two missed heartbeats."""

_REPORT_BYTES = 1024


class Engine(Protocol):
    """Runs the client code for messages, and gives a reply for each; time does not pass meanwhile."""

    contexts: Contexts
    """What devices keep between messages."""

    def run(self, messages: Sequence[Message]) -> list[Message]: ...


class VirtualGrid(Grid):
    """Delivers each reply at the time that the device's model gives.

    Training is put off until the first reply is due that needs it; then everything that is under way
    is trained together, which is what makes it fast.
    """

    def __init__(
        self,
        devices: Sequence[VirtualDevice],
        engine: Engine,
        clock: VirtualClock,
        task: TaskFigures,
        task_name: str,
        seed: int,
    ) -> None:
        self._devices = {each.device.partition + 1: each for each in devices}
        self._presence = Presence(devices, seed)
        self._engine = engine
        self._clock = clock
        self._task, self._task_name = task, task_name
        self.flights: dict[str, Flight] = {}
        self._dues: list[tuple[float, int]] = []
        self._sent = 0

    def set_run(self, run: Any) -> None:
        """Nothing: a virtual grid has one run."""

    @property
    def run(self) -> Any:
        raise AttributeError("a virtual grid has no run on a SuperLink")

    def create_message(self, *arguments: Any, **named: Any) -> NoReturn:
        raise NotImplementedError("make messages with flwr.app.Message")

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send, and let virtual time pass until all replies are there or `timeout` seconds are over."""
        ids = set(self.push_messages(messages))
        ends_s = self._clock.now_s() + (math.inf if timeout is None else timeout)
        replies: list[Message] = []
        while ids and (left_s := ends_s - self._clock.now_s()) > 0:
            self._clock.wait(left_s, 0.0)
            arrived = list(self.pull_messages(ids))
            ids -= {each.metadata.reply_to_message_id for each in arrived}
            replies += arrived
        return replies

    def get_node_ids(self) -> Iterable[int]:
        """The devices that are there now and have the charge to take part."""
        return self._presence.nodes(self._clock.now_s())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            self._sent += 1
            id_ = str(self._sent)
            message.metadata.__dict__["_message_id"] = id_
            self.flights[id_] = flight = self._depart(message)
            heapq.heappush(self._dues, (flight.due_s, self._sent))
            self._clock.schedule(flight.due_s)
            ids.append(id_)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = message_ids if isinstance(message_ids, Set) else set(message_ids)
        due, others = list[str](), list[tuple[float, int]]()
        while self._dues and self._dues[0][0] <= self._clock.now_s():
            first = heapq.heappop(self._dues)
            if str(first[1]) in wanted:
                due.append(str(first[1]))
            else:
                others.append(first)
        for each in others:
            heapq.heappush(self._dues, each)
        if any(self._needs_work(self.flights[id_]) for id_ in due):
            self._work()
        return [self._land(self.flights.pop(id_)) for id_ in due]

    def state(self) -> dict[str, Any]:
        """Everything under way and the condition of every device: plain data, arrays and bytes."""
        conditions = [astuple(each.condition) for each in self._devices.values()]
        return {
            "sent": self._sent,
            "presence": self._presence.state(),
            "conditions": np.array(conditions),
            **flights_state(self.flights),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._sent = state["sent"]
        self._presence.restore(state["presence"])
        for device, condition in zip(self._devices.values(), state["conditions"].tolist(), strict=True):
            device.condition = Condition(*condition)
        self.flights = dict(flights_of(state, self._devices))
        self._dues = sorted((flight.due_s, int(id_)) for id_, flight in self.flights.items())

    def _depart(self, message: Message) -> Flight:
        """Ask the device's model what becomes of a message."""
        now_s, node = self._clock.now_s(), message.metadata.dst_node_id
        device = self._devices[node]
        demand = self._demand(message)
        course = device.course(demand, now_s, self._presence.leaves_s(node, now_s))
        self._presence.has_worked(node)
        unnoticed_s = DETECTION_S if course.failure is Outcome.UNREACHABLE else 0.0
        if course.failure is None and demand.kind == "train":
            # The model says how far it gets; the machine that trains here has another speed.
            cast(ConfigRecord, message.content["order"]).update(steps=course.steps, stop_after_s=0.0)
        return Flight(message, now_s + course.total_s + unnoticed_s, course, device, demand)

    def _demand(self, message: Message) -> Demand:
        kind, number = message.metadata.message_type, message.metadata.group_id
        down_bytes = array_bytes(message.content)
        key = f"{kind}/{number}/{self._clock.now_s():.6f}"
        if kind != "train":
            return Demand(kind, key, down_bytes, _REPORT_BYTES)
        order: dict[str, Any] = dict(cast(ConfigRecord, message.content["order"]))
        width = float(order["width"])
        return Demand(
            kind=kind,
            key=key,
            down_bytes=down_bytes,
            up_bytes=encoded_bytes(shapes_of(self._task_name, width), str(order["compression"])) + _REPORT_BYTES,
            batch_size=int(order["batch_size"]),
            physical_batch=int(order["physical_batch"]),
            steps=int(order["steps"]),
            stop_after_s=float(order["stop_after_s"]) or math.inf,
            width=width,
        )

    def _needs_work(self, flight: Flight) -> bool:
        return flight.reply is None and flight.course.failure is None and flight.demand.kind != "query"

    def _work(self) -> None:
        """Run the client code for all that is under way."""
        waiting = [flight for flight in self.flights.values() if self._needs_work(flight)]
        for flight, reply in zip(waiting, self._engine.run([each.message for each in waiting]), strict=True):
            flight.reply = reply

    def _land(self, flight: Flight) -> Message:
        if flight.course.failure is Outcome.UNREACHABLE:
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, flight.course.reason), reply_to=flight.message)
        if flight.course.failure is not None:
            reason = f"{flight.course.failure.value}: {flight.course.reason}"
            return Message(Error(ErrorCode.CLIENT_APP_CRASHED, reason), reply_to=flight.message)
        if flight.demand.kind == "query":
            profile = flight.device.profile(self._clock.now_s()).as_mapping()
            return Message(RecordDict({"profile": ConfigRecord(profile)}), reply_to=flight.message)
        if flight.reply is None:
            raise RuntimeError("a reply was due before its work was done")
        if flight.demand.kind == "train" and flight.reply.has_content():
            flight.reply.content.metric_records["report"].update(self._measured(flight))
        return flight.reply

    def _measured(self, flight: Flight) -> dict[str, int | float]:
        """What the device would have measured, in place of what this machine did."""
        now_s, device, course = self._clock.now_s(), flight.device, flight.course
        return {
            "wall_s": course.compute_s,
            "cpu_s": course.compute_s * device.spec.cpus,
            "peak_memory_bytes": device.peak_memory_bytes(flight.demand),
            "energy_wh": device.energy_wh(course),
            "threads": max(1, int(device.spec.cpus)),
            "battery_level": device.battery_level(now_s),
            "charging": int(device.is_charging(now_s)),
        }
