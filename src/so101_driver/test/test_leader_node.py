# SPDX-License-Identifier: Apache-2.0
"""The leader as a process over DDS, on an emulated arm; the test plays the robot, the actor and the person's hand."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from hilserl_core.kinematics import Kinematics
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import EpisodeStatus, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, to_ns, to_stamp
from hilserl_ros.testing import Rig
from so101_description import JOINTS, urdf_path
from so101_driver import motors
from so101_driver.bus import Bus
from so101_driver.calibration import write_calibration
from so101_driver.handover import HELD
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm
from so101_sim.bus.memory import Address

LONG_S = 120.0
ROBOT = np.array([0.0, -0.5, 0.6, 1.2, 0.3, 0.2])  # within the task's workspace


class Station(Rig):
    """An emulated leader with its calibration, a robot that stands where it is told to, and what the leader says."""

    def __init__(self, folder: Path, calibration) -> None:
        super().__init__(6, LONG_S)
        mountings, self.arm = standard_arm()
        self.emulator = BusEmulator(self.arm, mountings, line=INSTANT, port=folder / "arm")
        self.emulator.start()
        with Bus(self.emulator.device, reply_timeout_s=LONG_S) as bus:
            motors.store_calibration(bus, calibration)
        self.file, self.port, self.sent_s = folder / "mine.json", folder / "arm", 0.0
        write_calibration(self.file, calibration)
        self.joints: JointState | None = None
        self.answers: list[TeleopCommand] = []
        self.commands: list[JointTrajectory] = []
        self.message = ""
        self.robot: np.ndarray | None = ROBOT
        self.lockstep = False
        self.told: list[int] = []  # stamps of the robot's joints [ns]
        self.state = self.node.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        self.command = self.node.create_publisher(JointTrajectory, "joint_command", qos.JOINT_COMMAND)
        self.episode = self.node.create_publisher(EpisodeStatus, "episode/status", qos.STATUS)
        subscribe = self.node.create_subscription
        subscribe(JointState, "leader/joint_states", lambda message: setattr(self, "joints", message), qos.JOINT_STATES)
        subscribe(TeleopCommand, "teleop/leader", self.answers.append, qos.TELEOP)
        subscribe(DiagnosticArray, "diagnostics", self._note, qos.DIAGNOSTICS)

    def _note(self, message: DiagnosticArray) -> None:
        self.message = next(status.message for status in message.status if status.name == "leader: arm")

    def start(self, *parameters: str) -> subprocess.Popen:
        given = (f"port:={self.port}", f"calibration:={self.file}", "reply_timeout_s:=10.0", "handover.rest_s:=0.0")
        patient = ("handover.state_timeout_s:=10.0", "handover.follower_timeout_s:=10.0")
        return self.run("so101_driver", "leader_node", (*given, *patient, *parameters))

    def meanwhile(self) -> None:
        """The robot publishes its joints; in lockstep the next ones when these are answered, and again what is not."""
        if self.robot is None:
            return
        now_s = time.monotonic()
        if self.lockstep and self.told and self.answered_ns != self.told[-1]:
            if now_s > self.sent_s + 0.5:
                self.sent_s = now_s
                self.tell(self.robot, self.told[-1])
        elif now_s > self.sent_s + 0.02:
            self.sent_s = now_s
            self.told.append(self.node.get_clock().now().nanoseconds)
            self.tell(self.robot, self.told[-1])

    @property
    def teleop(self) -> TeleopCommand | None:
        """The newest one."""
        return self.answers[-1] if self.answers else None

    @property
    def answered_ns(self) -> int:
        """Stamp of the newest answer."""
        return to_ns(self.teleop.header.stamp) if self.teleop is not None else 0

    def tell(self, joints: np.ndarray, stamp_ns: int) -> None:
        message = JointState(name=list(reversed(JOINTS)), position=joints[::-1].tolist())
        message.header.stamp = to_stamp(stamp_ns)
        self.state.publish(message)

    def near(self, joints: np.ndarray) -> Callable[[], bool]:
        return lambda: self.joints is not None and bool((np.abs(np.array(self.joints.position) - joints) < 0.02).all())

    def torque(self) -> list[int]:
        return [servo.memory.byte(Address.TORQUE_ENABLE) for servo in self.emulator.servos]

    def active(self) -> bool:
        return self.teleop is not None and self.teleop.active

    def set_free(self, free: bool) -> SetBool.Response:
        return self.call(SetBool, "leader/set_free", SetBool.Request(data=free))

    def close(self) -> None:
        super().close()
        self.emulator.stop()


@pytest.fixture
def station(tmp_path: Path, calibration) -> Iterator[Station]:
    found = Station(tmp_path, calibration)
    yield found
    found.close()


def test_it_follows_is_taken_over_drives_and_follows_again_after_a_reset(station):
    process = station.start()
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    assert station.torque() == [1] * 6 and list(station.joints.name) == list(JOINTS)
    assert len(station.joints.velocity) == 6 and not station.joints.effort
    station.until(lambda: station.teleop is not None, "teleop")
    assert not station.teleop.active and not station.teleop.action

    station.arm.obstruct(0, 0.5, 0.5)  # a hand takes hold of the first joint
    station.until(station.active, "the person to drive")
    assert station.torque() == [0] * 6
    kinematics, task = Kinematics(urdf_path(), JOINTS), TaskSpec()
    way = kinematics.forward(ROBOT + np.eye(6)[0] * 0.5).position - kinematics.forward(ROBOT).position
    assert station.teleop.action[1] == np.sign(way[1]) and to_ns(station.teleop.header.stamp) in station.told

    station.robot = ROBOT + np.eye(6)[0] * 0.47  # the robot has nearly arrived
    near_way = kinematics.forward(ROBOT + np.eye(6)[0] * 0.5).position - kinematics.forward(station.robot).position
    assert 0.1 < abs(near_way[1]) / task.action_scale_m < 0.9
    wanted = near_way[1] / task.action_scale_m
    station.until(lambda: abs(station.teleop.action[1] - wanted) < 0.05, "an action of that size")
    commanded = dict(zip(JOINTS, ROBOT + np.eye(6)[0] * 0.5, strict=True))

    def told() -> bool:  # far more often than an actor would
        station.command.publish(joint_command(station.node.get_clock().now().to_msg(), commanded, 0.1))
        return abs(station.teleop.action[1]) < 0.05

    station.until(told, "no action where the robot is told to go there already")

    station.arm.clear(0)
    station.robot = ROBOT
    station.episode.publish(EpisodeStatus(run_id="a", phase=EpisodeStatus.RESETTING))
    station.until(lambda: not station.teleop.active, "the leader to follow after a reset")
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    assert station.torque() == [1] * 6
    station.until(lambda: station.message == "following", "what is said of it")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=LONG_S) == 0 and station.torque() == [0] * 6


def test_in_lockstep_every_observation_is_answered_once_and_a_repeated_one_again(station):
    """The actor, and the simulation behind it, wait for the answers; before the leader is there they are inactive."""
    heard, station.lockstep = station.answers, True
    station.emulator.unplug()
    station.start("lockstep:=true")
    station.until(lambda: len(station.told) > 5, "answers")
    assert heard and not any(message.active for message in heard)
    station.emulator.plug(station.port)
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    assert station.set_free(True).success
    station.until(station.active, "the person to drive")
    station.robot = None
    station.until(lambda: station.answered_ns == station.told[-1], "the answer to the last observation")
    answered = [to_ns(message.header.stamp) for message in heard]
    assert [stamp for stamp, _ in itertools.groupby(answered)] == station.told
    count, last = len(heard), heard[-1]
    station.arm.push(0, 0.5)  # the hand moves on, and the answer stays
    for more in (1, 2):
        station.tell(ROBOT, station.told[-1])
        station.until(lambda more=more: len(heard) == count + more, "the answer again")
        assert heard[-1] == last and last.active
    station.until(lambda: abs(station.joints.position[0] - 0.5) < 0.02, "the leader's joints")
    station.tell(ROBOT, station.told[-1] + 100_000_000)
    station.until(lambda: len(heard) == count + 3, "the answer to the next observation")
    assert heard[-1].active and heard[-1].action != last.action


def test_lockstep_and_mirroring_exclude_one_another(station):
    process = station.start("mode:=mirror", "lockstep:=true")
    _, said = process.communicate(timeout=LONG_S)
    assert process.returncode != 0 and "lockstep is for mode teleop, mode is mirror" in said and "Traceback" not in said


def test_mirrored_the_robot_is_told_the_leaders_joints_while_the_person_drives(station):
    heard = station.node.create_subscription(JointTrajectory, "joint_command", station.commands.append, qos.JOINT_COMMAND)
    station.start("mode:=mirror", "handover.follower_timeout_s:=2.0")
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    assert not station.commands and station.node.count_publishers("teleop/leader") == 0 and heard
    assert station.set_free(True).success
    station.arm.obstruct(1, -0.7, -0.7)
    station.until(lambda: bool(station.commands), "a command")
    station.until(lambda: abs(station.commands[-1].points[0].positions[1] + 0.7) < 0.01, "the leader's joints")
    stamps = [to_ns(command.header.stamp) for command in station.commands]
    assert set(stamps) <= set(station.told) and len(set(stamps)) == len(stamps)
    assert list(station.commands[-1].joint_names) == list(JOINTS)
    station.arm.clear(1)
    assert station.set_free(False).success
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    seen = len(station.commands)
    station.robot = None  # the robot falls silent
    station.until(lambda: station.message.startswith("limp: no joint_states of the robot"), "the leader to let go")
    assert station.torque() == [0] * 6 and len(station.commands) == seen
    assert not station.set_free(True).success


@pytest.mark.parametrize("mode", ["mirror", "teleop"])
def test_a_leader_that_is_held_while_a_stop_is_cleared_drives_only_once_it_has_come_to_the_robot(station, mode):
    heard = station.node.create_subscription(JointTrajectory, "joint_command", station.commands.append, qos.JOINT_COMMAND)
    estop = station.node.create_publisher(Bool, "estop", qos.STATUS)
    station.start(f"mode:={mode}")
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    station.arm.obstruct(1, -0.7, -0.7)  # a hand takes hold of it

    def drives() -> bool:
        return bool(station.commands if mode == "mirror" else station.active())

    station.until(drives, "the person to drive")
    estop.publish(Bool(data=True))
    station.until(lambda: station.message.endswith(HELD), "the hand to be refused")
    assert not station.set_free(True).success
    estop.publish(Bool(data=False))
    station.commands.clear()
    station.answers.clear()
    seen = len(station.told)
    station.until(lambda: len(station.told) > seen + 50, "50 states of the robot")
    assert not station.commands and not any(answer.active for answer in station.answers) and heard
    station.arm.clear(1)  # it lets go
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    station.arm.obstruct(1, -0.7, -0.7)
    station.until(drives, "the person to drive")


def test_a_leader_that_is_not_there_yet_is_said_once_waited_for_and_limp_meanwhile(station):
    station.emulator.unplug()
    process = station.start()
    station.until(lambda: station.message.startswith(f"limp: there is no serial port {station.port}"), "what is said of it")
    station.until(lambda: station.teleop is not None, "teleop")
    assert not station.active() and not station.set_free(True).success
    station.emulator.plug(station.port)
    station.until(station.near(ROBOT), "the leader at the robot's pose")
    station.until(lambda: station.message == "following", "what is said of it then")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LONG_S)
    assert process.returncode == 0 and said.count("the leader cannot be used") == 1 and "Traceback" not in said
