# SPDX-License-Identifier: Apache-2.0
"""Reward, episode and the gripper's way as markers for rviz."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from visualization_msgs.msg import Marker

from hilserl_core.kinematics import Kinematics
from hilserl_interfaces.msg import EpisodeStatus, Reward
from hilserl_ros import qos
from hilserl_ros.convert import joint_maps, to_ns
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.parameters import parameter
from reach_grasp.overlay import Trail, text_marker, words
from so101_description import urdf_path

_PERIOD_S = 0.1


@dataclass(frozen=True)
class OverlayParameters:
    """Parameters of the overlay node."""

    trail_s: float = parameter(5.0, "Seconds that the gripper's trail shows.", minimum=0.1, maximum=600.0, tunable=True)
    text_height_m: float = parameter(0.018, "Height in metres of a line of text.", minimum=0.001, maximum=1.0, tunable=True)


class OverlayNode(BaseNode[OverlayParameters]):
    """Listens without being waited for, and publishes what somebody watches."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__("overlay", OverlayParameters, **kwargs)
        self._kinematics = Kinematics(urdf_path(), self.task.joints)
        self._trail = Trail(self.params.trail_s)
        self._status: EpisodeStatus | None = None
        self._reward: Reward | None = None
        self._reward_at = 0.0
        self._text = self.create_publisher(Marker, "overlay/reward", qos.OVERLAY)
        self._line = self.create_publisher(Marker, "overlay/trail", qos.OVERLAY)
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.newest())
        self.create_subscription(Reward, "reward", self._on_reward, qos.newest())
        self.create_subscription(EpisodeStatus, "episode/status", self._on_status, qos.STATUS)
        self.create_timer(_PERIOD_S, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_status(self, message: EpisodeStatus) -> None:
        self._status = message
        self._trail.belong(message)

    def _on_reward(self, message: Reward) -> None:
        self._reward, self._reward_at = message, time.monotonic()

    def _on_joints(self, message: JointState) -> None:
        stamp, positions = to_ns(message.header.stamp), joint_maps(message)[0]
        if set(self.task.joints) <= set(positions) and self._trail.due(stamp):
            pose = self._kinematics.forward(np.array([positions[joint] for joint in self.task.joints]))
            self._trail.add(stamp, pose.position, self._status is not None and self._status.intervention)

    def _on_timer(self) -> None:
        if self._text.get_subscription_count():
            text = words(self._status, self._reward, time.monotonic() - self._reward_at)
            success = self._reward is not None and self._reward.success
            self._text.publish(text_marker(text, success, self.params.text_height_m))
        if self._line.get_subscription_count():
            self._line.publish(self._trail.marker())

    def on_parameters(self, params: OverlayParameters) -> None:
        """A new length counts from the next position on."""
        self._trail.seconds = params.trail_s


main = main_of(OverlayNode)
