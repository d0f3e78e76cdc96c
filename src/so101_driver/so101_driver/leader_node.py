# SPDX-License-Identifier: Apache-2.0
"""The leader arm as a node. Who drives is decided in handover.py, what is said to its servos in leader.py."""

from __future__ import annotations

import array
import math
import time
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from hilserl_core.kinematics import Kinematics
from hilserl_interfaces.msg import EpisodeStatus, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, joint_maps, to_ns
from hilserl_ros.diagnostics import Diagnostics
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.realtime import take_precedence
from so101_description import JOINTS, urdf_path
from so101_driver.calibration import find_calibration, read_calibration
from so101_driver.diagnostics import hardware_id, leader_statuses
from so101_driver.errors import DriverError
from so101_driver.estop import CLEAR_COMMAND
from so101_driver.finder import find_port, usb_serial_of
from so101_driver.handover import HELD, HandoverConfig, State
from so101_driver.joint_state import joint_state, stamp_of
from so101_driver.leader import Leader, Report
from so101_driver.settings import LeaderParameters, timing
from so101_driver.steering import steer
from so101_driver.turns import PAST_SEAM

_RETRY_S = 2.0
_COMMAND_TICKS = 3  # for so long the last command is where the robot's target is


@dataclass(frozen=True)
class _Heard:
    """Joints (J,) rad out of a message with a stamp, come at come_s on the steady clock."""

    joints: np.ndarray
    stamp: Time
    come_s: float


class LeaderNode(BaseNode[LeaderParameters]):
    """Reads, decides and writes in one timer, between whose calls messages come: nothing happens at the same time.

    Until the arm can be used it is limp, and tried again now and then.
    """

    def __init__(self) -> None:
        super().__init__("leader", LeaderParameters, {"handover.": HandoverConfig})
        self._usb_serial = self.params.usb_serial or None
        self._kinematics = Kinematics(urdf_path(), JOINTS)
        self._robot: _Heard | None = None
        self._commanded: _Heard | None = None
        self._mirrored: Time | None = None
        self._seen: Report | None = None  # the newest look at the leader, None while it is not there
        self._answer: TeleopCommand | None = None  # in lockstep, to the newest observation
        self._episode: tuple[str, int] | None = None
        self._resetting = self._stopped = False
        self._said = ""
        self._said_s = self._due_s = 0.0  # when `teleop/leader` was last published, and when it is due next
        self._joints = self.create_publisher(JointState, "leader/joint_states", qos.recorded(qos.JOINT_STATES))
        self._diagnostics = Diagnostics(self)
        if self.params.mode == "mirror":
            self._command = self.create_publisher(JointTrajectory, "joint_command", qos.recorded(qos.JOINT_COMMAND))
        else:
            self._teleop = self.create_publisher(TeleopCommand, "teleop/leader", qos.recorded(qos.TELEOP))
            self.create_subscription(JointTrajectory, "joint_command", self._on_command, qos.JOINT_COMMAND)
        self.create_subscription(JointState, "joint_states", self._on_robot, qos.JOINT_STATES)
        self.create_subscription(EpisodeStatus, "episode/status", self._on_episode, qos.STATUS)
        self.create_subscription(Bool, "estop", self._on_stop, qos.STATUS)
        self.create_service(SetBool, "~/set_free", self._on_set_free)
        self._leader: Leader | None = None
        self._lacking, self._tried_s = "", -math.inf  # why there is no leader, and when it was tried last
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / self.params.rate_hz, self._cycle, clock=steady)
        self.create_timer(1.0, self._report, clock=steady)
        self.get_logger().info(f"runs with {take_precedence()}")

    def _open(self, now_s: float) -> None:
        """Now and then, until the arm can be used; what is wrong is said once."""
        if now_s < self._tried_s + _RETRY_S:
            return
        params, self._tried_s = self.params, now_s
        try:
            file = find_calibration("leader", params.calibration)
            options = timing(params)
            leader = Leader(self._find, read_calibration(file), self.tables["handover."], **options)
            leader.open(params.write_calibration)
        except DriverError as error:
            if str(error) != self._lacking:
                self._lacking = str(error)
                self.get_logger().error(f"the leader cannot be used: {error}; tried again every {_RETRY_S:g} s")
            return
        self._leader = leader
        port = leader.connection.bus.port_name
        self._usb_serial = self._usb_serial or usb_serial_of(port)
        self.get_logger().info(f"found the leader on {port}, calibrated by {file}")

    def _find(self) -> str:
        """The port; once the adapter's serial number is known, by that alone: another arm may have the old name."""
        if self.params.port and not self._usb_serial:
            return self.params.port
        return find_port(self._usb_serial)

    # The cycle --------------------------------------------------------------------------------------------------------

    def _cycle(self) -> None:
        now_s, robot = time.monotonic(), self._robot
        if self._leader is None:
            self._open(now_s)
        report = self._seen = self._look(self._leader, now_s) if self._leader is not None else None
        if robot is None or self.params.lockstep:
            return
        if self.params.mode == "mirror":
            if report is not None:
                self._mirror(report, robot)
        elif now_s >= self._due_s:
            self._said_s, self._due_s = now_s, now_s + self.task.tick_s
            self._teleop.publish(self._command_of(report, robot))

    def _look(self, leader: Leader, now_s: float) -> Report:
        robot = self._robot
        known = (robot.joints, now_s - robot.come_s) if robot else ()
        leader.handover.refuses = self._resetting or self._stopped
        report = leader.cycle(now_s, *known)
        if report.fresh:
            stamp_ns = stamp_of(self.get_clock(), report.time_s)
            if (message := joint_state(stamp_ns, report.positions, report.velocities)) is not None:
                self._joints.publish(message)
        self._say(leader)
        return report

    def _mirror(self, report: Report, robot: _Heard) -> None:
        """Each observation of the robot is answered once, while the person drives."""
        if report.state is State.FREE and report.fresh and robot.stamp != self._mirrored:
            self._mirrored = robot.stamp
            joints = dict(zip(JOINTS, report.positions, strict=True))
            self._command.publish(joint_command(robot.stamp, joints, 1.0 / self.params.rate_hz))

    def _command_of(self, report: Report | None, robot: _Heard) -> TeleopCommand:
        """Build the answer to an observation: inactive where no person drives, or no leader is there."""
        message = TeleopCommand()
        message.header.stamp = robot.stamp
        if report is not None and report.state is State.FREE:
            message.active = True
            target = self._commanded.joints if self._is_recent(self._commanded, robot) else robot.joints
            message.action = array.array("f", steer(report.positions, target, self.task, self._kinematics))
        return message

    def _is_recent(self, commanded: _Heard | None, robot: _Heard) -> bool:
        """Whether the robot's last command is still recent; in lockstep by the simulation's time."""
        if commanded is None:
            return False
        age_s = time.monotonic() - commanded.come_s
        if self.params.lockstep:
            age_s = (to_ns(robot.stamp) - to_ns(commanded.stamp)) * 1e-9
        return 0.0 <= age_s <= _COMMAND_TICKS * self.task.tick_s

    def _say(self, leader: Leader) -> None:
        handover = leader.handover
        said = handover.reason or handover.state.value
        if said != self._said:
            self._said = said
            if said.endswith((HELD, PAST_SEAM)):
                self.get_logger().warning(f"it drives nothing: {said}")
            else:
                self.get_logger().info(f"limp: {said}" if handover.reason else said)
        if unconfirmed := leader.unconfirmed:
            which = ", ".join(map(str, unconfirmed))
            self.get_logger().warning(f"servo {which} did not confirm its torque; tried again", throttle_duration_sec=5.0)

    # Messages and services --------------------------------------------------------------------------------------------

    def _on_robot(self, message: JointState) -> None:
        positions, _ = joint_maps(message)
        heard = self._hear(positions, message.header.stamp, "joint_states")
        if heard is None:
            return
        repeated = self._robot is not None and self._robot.stamp == heard.stamp
        self._robot = heard
        if self.params.lockstep:
            if self._answer is None or not repeated:
                self._answer = self._command_of(self._seen, heard)
            self._teleop.publish(self._answer)

    def _on_command(self, message: JointTrajectory) -> None:
        """Take the robot's new target. The next answer is due half a tick later, before the actor's next tick."""
        positions = dict(zip(message.joint_names, message.points[-1].positions if message.points else (), strict=False))
        self._commanded = self._hear(positions, message.header.stamp, "joint_command") or self._commanded
        self._due_s = min(time.monotonic() + 0.5 * self.task.tick_s, self._said_s + 1.5 * self.task.tick_s)

    def _hear(self, positions: dict[str, float], stamp: Time, topic: str) -> _Heard | None:
        joints = np.array([positions.get(joint, np.nan) for joint in JOINTS])
        if np.isfinite(joints).all():
            return _Heard(joints, stamp, time.monotonic())
        self.get_logger().error(f"{topic} lacks joints: {positions}; it is ignored", throttle_duration_sec=5.0)
        return None

    def _on_episode(self, message: EpisodeStatus) -> None:
        """Begin an episode: the leader goes where the robot goes, and a hand that still holds it drives nothing."""
        episode = (message.run_id, message.episode)
        self._resetting = message.phase == EpisodeStatus.RESETTING
        begins = self._resetting or self._episode not in (None, episode)
        if begins and self._leader is not None:
            self._leader.handover.hand_back()
        self._episode = episode

    def _on_stop(self, message: Bool) -> None:
        """While the arm is stopped no hand is a grip: afterwards a leader that is held must not draw the arm to it."""
        if message.data and not self._stopped and self._leader is not None:
            self._leader.handover.hand_back()
        self._stopped = message.data

    def _on_set_free(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._leader is None:
            response.message = f"the leader is limp: {self._lacking}"
            return response
        if request.data and self._stopped:
            response.message = f"the arm is stopped; '{CLEAR_COMMAND}' ends the stop"
            return response
        handover = self._leader.handover
        response.success = handover.take_over() if request.data else handover.hand_back()
        if response.success:
            response.message = "the person drives" if request.data else "it follows the robot"
        else:
            response.message = f"the leader is limp: {handover.reason}"
        return response

    # Now and then -----------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        found = leader_statuses(self._leader, self._lacking)
        self._diagnostics.publish(found, hardware_id(self._usb_serial, self.params.port))

    def close(self) -> None:
        """Let go, unless told otherwise, and give the port back."""
        if self._leader is None:
            return
        try:
            if self.params.release:
                self._leader.let_go()
        except DriverError as error:
            self.get_logger().error(str(error))
        self._leader.close()


main = main_of(LeaderNode)
