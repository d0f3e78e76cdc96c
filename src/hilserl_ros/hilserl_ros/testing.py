# SPDX-License-Identifier: Apache-2.0
"""For tests only: a ROS domain with a node that plays everybody else, and the processes that are tested there."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import get_package_prefix
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from hilserl_ros.transport import use_udp


def node_command(package: str, executable: str, parameters: Sequence[str]) -> list[str]:
    """What starts a node; parameters: such as "port:=/tmp/arm"."""
    words = [word for text in parameters for word in ("-p", text)]
    return [str(Path(get_package_prefix(package)) / "lib" / package / executable), "--ros-args", *words]


class Rig:
    """A node in a domain `offset` away from the environment's. Nothing in it waits for a fixed time."""

    def __init__(self, offset: int, timeout_s: float = 120.0) -> None:
        """timeout_s: after which `until` fails."""
        self.domain, self.timeout_s = int(os.environ.get("ROS_DOMAIN_ID", "0")) + offset, timeout_s
        use_udp(os.environ)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.node = rclpy.create_node("station", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.processes: list[subprocess.Popen] = []

    def run(self, package: str, executable: str, parameters: Sequence[str]) -> subprocess.Popen:
        """Start a node."""
        return self.spawn(node_command(package, executable, parameters))

    def spawn(self, command: Sequence[str]) -> subprocess.Popen:
        """Start a process in this domain, whose errors can be read."""
        environment = {**os.environ, "ROS_DOMAIN_ID": str(self.domain)}
        self.processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return self.processes[-1]

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Spin until the condition holds."""
        end = time.monotonic() + self.timeout_s
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.executor.spin_once(timeout_sec=0.02)
            self.meanwhile()

    def meanwhile(self) -> None:
        """Done again and again while something is waited for."""

    def call(self, kind: type, name: str, request: object = None) -> Any:
        """The answer of a service."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"the service {name}")
        answer = client.call_async(request or kind.Request())
        self.until(answer.done, f"an answer of {name}")
        return answer.result()

    def close(self) -> None:
        """Kill what still runs and show what it said."""
        for process in self.processes:
            process.kill()
            print(process.communicate()[1])  # noqa: T201, shown when a test fails
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
