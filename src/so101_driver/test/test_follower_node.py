# SPDX-License-Identifier: Apache-2.0
"""The follower as a process over DDS, on an emulated arm; the test plays whoever commands it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from hilserl_ros import qos
from hilserl_ros.convert import joint_command, to_ns
from hilserl_ros.testing import Rig
from so101_description import JOINTS
from so101_driver import motors
from so101_driver.bus import Bus
from so101_driver.calibration import write_calibration
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm
from so101_sim.bus.memory import Address
from so101_sim.bus.packets import Instruction, Request

LONG_S = 120.0


class Station(Rig):
    """An emulated arm with its calibration, and everything that talks to the follower."""

    def __init__(self, folder: Path, calibration) -> None:
        super().__init__(5, LONG_S)
        mountings, self.arm = standard_arm()
        self.emulator = BusEmulator(self.arm, mountings, line=INSTANT, port=folder / "arm")
        self.emulator.start()
        with Bus(self.emulator.device, reply_timeout_s=LONG_S) as bus:
            motors.store_calibration(bus, calibration)
        self.file, self.folder = folder / "mine.json", folder
        self.angle: float | None = None  # what all joints are told meanwhile
        self.sent_s = 0.0
        write_calibration(self.file, calibration)
        self.joints: JointState | None = None
        self.looks = self.reports = 0
        self.stopped: bool | None = None
        self.diagnostics: dict[str, object] = {}
        self.command = self.node.create_publisher(JointTrajectory, "joint_command", qos.JOINT_COMMAND)
        self.estop = self.node.create_publisher(Bool, "estop/request", qos.reliable(1))
        subscribe = self.node.create_subscription
        subscribe(JointState, "joint_states", self._look, qos.JOINT_STATES)
        subscribe(Bool, "estop", lambda message: setattr(self, "stopped", message.data), qos.STATUS)
        subscribe(DiagnosticArray, "diagnostics", self._note, qos.DIAGNOSTICS)

    def _look(self, message: JointState) -> None:
        self.joints = message
        self.looks += 1

    def _note(self, message: DiagnosticArray) -> None:
        self.reports += 1
        self.diagnostics |= {status.name: status for status in message.status}

    def start(self, *parameters: str) -> subprocess.Popen:
        given = (f"port:={self.folder / 'arm'}", f"calibration:={self.file}", "reply_timeout_s:=10.0", *parameters)
        return self.run("so101_driver", "follower_node", given)

    def until(self, condition: Callable[[], bool], what: str, angle: float | None = None) -> None:
        """Wait; meanwhile command all joints to an angle."""
        self.angle = angle
        super().until(condition, what)

    def meanwhile(self) -> None:
        if self.angle is not None and time.monotonic() > self.sent_s + 0.05:
            self.send(dict.fromkeys(JOINTS, self.angle))
            self.sent_s = time.monotonic()

    def send(self, angles: dict[str, float]) -> None:
        self.command.publish(joint_command(self.node.get_clock().now().to_msg(), angles, 0.1))

    def near(self, angle: float) -> Callable[[], bool]:
        return lambda: self.joints is not None and bool((np.abs(np.array(self.joints.position) - angle) < 0.02).all())

    def limp(self) -> list[bool]:
        return [servo.limp for servo in self.emulator.servos]

    def goals(self) -> list[int]:
        return [servo.memory.word(Address.GOAL_POSITION) for servo in self.emulator.servos]

    def close(self) -> None:
        super().close()
        self.emulator.stop()


@pytest.fixture
def station(tmp_path: Path, calibration) -> Iterator[Station]:
    found = Station(tmp_path, calibration)
    yield found
    found.close()


def test_it_holds_follows_and_holds_again_when_nobody_commands(station):
    for index in range(6):
        station.arm.push(index, 0.05 * index)
    station.start()
    station.until(lambda: station.joints is not None, "joints")
    assert list(station.joints.name) == list(JOINTS) and not station.joints.effort
    np.testing.assert_allclose(station.joints.position, [0.05 * index for index in range(6)], atol=0.01)
    age_ns = station.node.get_clock().now().nanoseconds - to_ns(station.joints.header.stamp)
    assert 0 <= age_ns < 60e9
    station.until(station.near(0.3), "the arm at 0.3 rad", 0.3)
    assert station.stopped is False
    station.until(lambda: station.joints.position[0] > 0.4, "the arm on its way", 1.5)
    held: list[int] = []
    station.until(lambda: held[-3:] == [station.goals()] * 3 or held.append(station.goals()), "the arm to hold")
    assert station.joints.position[0] < 1.4


ACTOR = """
import rclpy
from trajectory_msgs.msg import JointTrajectory
from hilserl_ros import qos
from hilserl_ros.convert import joint_command
from so101_description import JOINTS

rclpy.init()
node = rclpy.create_node("actor")
command = node.create_publisher(JointTrajectory, "joint_command", qos.JOINT_COMMAND)
say = lambda: command.publish(joint_command(node.get_clock().now().to_msg(), dict.fromkeys(JOINTS, 1.2), 0.1))
node.create_timer(0.1, say)
rclpy.spin(node)
"""


def test_an_actor_killed_in_mid_motion_leaves_the_arm_held_within_the_watchdog(station, monkeypatch):
    """A process that commands at the task's tick, killed: what the servos' goal registers hold after that, cycle by cycle.

    The bound is counted in cycles, which never come faster than their rate, so that a busy machine does not matter: no command
    older than command_timeout_s is taken, and watchdog_s after the last one taken the goals stand still.
    """
    goals: list[list[int]] = []  # after each packet of goals
    handle = station.emulator.handle

    def watched(request: Request) -> tuple[bytes, float]:
        answer = handle(request)
        if request.instruction == Instruction.SYNC_WRITE:
            goals.append(station.goals())
        return answer

    monkeypatch.setattr(station.emulator, "handle", watched)
    station.start("safety.max_velocity_rad_s:=0.1", "safety.gripper_velocity_rad_s:=0.1")  # 12 s for the whole way
    station.until(lambda: station.joints is not None, "joints")
    actor = station.spawn([sys.executable, "-c", ACTOR])
    station.until(lambda: station.joints.position[0] > 0.05, "the arm on its way")
    actor.kill()
    actor.wait()
    killed, looks, reports = len(goals), station.looks, station.reports
    station.until(lambda: len(goals) > killed + 200 and station.reports > reports + 1, "two seconds of cycles and diagnostics")
    changes = [index for index in range(1, len(goals)) if goals[index] != goals[index - 1]]
    assert killed - 100 < changes[-1] <= killed + round((0.25 + 0.25) * 100) + 1
    at = station.joints.position[0]
    assert station.looks > looks + 100 and 0.05 < at < 1.1 and station.stopped is False
    station.until(lambda: station.joints.position[0] > at + 0.02, "the arm, which another actor moves on", 1.2)


def test_an_emergency_stop_by_topic_and_by_service_wants_an_explicit_consent(station):
    station.start()
    station.until(station.near(0.2), "the arm at 0.2 rad", 0.2)
    station.until(station.estop.get_subscription_count, "the follower's ear")
    station.estop.publish(Bool(data=True))
    station.until(lambda: station.stopped is True, "the stop", 1.0)
    seen = station.looks
    station.until(lambda: station.looks > seen + 3, "the cycle after the next, and that its goals have come", 1.0)
    goals = station.goals()
    station.estop.publish(Bool(data=False))  # clears nothing
    station.until(lambda: _counted(station, "refused") or "stopped" in _message(station), "what is said of it", 1.0)
    assert station.goals() == goals and station.stopped is True
    assert station.call(SetBool, "follower/estop", SetBool.Request(data=False)).success
    station.until(station.near(0.5), "the arm at 0.5 rad", 0.5)
    assert station.stopped is False
    assert station.call(SetBool, "follower/estop", SetBool.Request(data=True)).success
    station.until(lambda: station.stopped is True, "the stop")
    assert not station.call(Trigger, "follower/home").success


def _stop(station: Station) -> None:
    station.until(station.estop.get_subscription_count, "the follower's ear")
    station.estop.publish(Bool(data=True))
    station.until(lambda: station.stopped is True, "the stop")


def _stays_stopped(station: Station) -> None:
    """Whatever is commanded for some cycles, nothing is written to the servos."""
    seen = station.looks
    station.until(lambda: station.looks > seen + 3, "the cycle after the next, and that its goals have come", 1.0)
    before = (station.goals(), station.limp())
    station.until(lambda: station.looks > seen + 10, "some cycles", 1.0)
    assert station.stopped is True and (station.goals(), station.limp()) == before


def _clear(station: Station) -> None:
    assert station.call(SetBool, "follower/estop", SetBool.Request(data=False)).success
    station.until(station.near(0.5), "the arm at 0.5 rad", 0.5)
    assert station.stopped is False


def _change(station: Station, *transitions: int) -> None:
    for transition in transitions:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert station.call(ChangeState, "follower/change_state", request).success


def _kill_and_restart(station: Station) -> None:
    station.processes[-1].kill()
    station.processes[-1].wait()
    station.stopped = None
    station.start()
    station.until(lambda: station.stopped is not None, "what the new follower says of the stop")


ATTEMPTS = {
    "set_torque": lambda s: s.call(SetBool, "follower/set_torque", SetBool.Request(data=True)),
    "deactivate and activate": lambda s: _change(s, Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE),
    "kill and restart": _kill_and_restart,
    "a message with false": lambda s: s.estop.publish(Bool(data=False)),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_only_a_clear_ends_an_emergency_stop_and_this_does_not(station, attempt):
    station.start()
    station.until(station.near(0.2), "the arm at 0.2 rad", 0.2)
    _stop(station)
    ATTEMPTS[attempt](station)
    _stays_stopped(station)
    assert not any(station.limp())
    _clear(station)


def test_a_stop_before_the_arm_is_there_holds_when_it_comes_and_is_said_meanwhile(station):
    station.start("autostart:=false")
    _stop(station)
    station.until(lambda: "not configured, stopped: emergency stop" in _message(station), "what diagnostics say of it")
    assert station.diagnostics["follower: arm"].hardware_id == f"SO-101 {station.folder / 'arm'}"
    _change(station, Transition.TRANSITION_CONFIGURE)
    assert station.stopped is True
    _change(station, Transition.TRANSITION_ACTIVATE)
    station.until(lambda: station.joints is not None, "joints")
    _stays_stopped(station)
    assert all(station.limp())
    _clear(station)


def test_a_stop_is_cleared_while_inactive_and_moves_nothing_then(station):
    station.start("autostart:=false")
    _stop(station)
    _change(station, Transition.TRANSITION_CONFIGURE)
    assert station.call(SetBool, "follower/estop", SetBool.Request(data=False)).success
    station.until(lambda: station.stopped is False, "the end of the stop")
    assert all(station.limp())


def test_a_stop_that_no_file_can_keep_is_said_and_the_arm_does_not_begin(station, tmp_path):
    (tmp_path / "full").write_text("")
    station.start(f"estop_file:={tmp_path}/full/estop")
    station.until(lambda: station.stopped is True and station.joints is not None, "the stop, and joints")
    _stays_stopped(station)
    assert all(station.limp())
    assert not station.call(SetBool, "follower/estop", SetBool.Request(data=False)).success
    (tmp_path / "full").unlink()
    _clear(station)


def test_the_reset_of_a_simulation_never_ends_a_persons_stop(station):
    station.start("lockstep:=true")
    suspend = lambda on: station.call(SetBool, "follower/suspend", SetBool.Request(data=on))  # noqa: E731
    assert suspend(True).success and suspend(False).success and station.stopped is False
    assert suspend(True).success
    _stop(station)
    assert "emergency stop by a message" in suspend(False).message
    station.until(lambda: "emergency stop" in _message(station), "what is said of it")
    assert station.stopped is True
    assert station.call(SetBool, "follower/estop", SetBool.Request(data=False)).success
    assert suspend(False).success and station.stopped is False


def test_joint_states_hold_no_nan_from_the_first_on(station):
    seen: list[JointState] = []
    station.node.create_subscription(JointState, "joint_states", seen.append, qos.recorded(qos.JOINT_STATES))
    station.start("autostart:=false", "torque_nm:=[1.9, 1.9, 1.9, 1.9, 1.9, 1.9]")
    station.until(lambda: station.node.count_publishers("joint_states"), "the follower")
    _change(station, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    station.until(lambda: len(seen) > 10, "joints")
    assert all(len(values) == 6 for message in seen for values in (message.position, message.velocity, message.effort))
    assert all(np.isfinite([*message.position, *message.velocity, *message.effort]).all() for message in seen)


def test_the_time_of_a_real_arm_cannot_be_changed_while_it_is_driven(station):
    station.start()
    station.until(station.near(0.2), "the arm at 0.2 rad", 0.2)
    wanted = Parameter(name="use_sim_time", value=ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=True))
    answer = station.call(SetParameters, "follower/set_parameters", SetParameters.Request(parameters=[wanted]))
    assert not answer.results[0].successful and "cannot be changed while a node runs" in answer.results[0].reason
    station.until(station.near(0.4), "the arm at 0.4 rad, by commands of the computer's time", 0.4)


def test_a_real_arm_is_not_driven_by_a_simulations_time(station):
    process = station.start("use_sim_time:=true")
    assert process.wait(timeout=LONG_S) == 2
    assert "use_sim_time is true, and a real arm keeps the computer's time; leave use_sim_time out" in process.stderr.read()


def test_a_command_of_100_000_joints_is_thrown_away_unread(station):
    station.start()
    station.until(station.near(0.2), "the arm at 0.2 rad", 0.2)
    station.send({f"joint_{index}": 1.0 for index in range(100_000)})
    station.until(lambda: _counted(station, "refused: message") == 1, "a refusal")
    assert _counted(station, "refused: joints") == 0
    station.until(station.near(0.4), "the arm at 0.4 rad", 0.4)


def _message(station: Station) -> str:
    status = station.diagnostics.get("follower: arm")
    return status.message if status else ""


def _counted(station: Station, kind: str) -> int:
    status = station.diagnostics.get("follower: arm")
    return sum(int(item.value) for item in status.values if item.key.startswith(kind)) if status else 0


def test_what_is_no_command_is_refused_and_counted(station):
    station.start()
    station.until(station.near(0.1), "the arm at 0.1 rad", 0.1)
    station.send(dict.fromkeys(JOINTS[:5], 1.0))
    station.until(lambda: _counted(station, "refused: joints") == 1, "a refusal")
    station.send(dict.fromkeys(JOINTS, float("nan")))
    station.until(lambda: _counted(station, "refused: not finite") == 1, "a refusal")
    old = joint_command(station.node.get_clock().now().to_msg(), dict.fromkeys(JOINTS, 1.0), 0.1)
    old.header.stamp.sec -= 5
    station.command.publish(old)
    station.until(lambda: _counted(station, "refused: stale") == 1, "a refusal")
    assert station.near(0.1)()


def test_home_and_torque(station):
    station.start("home_rad:=[0.1, 0.1, 0.1, 0.1, 0.1, 0.1]")
    station.until(station.near(0.3), "the arm at 0.3 rad", 0.3)
    assert station.call(Trigger, "follower/home").success
    station.until(station.near(0.1), "the arm at home")
    assert station.call(SetBool, "follower/set_torque", SetBool.Request(data=False)).success
    assert all(station.limp()) and station.call(SetBool, "follower/set_torque", SetBool.Request(data=True)).success
    assert not any(station.limp())


def test_unplugged_and_plugged_in_again_it_waits_for_consent(station):
    station.start()
    station.until(station.near(0.3), "the arm at 0.3 rad", 0.3)
    station.emulator.unplug()
    station.until(lambda: "unplugged" in _message(station), "what is said of it", 0.9)
    assert not station.call(SetBool, "follower/estop", SetBool.Request(data=False)).success
    station.emulator.plug(station.folder / "arm")
    station.joints = None
    station.until(lambda: station.joints is not None, "joints", 0.9)
    assert station.near(0.3)() and station.stopped is True
    assert station.call(SetBool, "follower/estop", SetBool.Request(data=False)).success
    station.until(station.near(0.5), "the arm at 0.5 rad", 0.5)


@pytest.mark.parametrize("release", [False, True])
def test_it_holds_or_lets_go_when_it_is_told_to_end(station, release):
    process = station.start(f"release:={str(release).lower()}")
    station.until(station.near(0.2), "the arm at 0.2 rad", 0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=LONG_S) == 0
    assert station.limp() == [release] * 6


def test_a_lifecycle_manager_may_lead_it(station):
    station.start("autostart:=false")

    _change(station, Transition.TRANSITION_CONFIGURE)
    assert all(station.limp())
    _change(station, Transition.TRANSITION_ACTIVATE)
    station.until(station.near(0.2), "the arm at 0.2 rad", 0.2)
    _change(station, Transition.TRANSITION_DEACTIVATE)
    assert not any(station.limp()) and station.joints
    assert not station.call(Trigger, "follower/home").success
    _change(station, Transition.TRANSITION_CLEANUP)
    with Bus(station.emulator.device, reply_timeout_s=LONG_S) as bus:
        bus.check()


def test_an_arm_that_cannot_be_used_is_said_in_one_sentence(station):
    station.emulator.servo(2).memory.put(Address.MODEL_NUMBER, 2825, 2)
    process = station.start()
    text = ""
    while "is no STS3215" not in text:
        line = process.stderr.readline()
        assert line, text
        text += line
    assert "the arm cannot be used: servo 2 (model 2825) is no STS3215 (model 777); fit the right servo" in text
    assert "Traceback" not in text and process.poll() is None
