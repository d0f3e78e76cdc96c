# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself on `/diagnostics`, as an aggregator and rqt_robot_monitor expect it."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from hilserl_ros import qos

TOPIC = "/diagnostics"
"""Of every namespace: an aggregator looks nowhere else. The name of a status says whose it is."""


class Diagnostics:
    """Publishes what a node reports."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._place = node.get_fully_qualified_name().lstrip("/")
        self._publisher = node.create_publisher(DiagnosticArray, TOPIC, qos.DIAGNOSTICS)

    def publish(self, statuses: Iterable[DiagnosticStatus], hardware_id: str = "") -> None:
        """Publish statuses with names such as `arm`, which become `<namespace>/<node>: arm`.

        hardware_id: which device they are about; without one this computer.
        """
        message = DiagnosticArray(status=list(statuses))
        message.header.stamp = self._node.get_clock().now().to_msg()
        for item in message.status:
            item.name, item.hardware_id = f"{self._place}: {item.name}", hardware_id or platform.node() or "computer"
        self._publisher.publish(message)


def status(name: str, level: bytes, message: str, values: Mapping[str, object] | None = None) -> DiagnosticStatus:
    """One status. level: OK, WARN, ERROR or STALE of DiagnosticStatus. values: become text."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in (values or {}).items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
