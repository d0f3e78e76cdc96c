# SPDX-License-Identifier: Apache-2.0
"""Publishes the truth of the twin's world for measurements, and a person's view of it for the scripted hand alone."""

from __future__ import annotations

import array
from collections import deque
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState

from hilserl_interfaces.msg import Reward
from hilserl_ros import qos
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.parameters import parameter
from so101_description import JOINTS
from so101_sim.station.shared import SharedState, Snapshot


@dataclass(frozen=True)
class TwinParameters:
    """Parameters of the twin node."""

    state: str = parameter("", "Memory with the twin's world, as reach-grasp emulate-station passes it.")
    seed: int = parameter(0, "Seed of the noise in what a person sees.", minimum=0, maximum=2**31 - 1)
    rate_hz: float = parameter(20.0, "How often the world is looked at.", minimum=1.0, maximum=100.0)
    sight_delay_s: float = parameter(0.25, "How late a person knows what there was to see.", minimum=0.0, maximum=2.0)
    sight_noise_m: float = parameter(0.003, "How imprecisely a person sees where the cube is.", minimum=0.0, maximum=0.1)
    sight_noise_rad: float = parameter(0.05, "How imprecisely a person sees how it is turned.", minimum=0.0, maximum=1.0)


class TwinNode(BaseNode[TwinParameters]):
    """Publishes `twin/truth` for every tenth of a second of the twin, `twin/cube_seen` and `twin/arm_seen` for the hand."""

    def __init__(self) -> None:
        super().__init__("twin", TwinParameters)
        params = self.params
        self._state = SharedState(params.state)
        self._rng = np.random.default_rng(params.seed)
        self._coming: deque[Snapshot] = deque()
        self._ticks = -1
        self._truth = self.create_publisher(Reward, "twin/truth", qos.recorded(qos.REWARD))
        self._cube = self.create_publisher(PoseStamped, "twin/cube_seen", qos.CUBE_POSE)
        self._arm = self.create_publisher(JointState, "twin/arm_seen", qos.JOINT_STATES)
        self.create_timer(1.0 / params.rate_hz, self._cycle, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _cycle(self) -> None:
        snapshot = self._state.read()
        if snapshot is None:
            return
        if snapshot.ticks != self._ticks:
            self._ticks = snapshot.ticks
            self._publish_truth(snapshot)
        self._coming.append(snapshot)
        seen = None
        while self._coming and snapshot.time_s - self._coming[0].time_s >= self.params.sight_delay_s:
            seen = self._coming.popleft()
        if seen is not None:
            self._publish_sight(seen)

    def _publish_truth(self, snapshot: Snapshot) -> None:
        message = Reward(probability=float(snapshot.pinched), reward=float(snapshot.success), success=snapshot.success)
        message.header.stamp, message.artifact = self.get_clock().now().to_msg(), "twin"
        self._truth.publish(message)

    def _publish_sight(self, seen: Snapshot) -> None:
        stamp, rng, params = self.get_clock().now().to_msg(), self._rng, self.params
        x, y, z = (seen.cube[:3] + rng.normal(0.0, params.sight_noise_m, 3)).tolist()
        w, qx, qy, qz = seen.cube[3:].tolist()
        half = rng.normal(0.0, params.sight_noise_rad) / 2  # about the vertical, on the left
        cosine, sine = float(np.cos(half)), float(np.sin(half))
        pose = PoseStamped()
        pose.header.stamp = stamp
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = x, y, z
        turn = pose.pose.orientation
        turn.w, turn.x = cosine * w - sine * qz, cosine * qx - sine * qy
        turn.y, turn.z = cosine * qy + sine * qx, cosine * qz + sine * w
        self._cube.publish(pose)
        arm = JointState(name=list(JOINTS), position=array.array("d", seen.joints))
        arm.header.stamp = stamp
        self._arm.publish(arm)

    def close(self) -> None:
        """Give the memory back."""
        self._state.close()


main = main_of(TwinNode)
