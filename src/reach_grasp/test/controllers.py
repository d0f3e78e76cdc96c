# SPDX-License-Identifier: Apache-2.0
"""Controllers as in ros2_controllers (branches jazzy and kilted, August 2026), and an arm that they move.

Only what concerns positions is here: names, sizes, stamps and times are treated as `validate_trajectory_msg`, `update` and
`Trajectory::sample` of joint_trajectory_controller and `update` of forward_command_controller treat them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from hilserl_ros.convert import to_ns
from so101_description import JOINTS

PERIOD_NS = 10_000_000
_LAG_S = 0.04  # of the arm behind its command


@dataclass
class TrajectoryController:
    """A joint_trajectory_controller with its defaults.

    from_desired: its parameter interpolate_from_desired_state.
    """

    topic = "joint_trajectory_controller/joint_trajectory"
    message_type = JointTrajectory
    from_desired: bool = False
    refused: list[str] = field(default_factory=list)
    taken: list[JointTrajectory] = field(default_factory=list)
    goals: list[np.ndarray] = field(default_factory=list)  # (J,) rad, the last point of each
    _times_ns: list[int] = field(default_factory=list)
    _points: list[np.ndarray] = field(default_factory=list)
    _start_ns: int = 0
    _sampled: bool = False
    _before: tuple[int, np.ndarray] | None = None
    _commanded: tuple[int, np.ndarray] | None = None

    def hear(self, message: JointTrajectory, now_ns: int) -> None:
        """Its topic."""
        if why := self._refusal(message, now_ns):
            self.refused.append(why)
            return
        self.taken.append(message)
        order = [message.joint_names.index(joint) for joint in JOINTS]
        self._points = [np.array(point.positions)[order] for point in message.points]
        self.goals.append(self._points[-1])
        self._times_ns = [to_ns(point.time_from_start) for point in message.points]
        self._start_ns, self._sampled = to_ns(message.header.stamp), False

    def _refusal(self, message: JointTrajectory, now_ns: int) -> str:
        if len(message.joint_names) != len(JOINTS):
            return "Joints on incoming trajectory don't match the controller joints."
        if not message.points:
            return "Empty trajectory received."
        if strange := [joint for joint in message.joint_names if joint not in JOINTS]:
            return f"Incoming joint {strange[0]} doesn't match the controller's joints."
        start_ns, times = to_ns(message.header.stamp), [to_ns(point.time_from_start) for point in message.points]
        if start_ns and start_ns + times[-1] < now_ns:
            return "Received trajectory with non-zero start time that ends in the past"
        if any(later <= earlier for earlier, later in pairwise(times)):
            return "Time between points is not strictly increasing"
        if any(len(point.positions) != len(message.joint_names) for point in message.points):
            return "Mismatch between joint_names size and positions"
        return ""

    def update(self, now_ns: int, measured: np.ndarray) -> np.ndarray:
        """One cycle: the positions (J,) rad that are written to the hardware."""
        if not self._points:  # it holds where it was activated
            self._points, self._times_ns = [measured.copy()], [0]
        if not self._sampled:
            held = self._commanded or (now_ns, measured)
            self._before = held if self.from_desired else (now_ns, measured.copy())
            self._start_ns = self._start_ns or now_ns
            self._sampled = True
        positions = self._sample(now_ns + PERIOD_NS)
        self._commanded = now_ns, positions
        return positions

    def _sample(self, time_ns: int) -> np.ndarray:
        stamps, points = [self._start_ns + time for time in self._times_ns], self._points
        if time_ns < stamps[0]:  # on the way from where it was when the trajectory came
            stamps, points = [self._before[0], stamps[0]], [self._before[1], points[0]]
        return np.array([np.interp(time_ns, stamps, values) for values in np.transpose(points)])


@dataclass
class ForwardController:
    """A forward_command_controller of positions."""

    topic = "forward_command_controller/commands"
    message_type = Float64MultiArray
    refused: list[str] = field(default_factory=list)
    taken: list[Float64MultiArray] = field(default_factory=list)
    goals: list[np.ndarray] = field(default_factory=list)  # (J,) rad

    def hear(self, message: Float64MultiArray, now_ns: int) -> None:
        """Its topic."""
        if not np.isfinite(message.data).all():
            self.refused.append("Non-finite value received. Dropping message")
        elif len(message.data) != len(JOINTS):
            self.refused.append("command size does not match number of interfaces")
        else:
            self.taken.append(message)
            self.goals.append(np.array(message.data))

    def update(self, now_ns: int, measured: np.ndarray) -> np.ndarray:
        """One cycle: the positions (J,) rad that are written to the hardware."""
        return self.goals[-1] if self.goals else measured


class ForeignArm:
    """An arm, one of these controllers and a joint_state_broadcaster, in a namespace of theirs.

    The arm has one joint more than ours, and its joints have an order of their own.
    """

    def __init__(self, node: Node, controller: TrajectoryController | ForwardController, begin: np.ndarray) -> None:
        self.controller, self.positions = controller, np.array(begin, float)
        self.commands: list[np.ndarray] = []
        self._velocities = np.zeros(len(JOINTS))
        self._clock = node.get_clock()
        self._states = node.create_publisher(JointState, "follower/joint_states", 10)
        hear = lambda message: controller.hear(message, self._clock.now().nanoseconds)  # noqa: E731
        node.create_subscription(controller.message_type, f"follower/{controller.topic}", hear, 10)
        node.create_timer(PERIOD_NS * 1e-9, self._cycle, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _cycle(self) -> None:
        now = self._clock.now()
        command = self.controller.update(now.nanoseconds, self.positions)
        self.commands.append(command)
        self._velocities = (command - self.positions) / _LAG_S
        self.positions = self.positions + self._velocities * PERIOD_NS * 1e-9
        values = {joint: (*pair,) for joint, *pair in zip(JOINTS, self.positions, self._velocities, strict=True)}
        values["camera_pan"] = (0.0, 0.0)
        message = JointState(name=sorted(values))
        message.header.stamp = now.to_msg()
        message.position = [float(values[joint][0]) for joint in message.name]
        message.velocity = [float(values[joint][1]) for joint in message.name]
        self._states.publish(message)
