# SPDX-License-Identifier: Apache-2.0
"""A gamepad or keyboard as a node. Devices are in input_device.py and joy_input.py, what is pressed means in controls.py."""

from __future__ import annotations

import array
import time

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from hilserl_core.action import Controller
from hilserl_core.kinematics import Kinematics
from hilserl_interfaces.msg import EpisodeEvent, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, joint_maps
from hilserl_ros.diagnostics import Diagnostics, status
from hilserl_ros.node import BaseNode, NodeError, main_of
from so101_description import urdf_path
from so101_driver.controls import Controls
from so101_driver.input_device import InputDevice
from so101_driver.joy_input import JoyInput
from so101_driver.mapping import ESTOP, Mapping
from so101_driver.settings import GamepadParameters

_JOY = "joy"
_STOP_EVERY_S, _STOP_FOR_S = 0.05, 5.0  # a stop is requested again until a driver confirms it
_RELAY = "command_relay"  # name of the node before somebody else's driver
_RELAYED = "no command is passed on, but whether the arm stands still only its own driver knows; use the switch of its supply"
_SOURCES = ("gamepad", "keyboard")  # names of this node that an actor listens to, on teleop/<source>


class GamepadNode(BaseNode[GamepadParameters]):
    """Reads what is pressed in one timer, between whose calls messages come: nothing happens at the same time."""

    def __init__(self) -> None:
        super().__init__("gamepad", GamepadParameters, {"mapping.": Mapping})
        params, mapping = self.params, self.tables["mapping."]
        self._controls = Controls(mapping, params.debounce_s)
        self._robot: tuple[np.ndarray, Time] | None = None  # joints (J,) rad and their stamp
        self._answered: Time | None = None
        self._answer = TeleopCommand()  # lockstep: the newest answer, sent again when its observation is repeated
        self._active = False
        self._said: str | None = ""
        self._due_s = 0.0
        self._stop_asked_s: float | None = None  # when the person asked for a stop that nobody has confirmed
        self._stop_due_s = 0.0
        create = self.create_publisher
        self._event = create(EpisodeEvent, "episode/event", qos.EPISODE_EVENT)
        self._estop = create(Bool, "estop/request", qos.ESTOP_REQUEST)
        self.create_subscription(Bool, "estop", self._on_stopped, qos.STATUS)
        self._diagnostics = Diagnostics(self)
        if params.mode == "drive":
            self._command = create(JointTrajectory, "joint_command", qos.recorded(qos.JOINT_COMMAND))
            self._controller = Controller(self.task, Kinematics(urdf_path(), self.task.joints))
        elif params.mode == "teleop":
            self._teleop = create(TeleopCommand, f"teleop/{self._source()}", qos.recorded(qos.TELEOP))
        if params.mode != "events":
            self.create_subscription(JointState, "joint_states", self._on_robot, qos.JOINT_STATES)
        if params.device == _JOY:
            self._input = JoyInput(mapping, params.joy_timeout_s)
            self.create_subscription(Joy, _JOY, self._on_joy, qos.JOY)
        else:
            self._input = InputDevice(params.device, mapping, params.grab)
            self._joy = create(Joy, _JOY, qos.JOY)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / params.rate_hz, self._cycle, clock=steady)
        self.create_timer(1.0, self._report, clock=steady)

    def _source(self) -> str:
        """The name under which an actor listens to this node. Raises NodeError when it has another one."""
        if (name := self.get_name()) not in _SOURCES:
            raise NodeError(f"the node is called {name}, and no actor listens to teleop/{name}; call it gamepad or keyboard")
        return name

    @property
    def _in_turn(self) -> bool:
        """Whether `teleop` answers each observation, instead of going by the clock."""
        return self.params.lockstep and self.params.mode == "teleop"

    def _cycle(self) -> None:
        now_s = time.monotonic()
        due = now_s >= self._due_s
        if due:
            self._due_s = now_s + self.task.tick_s
        moved = self._input.poll(now_s, self._controls)
        self._say()
        if self.params.device != _JOY and self._input.problem is None and (moved or due):
            self._publish_joy()
        for kind in self._controls.take_events():
            if kind == ESTOP:
                self._stop_asked_s, self._stop_due_s = now_s, now_s
            else:
                self._publish_event(kind)
        self._stop_arm(now_s)
        active = self._controls.active
        changed = due or active is not self._active  # letting go does not wait for its turn
        if self._robot is not None and changed and not self._in_turn:
            (self._drive if self.params.mode == "drive" else self._publish_teleop)(active, *self._robot)
            self._active = active

    def _publish_joy(self) -> None:
        axes, buttons = self._input.joy()
        message = Joy(axes=array.array("f", axes), buttons=array.array("i", buttons))
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), self._input.name
        self._joy.publish(message)

    def _publish_event(self, kind: str) -> None:
        message = EpisodeEvent(kind=getattr(EpisodeEvent, kind.upper()), source=self.get_name())
        message.header.stamp = self.get_clock().now().to_msg()
        self._event.publish(message)
        self.get_logger().info(kind)

    def _stop_arm(self, now_s: float) -> None:
        """Request the stop that the person asked for again and again until a driver confirms it."""
        if self._stop_asked_s is None or now_s < self._stop_due_s:
            return
        if now_s > self._stop_asked_s + _STOP_FOR_S:
            self._stop_asked_s = None
            self.get_logger().error("emergency stop NOT CONFIRMED: no driver answers; use the switch of the arm's supply")
            return
        if now_s == self._stop_asked_s:
            self.get_logger().warning("emergency stop")
        self._stop_due_s = now_s + _STOP_EVERY_S
        self._estop.publish(Bool(data=True))

    def _on_stopped(self, message: Bool) -> None:
        """Take a driver's confirmation; what it said before the request is none."""
        if not message.data or self._stop_asked_s is None:
            return
        self._stop_asked_s = None
        if _RELAY in {info.node_name for info in self.get_publishers_info_by_topic("estop")}:
            self.get_logger().error(f"emergency stop NOT CONFIRMED: {_RELAYED}")
        else:
            self.get_logger().warning("the driver confirms: the arm is stopped")

    def _publish_teleop(self, active: bool, joints: np.ndarray, stamp: Time) -> None:
        self._answer = TeleopCommand(active=active)
        self._answer.header.stamp = stamp
        if active:
            self._answer.action = array.array("f", self._controls.action)
        self._teleop.publish(self._answer)

    def _drive(self, active: bool, joints: np.ndarray, stamp: Time) -> None:
        """An observation of the robot is answered once, while the person drives; as the actor does, without its policy."""
        if not active or stamp == self._answered:
            return
        if not self._active:
            self._controller.latch_position(joints)
        self._answered = stamp
        targets = self._controller.command(self._controls.action, joints).joints
        named = dict(zip(self.task.joints, targets, strict=True))
        self._command.publish(joint_command(stamp, named, self.task.tick_s))

    def _on_robot(self, message: JointState) -> None:
        positions, _ = joint_maps(message)
        joints = np.array([positions.get(joint, np.nan) for joint in self.task.joints])
        if np.isfinite(joints).all():
            self._robot = joints, message.header.stamp
            if self._in_turn:
                self._answer_observation(joints, message.header.stamp)
        else:
            self.get_logger().error(f"joint_states lacks joints: {positions}; it is ignored", throttle_duration_sec=5.0)

    def _answer_observation(self, joints: np.ndarray, stamp: Time) -> None:
        """Answer every observation once, in lockstep; a repeated observation gets the same answer again."""
        if stamp == self._answer.header.stamp:
            self._teleop.publish(self._answer)
        else:
            self._publish_teleop(self._controls.active, joints, stamp)

    def _on_joy(self, message: Joy) -> None:
        self._input.take(message.axes, message.buttons, time.monotonic())

    def _say(self) -> None:
        if (problem := self._input.problem) != self._said:
            self._said = problem
            if problem is None:
                self.get_logger().info(f"takes '{self._input.name}'")
            else:
                self.get_logger().warning(problem)

    def _report(self) -> None:
        problem = self._input.problem
        level = DiagnosticStatus.OK if problem is None else DiagnosticStatus.ERROR
        text, name = problem or ("the person drives" if self._controls.active else "at rest"), self._input.name
        self._diagnostics.publish([status("input", level, text, {"device": name})], name or self.params.device)

    def close(self) -> None:
        """Give the device back."""
        self._input.close()


main = main_of(GamepadNode)
