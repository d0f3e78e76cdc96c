# SPDX-License-Identifier: Apache-2.0
"""A process with the recorder's subscriptions that only counts: what the transport alone costs."""

from __future__ import annotations

import signal
import sys
from threading import Event

import rclpy
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from dataset_recorder.graph import message_class
from hilserl_ros.node import make_executor


def main() -> None:
    """Arguments: topic:type of each subscription. Ends by SIGINT and prints how many messages came."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop, count = Event(), 0
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    def take(payload: bytes) -> None:
        nonlocal count
        count += 1

    node = LifecycleNode("bare_subscriber")
    quality = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)  # as dataset_recorder.graph.widest asks for
    for text in sys.argv[1:]:
        topic, kind = text.split(":")
        node.create_subscription(message_class(kind), topic, take, quality, raw=True)
    executor = make_executor()
    executor.add_node(node)
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.2)
    print(count)


if __name__ == "__main__":
    main()
