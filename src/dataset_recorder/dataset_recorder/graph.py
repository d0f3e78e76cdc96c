# SPDX-License-Identifier: Apache-2.0
"""What the ROS graph says about a topic: its message class, how to subscribe to all it offers, how to note that in a bag."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from dataset_recorder.errors import RecordingError

_DEPTH = 200  # messages that may wait for the recorder's executor


def publishers(node: Node, topic: str) -> list[TopicEndpointInfo]:
    """Who publishes a topic; a relative name is meant as the node sees it."""
    return node.get_publishers_info_by_topic(node.resolve_topic_name(topic))


def message_class(name: str) -> Any:
    """The class of a type such as sensor_msgs/msg/Image. Raises RecordingError when its package is not installed."""
    package, kind, short = name.split("/")
    try:
        return getattr(import_module(f"{package}.{kind}"), short)
    except (ImportError, AttributeError) as error:
        raise RecordingError(f"the type {name} is not installed here: install {package} and source its workspace") from error


def has_header(name: str) -> bool:
    """Whether a type begins with a header. Raises RecordingError when its package is not installed."""
    fields = message_class(name).get_fields_and_field_types()
    return next(iter(fields.items()), None) == ("header", "std_msgs/Header")


def header_ns(payload: bytes) -> int:
    """The stamp [ns] of a serialised message that begins with a header: behind four bytes that say how it is serialised."""
    seconds, nanoseconds = struct.unpack_from("<iI" if payload[1] else ">iI", payload, 4)
    return seconds * 10**9 + nanoseconds


def widest(found: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """The strongest quality of service that every publisher offers."""
    reliable = all(info.qos_profile.reliability is ReliabilityPolicy.RELIABLE for info in found)
    latched = all(info.qos_profile.durability is DurabilityPolicy.TRANSIENT_LOCAL for info in found)
    return QoSProfile(
        depth=_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def noted(found: Sequence[TopicEndpointInfo]) -> tuple[Qos, ...]:
    """The publishers' quality of service as a bag keeps it."""

    def time(duration: Any) -> QosTime:
        return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))

    return tuple(
        Qos(
            QosHistory[info.qos_profile.history.name] if info.qos_profile.history.name in QosHistory.__members__
            else QosHistory.UNKNOWN,
            info.qos_profile.depth,
            QosReliability[info.qos_profile.reliability.name],
            QosDurability[info.qos_profile.durability.name],
            time(info.qos_profile.deadline),
            time(info.qos_profile.lifespan),
            QosLiveliness[info.qos_profile.liveliness.name],
            time(info.qos_profile.liveliness_lease_duration),
            info.qos_profile.avoid_ros_namespace_conventions,
        )
        for info in found
    )  # fmt: skip
