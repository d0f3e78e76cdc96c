# SPDX-License-Identifier: Apache-2.0
"""An arm that somebody else's driver moves, by either kind of controller of ros2_controllers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from controllers import ForeignArm, ForwardController, TrajectoryController
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from dataset_recorder.convert.bag import Bag, find_bags
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import EpisodeStatus, LearnerStatus
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, to_ns, to_stamp
from hilserl_ros.testing import Rig, node_command
from reach_grasp.process import background
from reach_grasp.running.monitor import all_learned
from so101_description import JOINTS, joint_limits
from so101_driver.arm import Command
from so101_driver.estop import EmergencyStop
from so101_driver.relay import Relay
from so101_driver.safety_config import CommandLimits

REST = np.array([0.0, -0.9, 0.9, 0.9, 0.0, 0.1])
START = np.clip(TaskSpec().reset_joints_rad, *np.transpose([joint_limits()[joint] for joint in JOINTS]))
CONTROLLERS = {"JointTrajectory": TrajectoryController, "Float64MultiArray": ForwardController}
TICK_MS, DELAY_MS = 100, 20
both = pytest.mark.parametrize("kind", CONTROLLERS)


# What a trajectory controller does with stamps ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp_ms", "duration_ms", "due_ms"),
    [
        (None, 0, 10),  # no stamp: now, which is its next cycle
        (None, 100, 100),
        (-30, 100, 70),  # the stamp is when the trajectory begins: what has passed of it is lost
        (-90, 100, 10),  # so that the same way is to be made in a tenth of the time
        (-100, 100, 10),
        (-101, 100, None),  # it ends in the past: refused
        (50, 100, 150),
    ],
)
def test_a_trajectory_controller_is_at_the_point_when_its_stamp_and_duration_say(stamp_ms, duration_ms, due_ms):
    controller, now_ms = TrajectoryController(from_desired=True), 1_000_000
    controller.update((now_ms - 10) * 10**6, REST)
    message = joint_command(to_stamp((now_ms + (stamp_ms or 0)) * 10**6), dict(zip(JOINTS, REST + 0.1, strict=True)), 0.0)
    if stamp_ms is None:
        message.header.stamp = to_stamp(0)
    message.points[0].time_from_start.nanosec = duration_ms * 10**6
    controller.hear(message, now_ms * 10**6)
    assert bool(controller.refused) is (due_ms is None)
    if due_ms is None:
        return
    for later_ms in range(0, due_ms + 1, 10):
        way = np.abs(controller.update((now_ms + later_ms) * 10**6, REST) - (REST + 0.1)).max()
        assert (way < 1e-9) == (later_ms + 10 >= due_ms), f"{later_ms} ms after it came"


@pytest.mark.parametrize("age_ms", [5, 60, 150])
@both
def test_a_command_is_carried_out_a_ramp_after_it_went_out_however_old_its_observation(kind, age_ms):
    """20 ms of command_delay_s, 100 ms of safety.ramp_s, and a cycle each of relay and controller, at most."""
    controller, arm = CONTROLLERS[kind](), Relay(CommandLimits(), EmergencyStop())
    start_ms, begun_ms, reached_ms = 1_000_000, None, None
    for now_ms in range(start_ms - 100, start_ms + 300):
        arm.see(now_ms * 1e-3, REST)
        if now_ms % 10 == 3:  # the relay's cycle, out of step with the controller's
            out = now_ms - DELAY_MS - start_ms
            command = Command(JOINTS, (REST + 0.1).tolist(), (DELAY_MS + age_ms) * 1e-3) if 0 <= out < 10 else None
            _, positions = arm.cycle(now_ms * 1e-3, command)
            if positions is not None:
                controller.hear(message_of(kind, positions), now_ms * 10**6)
        if now_ms % 10 == 0:
            commanded = controller.update(now_ms * 10**6, REST)
            if begun_ms is None and np.abs(commanded - REST).max() > 1e-9:
                begun_ms = now_ms - start_ms
            if reached_ms is None and np.abs(commanded - REST - 0.1).max() < 1e-9:
                reached_ms = now_ms - start_ms
    assert not controller.refused
    assert DELAY_MS <= begun_ms <= DELAY_MS + 20 and 100 <= reached_ms <= DELAY_MS + 100 + 20


def message_of(kind: str, positions: np.ndarray) -> object:
    """As the relay's node makes it; that it does is seen below."""
    if kind == "Float64MultiArray":
        return ForwardController.message_type(data=positions.tolist())
    message = joint_command(to_stamp(0), dict(zip(JOINTS, positions, strict=True)), 0.0)
    assert to_ns(message.points[0].time_from_start) == 0
    return message


# The relay's node -----------------------------------------------------------------------------------------------------


class Station(Rig):
    """The foreign arm, and everybody who talks to the relay."""

    def __init__(self, kind: str, begin: np.ndarray) -> None:
        super().__init__(6)
        self.kind = kind
        self.controller = CONTROLLERS[kind]()
        self.arm = ForeignArm(self.node, self.controller, begin)
        self.wanted: np.ndarray | None = None  # what is commanded meanwhile
        self.sent_ns = 0
        self.stopped: bool | None = None
        self.said = ""  # in diagnostics
        self.status, self.learner = EpisodeStatus(), LearnerStatus()
        self.command = self.node.create_publisher(JointTrajectory, "joint_command", qos.JOINT_COMMAND)
        self.estop = self.node.create_publisher(Bool, "estop/request", qos.ESTOP_REQUEST)
        subscribe = self.node.create_subscription
        subscribe(Bool, "estop", lambda message: setattr(self, "stopped", message.data), qos.STATUS)
        subscribe(DiagnosticArray, "/diagnostics", self._note, qos.DIAGNOSTICS)
        subscribe(EpisodeStatus, "episode/status", lambda message: setattr(self, "status", message), qos.STATUS)
        subscribe(LearnerStatus, "learner/status", lambda message: setattr(self, "learner", message), qos.STATUS)

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "command_relay: arm":
                self.said = status.message

    def start(self, *more: str) -> None:
        """Start the relay as `reach-grasp ... --driver external` does."""
        command = node_command("so101_driver", "command_relay_node", [f"command_type:={self.kind}", *more])
        names = {"joint_states": "follower/joint_states", "controller_command": f"follower/{self.controller.topic}"}
        self.spawn([*command, *(word for old, new in names.items() for word in ("-r", f"{old}:={new}"))])

    def meanwhile(self) -> None:
        assert not self.processes or self.processes[-1].poll() is None, "the relay has ended"
        now = self.node.get_clock().now()
        if self.wanted is not None and now.nanoseconds - self.sent_ns > TICK_MS * 10**6:
            self.sent_ns = now.nanoseconds
            seen = to_stamp(now.nanoseconds - 90 * 10**6)  # a camera takes time
            self.command.publish(joint_command(seen, dict(zip(reversed(JOINTS), self.wanted[::-1], strict=True)), 0.1))

    def near(self, positions: np.ndarray) -> bool:
        return bool(np.abs(self.arm.positions - positions).max() < 0.01)

    def spin(self, messages: int) -> None:
        """Go on for so many cycles of the arm."""
        end = len(self.arm.commands) + messages
        self.until(lambda: len(self.arm.commands) >= end, "the arm's cycles")


@pytest.fixture
def station(kind: str) -> Iterator[Station]:
    found = Station(kind, REST)
    yield found
    found.close()


@both
def test_commands_reach_the_controller_and_a_stop_holds_over_a_restart(station: Station) -> None:
    controller = station.controller
    station.start(
        "safety.command_timeout_s:=10.0", "safety.watchdog_s:=2.0", "safety.lost_s:=60.0", "safety.state_timeout_s:=1.0"
    )
    station.until(lambda: station.said == "ready", "the relay")
    assert not controller.taken, "nobody has commanded yet"
    station.wanted = REST + 0.2
    station.until(lambda: station.near(REST + 0.2), "the arm where it was told to be")
    assert not controller.refused
    if station.kind == "JointTrajectory":
        assert {to_ns(message.header.stamp) for message in controller.taken} == {0}
        assert {to_ns(message.points[0].time_from_start) for message in controller.taken} == {0}
    assert np.abs(np.diff(controller.goals, axis=0)).max() <= 0.08 + 1e-9, "max_step_rad"

    station.estop.publish(Bool(data=True))
    station.until(lambda: station.stopped is True, "the word that it is stopped")
    station.spin(20)
    count, where = len(controller.taken), station.arm.positions.copy()
    station.wanted = REST - 0.2
    station.spin(100)
    assert len(controller.taken) == count and station.near(where) and not station.near(REST - 0.2)
    station.until(lambda: "no command passes: emergency stop by a message" in station.said, "the reason in diagnostics")

    station.processes[-1].kill()
    station.processes[-1].wait(20)
    station.stopped = None
    station.start("safety.command_timeout_s:=10.0", "safety.lost_s:=60.0", "safety.state_timeout_s:=1.0")
    station.until(lambda: station.stopped is True, "the new relay, which begins stopped")
    station.spin(100)
    assert len(controller.taken) == count
    answer = station.call(SetBool, "command_relay/estop", SetBool.Request(data=False))
    assert answer.success and answer.message == "commands pass again, from where the arm is"
    station.until(lambda: station.near(REST - 0.2), "the arm to go on")


@pytest.mark.parametrize("kind", ["JointTrajectory"])
def test_what_is_lacking_is_said(station: Station) -> None:
    command = node_command("so101_driver", "command_relay_node", ["command_type:=Float64MultiArray"])
    names = {"joint_states": "follower/joint_states", "controller_command": f"follower/{station.controller.topic}"}
    station.spawn([*command, *(word for old, new in names.items() for word in ("-r", f"{old}:={new}"))])
    station.until(lambda: "nobody listens to Float64MultiArray on /follower/joint_traj" in station.said, "the wrong type")
    station.processes[-1].kill()
    station.spawn(node_command("so101_driver", "command_relay_node", []))
    station.until(lambda: "no joint_states that can be used" in station.said, "the lack of joint states")


@pytest.mark.parametrize("kind", ["JointTrajectory"])
def test_somebody_elses_clock_is_refused(station: Station) -> None:
    process = station.spawn(node_command("so101_driver", "command_relay_node", ["use_sim_time:=true"]))
    assert process.wait(60) == 2 and "a real arm keeps the computer's time" in process.stderr.read()


# A training -----------------------------------------------------------------------------------------------------------


def own_file(folder: Path) -> Path:
    """The station's parameters: small pictures and networks, and nobody has to be ready."""
    small = yaml.safe_load(Path(__file__).with_name("small_training.yaml").read_text())
    task = {"camera_sizes": [64, 48], "crops": [0, 0, 48, 48], "image_size": 48, "max_episode_s": 4.0}
    small["/**"]["ros__parameters"]["task"] = task
    nodes = {
        "keyboard": {"device": str(folder / "not there")},
        "wrist_camera": {"source": str(folder / "wrist.avi"), "frozen_frames": 0},
        "actor": {"ready_after_s": 0.0, "reset_duration_s": 1.0, "observation_timeout_s": 20.0},
        "command_relay": {"safety": {"command_timeout_s": 2.0, "lost_s": 20.0}},
    }
    file = folder / "station.yaml"
    file.write_text(yaml.safe_dump(small | {f"/**/{name}": {"ros__parameters": values} for name, values in nodes.items()}))
    writer = cv2.VideoWriter(str(folder / "wrist.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), (0, 0, 60 + 8 * number), np.uint8))
    writer.release()
    return file


@both
def test_twenty_steps_of_training_in_real_time(station: Station, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log.txt"
    given = {"sim": "false", "driver": "external", "states_topic": "follower/joint_states", "command_type": station.kind}
    given |= {"command_topic": f"/follower/{station.controller.topic}", "teleop": "none", "events": "keyboard"}
    given |= {"record": "true", "demonstrations": 0, "steps": 20, "run": run, "config": own_file(tmp_path)}
    with background("train", given, log, {"ROS_DOMAIN_ID": str(station.domain)}) as system:

        def done() -> bool:
            assert system.poll() is None, log.read_text()
            return all_learned(station.status, station.learner)

        station.until(done, "the end of the training")
    (bag, *_) = find_bags([run / "bags"])
    with Bag(bag) as held:
        topics = {topic for topic, _, _ in held.messages(["/follower/joint_states", "/joint_command", "/steps"])}
    assert len(topics) == 3
    assert station.status.steps == 20 and station.learner.steps_received == station.status.sequence
    assert station.controller.taken and not station.controller.refused
    path = np.array(station.arm.commands)
    way = np.abs(path - START)[:, :-1].max(axis=1)
    assert way[0] > 0.2 and way.min() < 0.04, "it went to its start, which differs by up to reset_variation_rad"
    assert way[way.argmin() :].max() > 0.05, "and the policy moved it from there"
