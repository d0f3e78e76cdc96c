# SPDX-License-Identifier: Apache-2.0
"""Sim and operator as processes over real DDS; the test plays the actor."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from hilserl_core.action import Controller
from hilserl_core.kinematics import Kinematics
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import EpisodeEvent, EpisodeStatus, Reward, TeleopCommand
from hilserl_interfaces.srv import ResetWorld
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, to_ns, to_stamp
from so101_description import urdf_path

TASK = TaskSpec(camera_sizes=(64, 64), crops=(0, 0, 64, 64))
TICK_NS = round(1e9 * TASK.tick_s)
TASK_ARGUMENTS = ("task.camera_sizes:=[64, 64]", "task.crops:=[0, 0, 64, 64]")
TIMEOUT_S = 40.0


class Station:
    """What the actor is to the simulation: sees observations, resets, commands."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("station", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.seen: dict[str, dict[int, object]] = {}
        self.counts: dict[str, int] = {}
        self.watch(JointState, "joint_states", qos.JOINT_STATES)
        self.watch(Image, "wrist/image_raw", qos.IMAGE)
        self.watch(Reward, "reward", qos.REWARD)
        self.watch(TeleopCommand, "teleop/operator", qos.TELEOP)
        self.watch(Clock, "/clock", qos.newest(10), lambda message: message.clock)
        self.command = self.node.create_publisher(JointTrajectory, "joint_command", qos.JOINT_COMMAND)
        self.status = self.node.create_publisher(EpisodeStatus, "episode/status", qos.STATUS)
        self.client = self.node.create_client(ResetWorld, "sim/reset")

    def watch(self, kind: type, topic: str, profile: object, stamp: Callable = lambda message: message.header.stamp) -> None:
        seen = self.seen.setdefault(topic, {})

        def take(message: object) -> None:
            seen[to_ns(stamp(message))] = message
            self.counts[topic] = self.counts.get(topic, 0) + 1

        self.node.create_subscription(kind, topic, take, profile)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.executor.spin_once(timeout_sec=0.1)

    def reset(self, seed: int) -> int:
        """Stamp [ns] of the first observation."""
        self.until(self.client.service_is_ready, "the reset service")
        future = self.client.call_async(ResetWorld.Request(seed=seed))
        self.until(future.done, "the reset")
        assert future.result().success
        return to_ns(future.result().stamp)

    def observe(self, stamp_ns: int, *topics: str) -> tuple:
        topics = topics or ("joint_states", "wrist/image_raw", "reward")
        self.until(lambda: all(stamp_ns in self.seen[topic] for topic in topics), f"{topics} at {stamp_ns}")
        return tuple(self.seen[topic][stamp_ns] for topic in topics)

    def send(self, stamp_ns: int, joints: np.ndarray) -> None:
        named = dict(zip(TASK.joints, joints, strict=True))
        self.command.publish(joint_command(to_stamp(stamp_ns), named, TASK.tick_s))

    def say(self, phase: int, stamp_ns: int, episode: int) -> None:
        message = EpisodeStatus(run_id="test", phase=phase, mode=0, episode=episode, episodes_done=episode)
        message.header.stamp = to_stamp(stamp_ns)
        self.status.publish(message)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def domain() -> int:
    return 20 + os.getpid() % 80


@pytest.fixture
def start(domain: int) -> Iterator[Callable]:
    """Starts a node of this package with parameters `name:=value`."""
    running: list[subprocess.Popen] = []

    def begin(module: str, *arguments: str) -> subprocess.Popen:
        words = [word for argument in (*TASK_ARGUMENTS, *arguments) for word in ("-p", argument)]
        code = f"from so101_sim.{module} import main; main()"
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        process = subprocess.Popen([sys.executable, "-c", code, "--ros-args", *words], env=environment)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.terminate()
    for process in running:
        process.wait(timeout=20)


@pytest.fixture
def station(domain: int) -> Iterator[Station]:
    station = Station(domain)
    yield station
    station.close()


def _joints(message: JointState) -> np.ndarray:
    named = dict(zip(message.name, message.position, strict=True))
    return np.array([named[name] for name in TASK.joints])


def test_lockstep_answers_each_command_with_exactly_one_tick(start, station) -> None:
    start("sim_node")
    stamp = first = station.reset(5)
    for _ in range(5):
        joints, image, _ = station.observe(stamp)
        station.observe(stamp, "/clock")
        assert (image.width, image.height, image.encoding) == (64, 64, "rgb8")
        target = _joints(joints) + np.array([0.02, 0, 0, 0, 0, 0])
        station.send(stamp - TICK_NS, target)  # of another observation: must not move anything
        station.send(stamp, target)
        stamp += TICK_NS
        assert station.observe(stamp)[0].position[0] == pytest.approx(target[0], abs=0.01)
    assert max(station.seen["joint_states"]) == first + 5 * TICK_NS
    assert station.reset(6) == stamp + TICK_NS, "time goes on when the world is reset"


def test_a_reset_that_is_asked_for_again_is_the_same_reset(start, station) -> None:
    """Whoever waits too long for an answer asks again: that must not move the time at which an episode begins."""
    start("sim_node")
    stamp = station.reset(7)
    assert station.reset(7) == stamp
    joints = np.array(station.observe(stamp)[0].position)
    station.send(stamp, joints)
    station.observe(stamp + TICK_NS)
    assert station.reset(7) == stamp + 2 * TICK_NS, "a world in which something has happened is made anew"


def test_an_unanswered_observation_is_repeated_and_a_reset_repeats_the_world(start, station) -> None:
    start("sim_node")
    stamp = station.reset(5)
    joints, image, _ = station.observe(stamp)
    station.counts.clear()
    station.until(lambda: station.counts.get("wrist/image_raw", 0) >= 2, "the observation again")
    assert max(station.seen["joint_states"]) == stamp
    assert bytes(station.observe(station.reset(6))[1].data) != bytes(image.data)
    again, same_image, _ = station.observe(station.reset(5))
    np.testing.assert_array_equal(_joints(again), _joints(joints))
    assert bytes(same_image.data) == bytes(image.data)


def test_the_operator_demonstrates_through_teleop_the_same_way_each_time(start, station) -> None:
    start("sim_node")
    start("operator_node")
    controller = Controller(TASK, Kinematics(urdf_path(), TASK.joints))

    def demonstrate(episode: int) -> list[list[float]]:
        stamp = station.reset(3)
        station.observe(stamp, "joint_states")
        station.say(EpisodeStatus.RUNNING, stamp, episode)
        actions = []
        for _ in range(TASK.max_ticks):
            joints, reward, teleop = station.observe(stamp, "joint_states", "reward", "teleop/operator")
            if reward.success:
                assert reward.reward == TASK.success_reward
                assert not teleop.active
                return actions
            assert teleop.active
            if not actions:
                controller.latch(_joints(joints))
            actions.append(list(teleop.action))
            command = controller.command(np.array(teleop.action), _joints(joints))
            station.send(stamp, command.joints)
            station.say(EpisodeStatus.RUNNING, stamp, episode)
            stamp += TICK_NS
        raise AssertionError("the demonstration did not succeed")

    first = demonstrate(0)
    assert len(first) > 10
    station.say(EpisodeStatus.RESETTING, max(station.seen["reward"]), 1)
    assert demonstrate(1) != first, "another episode is another demonstration"
    station.say(EpisodeStatus.RESETTING, max(station.seen["reward"]), 0)
    assert demonstrate(0) == first


def test_the_operator_says_by_event_when_it_is_ready_and_what_an_episode_was(start, station) -> None:
    """The road by the person's word: ready when asked, each verdict once, failure when time is over."""
    start("operator_node", "judges:=true")
    events: list[tuple[int, int]] = []
    station.node.create_subscription(
        EpisodeEvent, "episode/event", lambda event: events.append((event.kind, to_ns(event.header.stamp))), qos.EPISODE_EVENT
    )
    create = station.node.create_publisher
    joints, cube = create(JointState, "joint_states", qos.JOINT_STATES), create(PoseStamped, "cube_pose", qos.CUBE_POSE)
    truth = create(Reward, "truth", qos.REWARD)

    def asked() -> bool:
        station.say(EpisodeStatus.AWAITING_READY, 1, 0)
        return bool(events)

    def tick(stamp_ns: int, success: bool, episode: int) -> None:
        """Publish one observation of a running episode until the operator has answered it."""

        def answered() -> bool:
            station.say(EpisodeStatus.RUNNING, stamp_ns, episode)
            messages = JointState(name=list(TASK.joints), position=[0.0, -0.5, 0.6, 1.2, 0.3, 0.2]), PoseStamped(), Reward()
            messages[1].pose.position.x, messages[1].pose.orientation.w = 0.2, 1.0
            messages[2].success = success
            for publisher, message in zip((joints, cube, truth), messages, strict=True):
                message.header.stamp = to_stamp(stamp_ns)
                publisher.publish(message)
            return stamp_ns in station.seen["teleop/operator"]

        station.until(answered, f"the answer to {stamp_ns}")

    def verdicts() -> list[tuple[int, int]]:
        return [event for event in events if event[0] != EpisodeEvent.READY]

    def awaited() -> bool:
        station.say(EpisodeStatus.AWAITING_VERDICT, 11 * TICK_NS, 1)
        return len(verdicts()) >= 2

    station.until(asked, "the word that it is ready")
    assert not verdicts()
    for step, success in enumerate((False, True, True)):
        tick((1 + step) * TICK_NS, success, 0)
    tick(10 * TICK_NS, False, 1)
    station.until(awaited, "the verdict when time is over")
    tick(20 * TICK_NS, False, 2)
    assert verdicts() == [(EpisodeEvent.SUCCESS, 2 * TICK_NS), (EpisodeEvent.FAILURE, 11 * TICK_NS)]


def test_a_camera_can_be_made_to_stop_while_joints_go_on(start, station) -> None:
    start("sim_node", "camera_stop_after_ticks:=6")
    stamp = station.reset(0)
    for _ in range(10):
        (joints,) = station.observe(stamp, "joint_states")
        station.send(stamp, _joints(joints))
        stamp += TICK_NS
    station.observe(stamp, "joint_states")
    assert max(station.seen["wrist/image_raw"]) <= 6 * TICK_NS < stamp


def test_by_the_wall_clock_time_goes_on_and_the_newest_command_holds(start, station) -> None:
    station.watch(Image, "front/image_raw", qos.newest(5))
    station.watch(CameraInfo, "front/camera_info", qos.newest(5))
    start("sim_node", "lockstep:=false", "real_time_factor:=4.0", "front_width:=96", "front_height:=72")
    station.until(lambda: len(station.seen["joint_states"]) >= 3, "joint states without any command")
    newest = max(station.seen["joint_states"])
    target = _joints(station.seen["joint_states"][newest]) + np.array([0.1, 0, 0, 0, 0, 0])
    station.send(newest, target)

    def there() -> bool:
        latest = station.seen["joint_states"][max(station.seen["joint_states"])]
        return abs(_joints(latest)[0] - target[0]) < 0.01 and max(station.seen["joint_states"]) > newest + 3 * TICK_NS

    station.until(there, "the arm at its target")
    station.until(lambda: station.seen["front/image_raw"] and station.seen["front/camera_info"], "the front camera")
    image, info = (next(iter(station.seen[f"front/{name}"].values())) for name in ("image_raw", "camera_info"))
    assert (image.width, image.height) == (info.width, info.height) == (96, 72)
    assert 60 < info.k[0] == info.k[4] < 140


def test_a_paced_simulation_does_not_run_ahead_of_the_wall_clock(start, station) -> None:
    start("sim_node", "real_time_factor:=2.0")
    stamp = station.reset(0)
    (joints,) = station.observe(stamp, "joint_states")
    began = time.monotonic()
    for _ in range(10):
        station.send(stamp, _joints(joints))
        stamp += TICK_NS
        station.observe(stamp, "joint_states")
    assert time.monotonic() - began > 0.9 * 10 * TASK.tick_s / 2.0
