# SPDX-License-Identifier: Apache-2.0
"""What a benchmark over DDS needs: a node of its own in a domain that nobody else has, and the processes it measures."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rclpy
from ament_index_python.packages import get_package_prefix
from rclpy.executors import SingleThreadedExecutor

from hilserl_ros.transport import use_udp

TIMEOUT_S = 120.0


class PeerError(RuntimeError):
    """A process did not do its part."""


class Peer:
    """A node; processes started while it lives are in its ROS domain."""

    def __init__(self, name: str) -> None:
        os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(1, 100))
        use_udp(os.environ)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        self.node = rclpy.create_node(name, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Take part until the condition holds. Raises PeerError when it does not for TIMEOUT_S."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                raise PeerError(f"waited in vain for {what}")
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        """Leave."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def node_command(package: str, program: str, *parameters: str) -> list[str]:
    """The command of a node. parameters: such as "lockstep:=true"."""
    path = Path(get_package_prefix(package)) / "lib" / package / program
    return [str(path), "--ros-args", *(word for text in parameters for word in ("-p", text))]


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen]:
    """A process that is told to end by SIGINT; its output is kept in `stdout`."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
