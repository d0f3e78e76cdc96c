# SPDX-License-Identifier: Apache-2.0
"""Where somebody else's driver moves the arm: `joint_command`, once it has passed `Safety`, in the words of its controller."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from hilserl_core.stamps import foreign_stamp
from hilserl_ros import qos
from hilserl_ros.convert import joint_maps, to_ns
from hilserl_ros.diagnostics import Diagnostics
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.realtime import take_precedence
from so101_description import JOINTS
from so101_driver.arm import Command
from so101_driver.command_message import read_command
from so101_driver.diagnostics import relay_status
from so101_driver.errors import DriverError, MessageError
from so101_driver.estop import EmergencyStop, relay_stop_file
from so101_driver.estop_server import EstopServer
from so101_driver.relay import Relay
from so101_driver.safety_config import CommandLimits
from so101_driver.settings import RelayParameters

_STOPPED = "no command passes; whether the arm stands still only its own driver knows, so use the switch of its supply"


class CommandRelayNode(BaseNode[RelayParameters]):
    """Publishes on `controller_command`, which is remapped to the controller's topic; see docs/how-to-external-driver.md."""

    def __init__(self) -> None:
        super().__init__("command_relay", RelayParameters, {"safety.": CommandLimits})
        self.refuse_sim_time()
        kind = {"JointTrajectory": JointTrajectory, "Float64MultiArray": Float64MultiArray}[self.params.command_type]
        self._controller = self.create_publisher(kind, "controller_command", qos.JOINT_COMMAND)
        topic = self._controller.topic_name
        self._latch = EmergencyStop(relay_stop_file(self.params.estop_file, topic))
        self._relay = Relay(self.tables["safety."], self._latch)
        self._command: tuple[Command, float] | None = None  # the newest since the last cycle, and when it came
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.newest())
        self.create_subscription(JointTrajectory, "joint_command", self._on_command, qos.JOINT_COMMAND, raw=True)
        self._estop = EstopServer(self, self._latch, self._clear_stop, self._wants_consent, _STOPPED)
        self._diagnostics = Diagnostics(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / self.params.rate_hz, self._cycle, clock=steady)
        self.create_timer(1.0, self._report, clock=steady)
        self.get_logger().info(f"commands go to {topic} as {self.params.command_type}; runs with {take_precedence()}")

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text, throttle_duration_sec=5.0)

    def _on_joints(self, message: JointState) -> None:
        now_s, clock_ns, stamp_ns = time.monotonic(), self.get_clock().now().nanoseconds, to_ns(message.header.stamp)
        if sentence := foreign_stamp("joint_states", stamp_ns, clock_ns):
            self._warn(sentence)
            return
        found, _ = joint_maps(message)
        if missing := [joint for joint in JOINTS if joint not in found]:
            self._warn(f"joint_states lacks {', '.join(missing)}: it has {', '.join(found) or 'no joint'}")
            return
        positions = np.array([found[joint] for joint in JOINTS])
        if not np.isfinite(positions).all():
            self._warn(f"joint_states holds positions that are not finite: {positions.tolist()}")
            return
        try:
            self._relay.see(now_s - max(0, clock_ns - stamp_ns) * 1e-9, positions)
        except DriverError as error:
            self._warn(f"commands do not pass: {error}")

    def _on_command(self, data: bytes) -> None:
        """The newest counts. Its age is that of the observation it answers."""
        try:
            stamp_ns, command = read_command(data)
        except MessageError as error:
            self._warn(f"joint_command is refused: {error}")
            self._relay.safety.counts["refused: message"] += 1
            return
        age_s = (self.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self._command = replace(command, age_s=age_s), time.monotonic()

    def _cycle(self) -> None:
        if not self._relay.begun:
            return
        now_s, command, self._command = time.monotonic(), self._command, None
        if command is not None:
            command = replace(command[0], age_s=command[0].age_s + now_s - command[1])
        decision, positions = self._relay.cycle(now_s, command)
        if positions is not None:
            self._controller.publish(self._message(positions))
        if decision.refused:
            self._warn(f"joint_command is refused: {decision.refused}")
        if decision.reasons:
            self._warn("; ".join(decision.reasons))
        self._estop.say()

    def _message(self, positions: np.ndarray) -> JointTrajectory | Float64MultiArray:
        """Positions (J,) rad for now. A trajectory without stamp and of no duration is carried out in the next cycle.

        With the observation's stamp a joint_trajectory_controller would hurry to be there a tick after the observation, and
        refuse what is older.
        """
        if self.params.command_type == "Float64MultiArray":
            return Float64MultiArray(data=positions.tolist())
        return JointTrajectory(joint_names=list(JOINTS), points=[JointTrajectoryPoint(positions=positions.tolist())])

    def _wants_consent(self) -> bool:
        return self._relay.begun and self._relay.safety.stopped is not None

    def _clear_stop(self) -> str:
        """A person's consent, after whatever stop; what was done. Raises DriverError."""
        if not self._relay.begun:
            self._latch.clear()
            return "nobody publishes joint_states yet"
        self._relay.clear(time.monotonic())
        return "commands pass again, from where the arm is"

    def _report(self) -> None:
        relay, lacking = self._relay, ""
        if not relay.knows(time.monotonic()):
            lacking = "no joint_states that can be used: is the arm's driver running?"
        elif not self._controller.get_subscription_count():
            lacking = (
                f"nobody listens to {self.params.command_type} on {self._controller.topic_name}: is the controller loaded, "
                "and are command_topic and command_type those of it?"
            )
        self._diagnostics.publish([relay_status(relay, lacking)], f"SO-101 behind {self._controller.topic_name}")


main = main_of(CommandRelayNode)
