# SPDX-License-Identifier: Apache-2.0
"""The arm's frames and description on the topics of robot_state_publisher, for computers where that is not installed."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.clock import Clock, ClockType
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from hilserl_ros import qos
from hilserl_ros.convert import joint_maps, to_ns
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.parameters import parameter
from reach_grasp.frames import Frames
from so101_description import urdf_path

_LOOK_S = 0.5


@dataclass(frozen=True)
class FramesParameters:
    """Parameters of the frames node."""

    publish_frequency: float = parameter(
        20.0, "Most often that tf is published [Hz]; joint states between two times are left out.", minimum=0.1, maximum=1000.0
    )


class FramesNode(BaseNode[FramesParameters]):
    """Reads joint states only while somebody listens to tf: else it costs nothing."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__("frames", FramesParameters, **kwargs)
        description = urdf_path().read_text()
        self._frames = Frames(description)
        self._period_ns = round(1e9 / self.params.publish_frequency)
        self._published_ns = 0
        self._joints: Subscription | None = None
        self._moving = self.create_publisher(TFMessage, "tf", qos.TF)
        fixed = self.create_publisher(TFMessage, "tf_static", qos.latched())
        fixed.publish(TFMessage(transforms=self._frames.fixed))
        self._text = self.create_publisher(String, "robot_description", qos.latched())
        self._text.publish(String(data=description))
        self.create_timer(_LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look(self) -> None:
        """Begin or end with joint states as listeners come and go."""
        watched = self._moving.get_subscription_count() > 0
        if watched and self._joints is None:
            self._joints = self.create_subscription(JointState, "joint_states", self._on_joints, qos.newest())
        elif not watched and self._joints is not None:
            self.destroy_subscription(self._joints)
            self._joints = None

    def _on_joints(self, message: JointState) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if 0 <= stamp_ns - self._published_ns < self._period_ns:
            return
        self._published_ns = stamp_ns
        transforms = self._frames.at(joint_maps(message)[0])
        for transform in transforms:
            transform.header.stamp = message.header.stamp
        if transforms:
            self._moving.publish(TFMessage(transforms=transforms))


main = main_of(FramesNode)
