# SPDX-License-Identifier: Apache-2.0
"""The gamepad's node as a process over DDS: its device is the test's `joy`, the arm an emulated one behind the follower."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from hilserl_core.kinematics import Kinematics
from hilserl_interfaces.msg import EpisodeEvent, TeleopCommand
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.testing import Rig, node_command
from so101_description import JOINTS, urdf_path
from so101_driver import motors
from so101_driver.bus import Bus
from so101_driver.calibration import write_calibration
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm

LONG_S = 120.0
START = np.array([0.0, -0.5, 0.6, 1.2, 0.3, 0.2])  # within the task's workspace
MAPPING = dict.fromkeys(("z", "rerecord", "stop", "pause", "resume", "ready", "estop", "triggers"), "")
MAPPING |= {
    "x": "axes/1",
    "y": "axes/0",
    "gripper": "axes/2",
    "hold": "buttons/0",
    "success": "buttons/1",
    "failure": "buttons/2",
}
REST = ([0.0, 0.0, 0.0], [0, 0, 0])


class Station(Rig):
    """Processes, a gamepad in the test's hand, and what is heard of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(6, LONG_S)
        self.folder, self.sent_s = folder, 0.0
        self.teleop: TeleopCommand | None = None
        self.answers: list[tuple[int, bool]] = []  # stamp and whether the person drives
        self.joints: JointState | None = None
        self.looks = 0
        self.events: list[EpisodeEvent] = []
        self.commands: list[JointTrajectory] = []
        self.message = ""
        self.stops: list[Bool] = []
        self.robot: np.ndarray | None = None  # played by the test where there is no follower
        self.told: list[int] = []
        self.held: tuple[list[float], list[int]] | None = REST
        self.joy = self.node.create_publisher(Joy, "joy", qos.JOY)
        self.state = self.node.create_publisher(JointState, "joint_states", qos.JOINT_STATES)
        subscribe = self.node.create_subscription
        subscribe(TeleopCommand, "teleop/gamepad", self._hear, qos.recorded(qos.TELEOP))
        subscribe(EpisodeEvent, "episode/event", self.events.append, qos.EPISODE_EVENT)
        subscribe(Bool, "estop/request", self.stops.append, qos.ESTOP_REQUEST)
        subscribe(DiagnosticArray, "diagnostics", self._note, qos.DIAGNOSTICS)

    def _note(self, message: DiagnosticArray) -> None:
        self.message = next((status.message for status in message.status if status.name == "gamepad: input"), self.message)

    def _hear(self, message: TeleopCommand) -> None:
        self.teleop = message
        self.answers.append((to_ns(message.header.stamp), message.active))

    def look(self, message: JointState) -> None:
        self.joints = message
        self.looks += 1

    def more(self, number: int) -> Callable[[], bool]:
        """So many more of the robot's joints."""
        wanted = self.looks + number
        return lambda: self.looks >= wanted

    def start(self, executable: str, *parameters: str) -> subprocess.Popen:
        return self.run("so101_driver", executable, parameters)

    def gamepad(self, *parameters: str) -> subprocess.Popen:
        mapping = [f"mapping.{name}:='{value}'" for name, value in MAPPING.items()]
        return self.start("gamepad_node", "device:=joy", "joy_timeout_s:=5.0", *mapping, *parameters)

    def meanwhile(self) -> None:
        """The gamepad says what is held, the robot where it is."""
        if time.monotonic() < self.sent_s + 0.02:
            return
        self.sent_s = time.monotonic()
        if self.held is not None:
            self.joy.publish(Joy(axes=self.held[0], buttons=self.held[1]))
        if self.robot is not None:
            message = JointState(name=list(JOINTS), position=self.robot.tolist())
            message.header.stamp = self.node.get_clock().now().to_msg()
            self.told.append(to_ns(message.header.stamp))
            self.state.publish(message)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    found = Station(tmp_path)
    yield found
    found.close()


def test_one_press_stops_the_arm_and_another_says_ready(station):
    station.gamepad(
        "mode:=events", "mapping.success:=''", "mapping.failure:=''", "mapping.ready:=buttons/1", "mapping.estop:=buttons/2"
    )
    station.until(lambda: station.message == "at rest", "the node")
    station.held = ([0.0, 0.0, 0.0], [0, 0, 1])
    station.until(lambda: len(station.stops) > 2, "the stop, again and again while nobody confirms it")
    estop = station.node.create_publisher(Bool, "estop", qos.STATUS)
    estop.publish(Bool(data=False))  # a driver's state from before is no confirmation
    wanted = len(station.stops) + 3
    station.until(lambda: len(station.stops) > wanted, "the stop")
    estop.publish(Bool(data=True))
    station.held = ([0.0, 0.0, 0.0], [0, 1, 1])
    station.until(lambda: station.events, "the event")
    for _ in range(2):  # what was on its way, then none any more
        seen, end_s = len(station.stops), time.monotonic() + 0.5
        station.until(lambda end_s=end_s: time.monotonic() > end_s, "half a second")
    assert len(station.stops) == seen and all(stop.data for stop in station.stops)
    assert [event.kind for event in station.events] == [EpisodeEvent.READY]


def test_what_a_relay_says_of_a_stop_confirms_nothing(station):
    process = station.gamepad("mode:=events", "mapping.success:=''", "mapping.failure:=''", "mapping.estop:=buttons/2")
    relay = rclpy.create_node("command_relay", context=station.context)
    estop = relay.create_publisher(Bool, "estop", qos.STATUS)
    station.until(lambda: station.message == "at rest" and estop.get_subscription_count() > 0, "the node")
    station.held = ([0.0, 0.0, 0.0], [0, 0, 1])
    station.until(lambda: station.stops, "the stop")
    estop.publish(Bool(data=True))
    line = ""
    while "CONFIRM" not in line.upper():
        line = process.stderr.readline()
        assert line, "it has ended"
    assert "NOT CONFIRMED: no command is passed on" in line
    relay.destroy_node()


def test_what_is_held_is_teleop_and_a_press_is_one_event(station):
    station.robot = START
    process = station.gamepad()
    station.until(lambda: station.teleop is not None and station.message == "at rest", "the node")
    assert not station.teleop.active and not station.teleop.action
    station.held = ([0.0, -1.0, 0.0], [1, 1, 0])
    station.until(lambda: station.teleop.active, "the person to drive")
    assert list(station.teleop.action) == [-1.0, 0.0, 0.0, 0.0] and to_ns(station.teleop.header.stamp) in station.told
    heard = len(station.told)
    station.until(lambda: len(station.told) > heard + 30 and station.events, "an event")
    station.held = ([0.0, -1.0, 0.0], [1, 0, 1])
    station.until(lambda: len(station.events) > 1, "another event")
    assert [event.kind for event in station.events] == [EpisodeEvent.SUCCESS, EpisodeEvent.FAILURE]
    assert station.events[0].source == "gamepad" and to_ns(station.events[0].header.stamp) > station.told[0]
    station.held = None  # the gamepad falls silent
    station.until(lambda: not station.teleop.active, "nobody to drive")
    station.until(lambda: station.message == "no joy for 5 s; start its node again", "what is wrong")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=LONG_S) == 0


def test_in_lockstep_every_observation_is_answered_once_and_again_when_it_is_repeated(station):
    station.gamepad("lockstep:=true")

    def observe(stamp_ns: int) -> None:
        message = JointState(name=list(JOINTS), position=START.tolist())
        message.header.stamp = to_stamp(stamp_ns)
        station.state.publish(message)

    def first_answer() -> bool:
        observe(10)
        return bool(station.answers)

    def answer(stamp_ns: int) -> tuple[int, bool]:
        def heard() -> int:
            return sum(stamp == stamp_ns for stamp, _ in station.answers)

        wanted = heard() + 1
        observe(stamp_ns)
        station.until(lambda: heard() >= wanted, f"the answer to {stamp_ns}")
        return station.answers[-1]

    station.until(first_answer, "the first answer")
    station.until(lambda: station.message == "at rest", "the device")
    assert set(station.answers) == {(10, False)} and answer(20) == (20, False)
    station.held = ([0.0, -1.0, 0.0], [1, 0, 0])
    station.until(lambda: station.message == "the person drives", "the person to drive")
    assert answer(20) == (20, False), "the same answer to the same observation"
    assert answer(30) == (30, True) and list(station.teleop.action) == [-1.0, 0.0, 0.0, 0.0]
    assert [stamp for stamp, _ in station.answers if stamp > 10] == [20, 20, 30], "and nothing by the clock"


def test_a_name_to_which_no_actor_listens_is_refused(station):
    process = station.spawn([*node_command("so101_driver", "gamepad_node", ["device:=joy"]), "-r", "__node:=pad"])
    station.until(lambda: process.poll() is not None, "the end of the node")
    assert process.returncode == 2
    assert "no actor listens to teleop/pad; call it gamepad or keyboard" in process.stderr.read()


def test_without_an_actor_a_held_stick_moves_the_arm_and_letting_go_stops_it(station, calibration):
    mountings, arm = standard_arm()
    for index, angle in enumerate(START):
        arm.push(index, angle)
    with BusEmulator(arm, mountings, line=INSTANT, port=station.folder / "arm") as emulator:
        with Bus(emulator.device, reply_timeout_s=LONG_S) as bus:
            motors.store_calibration(bus, calibration)
        write_calibration(station.folder / "mine.json", calibration)
        kinematics = Kinematics(urdf_path(), JOINTS)
        subscribe = station.node.create_subscription
        subscribe(JointState, "joint_states", station.look, qos.JOINT_STATES)
        subscribe(JointTrajectory, "joint_command", station.commands.append, qos.JOINT_COMMAND)
        patient = ("reply_timeout_s:=10.0", "safety.command_timeout_s:=10.0", "safety.watchdog_s:=1.0")
        station.start(
            "follower_node", f"port:={station.folder / 'arm'}", f"calibration:={station.folder / 'mine.json'}", *patient
        )
        station.gamepad("mode:=drive")
        station.until(lambda: station.joints is not None and station.message == "at rest", "both nodes")

        def place() -> np.ndarray:
            return kinematics.forward(np.array(station.joints.position)).position

        station.held = ([0.7, 0.0, 0.0], [0, 0, 0])  # the stick alone
        station.until(station.more(50), "joints")
        assert not station.commands and station.node.count_publishers("teleop/gamepad") == 0
        begin = place()
        station.held = ([0.7, 0.0, 0.0], [1, 0, 0])
        station.until(lambda: place()[1] > begin[1] + 0.05, "the arm 5 cm to the left")
        assert list(station.commands[-1].joint_names) == list(JOINTS)
        station.held = ([0.7, 0.0, 0.0], [0, 0, 0])
        station.until(station.more(20), "what was on its way")
        seen = len(station.commands)
        station.until(station.more(150), "joints, beyond the watchdog")
        assert len(station.commands) == seen
        stopped = place()
        station.until(station.more(50), "joints")
        np.testing.assert_allclose(place(), stopped, atol=0.001)
        last = kinematics.forward(np.array(station.commands[-1].points[0].positions)).position
        assert np.linalg.norm(stopped - last) < 0.03, "it did not go beyond what it was told last"


def test_beside_a_leader_it_only_says_what_an_episode_was(station):
    station.robot = START
    station.gamepad("mode:=events")
    station.until(lambda: station.message == "at rest", "the node")
    station.held = ([0.0, -1.0, 0.0], [1, 1, 0])
    station.until(lambda: station.events, "an event")
    assert station.events[0].kind == EpisodeEvent.SUCCESS
    assert station.node.count_publishers("teleop/gamepad") == 0 and station.teleop is None


def test_a_wrong_mapping_is_said_in_one_sentence(station):
    process = station.start("gamepad_node", "mapping.x:=ABS_QX")
    _, said = process.communicate(timeout=LONG_S)
    assert process.returncode == 2 and "Traceback" not in said
    assert "mapping.x names ABS_QX, which the kernel does not know; did you mean ABS_X?" in said
