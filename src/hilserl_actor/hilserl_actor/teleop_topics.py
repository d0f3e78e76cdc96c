# SPDX-License-Identifier: Apache-2.0
"""Topics of teleop: one input from each source, and one output for the command that counted."""

from __future__ import annotations

import array
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rclpy.node import Node

from hilserl_actor.reading import read_teleop
from hilserl_actor.teleop import NO_SOURCE, Choice, NewestCommands, Teleop, choose
from hilserl_core.observation import ObservationError
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import to_stamp


class TeleopTopics:
    """Listens to `teleop/<source>` of each source and publishes `teleop` once for each observation."""

    def __init__(
        self,
        node: Node,
        sources: Sequence[str],
        task: TaskSpec,
        complain: Callable[[str], None],
        receive: Callable[[str, TeleopCommand], object],
        real_time: bool,
    ) -> None:
        """receive: called with each topic's messages. real_time: the newest command of each source counts."""
        self.topics = {f"teleop/{source}": source for source in sources if source != NO_SOURCE}
        self.choice = Choice()
        self._task, self._complain, self._receive = task, complain, receive
        self._newest, self._real_time = NewestCommands(), real_time
        self._published_ns: int | None = None
        self._publisher = node.create_publisher(TeleopCommand, "teleop", qos.recorded(qos.TELEOP))
        self.subscriptions = {
            topic: node.create_subscription(TeleopCommand, topic, partial(self._on_command, topic), qos.TELEOP)
            for topic in self.topics
        }

    def _on_command(self, topic: str, message: TeleopCommand) -> None:
        self._newest.put(self.topics[topic], self._read(topic, message), time.monotonic())
        self._receive(topic, message)

    def choose(self, stamp_ns: int, parts: Mapping[str, Any], timeout_s: float) -> Teleop | None:
        """The person's command for this observation, None when nobody drives; publishes it once per observation.

        parts: in lockstep, topic -> the message with the observation's stamp; for a missing one the source's newest counts.
        """
        commands = self._newest.at(time.monotonic(), timeout_s if self._real_time else math.inf)
        if not self._real_time:
            commands |= {source: self._read(topic, parts[topic]) for topic, source in self.topics.items() if topic in parts}
        self.choice = choose(commands)
        if stamp_ns != self._published_ns:
            self._published_ns = stamp_ns
            self._publish(stamp_ns, self.choice.teleop)
        return self.choice.teleop

    def _read(self, topic: str, message: TeleopCommand) -> Teleop | None:
        try:
            return read_teleop(message, self.topics[topic], self._task)
        except ObservationError as error:
            self._complain(f"{error}: ignored")
            return None

    def _publish(self, stamp_ns: int, teleop: Teleop | None) -> None:
        message = TeleopCommand(active=teleop is not None)
        message.header.stamp = to_stamp(stamp_ns)
        if teleop is not None:
            message.action = array.array("f", teleop.action.tobytes())
        self._publisher.publish(message)
