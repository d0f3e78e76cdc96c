# SPDX-License-Identifier: Apache-2.0
"""The actor as a process in real time over DDS; the test plays the arm, the camera, the person and the reward."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_prefix
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import EpisodeEvent, EpisodeResult, EpisodeStatus, Reward, StepAck, TeleopCommand
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_interfaces.srv import ResetWorld
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.images import rgb_to_image

TASK = TaskSpec(camera_sizes=(64, 64), crops=(0, 0, 64, 64), image_size=64)
ARGUMENTS = (
    "task.camera_sizes:=[64, 64]", "task.crops:=[0, 0, 64, 64]", "task.image_size:=64", "demonstrations:=3",
    "observation_timeout_s:=0.6", "reset_duration_s:=1.0", "resend_s:=0.4", "task.max_episode_s:=60.0",
)  # fmt: skip
TIMEOUT_S = 60.0


class _Station:
    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("station", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        create = self.node.create_publisher
        self._joints = create(JointState, "joint_states", qos.JOINT_STATES)
        self._image = create(Image, "wrist/image_raw", qos.IMAGE)
        self._reward = create(Reward, "reward", qos.REWARD)
        self._teleop = create(TeleopCommand, "teleop/leader", qos.TELEOP)
        self.event = create(EpisodeEvent, "episode/event", qos.EPISODE_EVENT)
        self.ack = create(StepAck, "steps/ack", qos.STEPS_ACK)
        self.status, self.commands, self.steps, self.counted, self.results, self.phases = EpisodeStatus(), [], [], [], [], []
        self.offset_ns = 0  # of the station's clock, which is everybody's by `/clock` where use_sim_time is set
        subscribe = self.node.create_subscription
        subscribe(EpisodeStatus, "episode/status", self._on_status, qos.STATUS)
        subscribe(JointTrajectory, "joint_command", self.commands.append, qos.reliable(100))
        subscribe(StepMessage, "steps", self.steps.append, qos.STEPS)
        subscribe(TeleopCommand, "teleop", self.counted.append, qos.TELEOP)
        subscribe(EpisodeResult, "episode/result", self.results.append, qos.EPISODE_RESULT)
        self._clock = create(Clock, "/clock", qos.CLOCK)
        self.estop = create(Bool, "estop", qos.STATUS)
        self._timer = self.node.create_timer(0.05, self._publish)
        self.joints = np.array(TASK.reset_joints_rad)
        self.joints_lead_ns = 20_000_000  # read a little before the picture, as on a real station
        self.camera, self.arm, self.action = True, True, [0.0, 0.0, 0.3, 0.0]
        self.rewards, self.driving, self.person_there = True, True, True

    def _on_status(self, message: EpisodeStatus) -> None:
        self.status = message
        self.phases.append(message.phase)

    def _publish(self) -> None:
        self.publish(to_stamp(self.node.get_clock().now().nanoseconds + self.offset_ns))

    def publish(self, stamp: Time) -> None:
        """Everything of one instant."""
        self._clock.publish(Clock(clock=stamp))
        joints = JointState(name=list(TASK.joints), position=self.joints.tolist(), velocity=[0.0] * 6)
        joints.header.stamp = to_stamp(to_ns(stamp) - self.joints_lead_ns)
        if self.arm:
            self._joints.publish(joints)
        if self.camera:
            self._image.publish(rgb_to_image(np.zeros((64, 64, 3), np.uint8), stamp))
        reward = Reward()
        reward.header.stamp = stamp
        if self.rewards:
            self._reward.publish(reward)
        teleop = TeleopCommand(active=self.driving, action=self.action if self.driving else [])
        teleop.header.stamp = stamp
        if self.person_there:
            self._teleop.publish(teleop)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}; the last status was {self.status}"
            self.executor.spin_once(timeout_sec=0.1)

    def reset(self, response: ResetWorld.Response) -> ResetWorld.Response:
        response.success, response.stamp = True, to_stamp(self.now_ns())
        return response

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds + self.offset_ns

    def say(self, kind: int, stamp: Time | None = None) -> None:
        event = EpisodeEvent(kind=kind, source="test")
        event.header.stamp = to_stamp(self.now_ns()) if stamp is None else stamp
        self.event.publish(event)

    def sequences(self) -> list[int]:
        return [step.sequence for step in self.steps]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def station(tmp_path, request):
    begins, changed = getattr(request, "param", (EpisodeStatus.RUNNING, ()))
    domain = int(os.environ.get("ROS_DOMAIN_ID", "0")) + 2
    words = [word for text in (*ARGUMENTS, *changed, f"folder:={tmp_path}") for word in ("-p", text)]
    command = [str(Path(get_package_prefix("hilserl_actor")) / "lib/hilserl_actor/actor_node"), "--ros-args", *words]
    station = _Station(domain)
    station.arm = station.rewards = begins != EpisodeStatus.RESETTING
    if "reset:=world" in changed:
        station.joints_lead_ns = 0
        station.node.create_service(ResetWorld, "sim/reset", lambda _, response: station.reset(response))
    process = subprocess.Popen(command, env={**os.environ, "ROS_DOMAIN_ID": str(domain)})
    try:
        station.until(lambda: station.status.phase == begins, "the first episode")
        yield station
    finally:
        process.terminate()
        assert process.wait(20) == 0
        station.close()


def test_without_a_learner_it_acts_on_and_sends_every_step_again_until_acknowledged(station):
    station.until(lambda: max(station.sequences(), default=0) >= 6 and station.sequences().count(1) > 1, "steps, repeated")
    assert station.status.phase == EpisodeStatus.RUNNING and station.commands
    stamps = {to_ns(command.header.stamp) for command in station.commands}
    later = [step for step in station.steps if step.sequence > 2]  # the first commands may come before this test is connected
    assert {to_ns(step.header.stamp) for step in later} <= stamps, "a command carries its observation's stamp"
    newest = max(station.sequences())
    station.ack.publish(StepAck(run_id=station.status.run_id, received_through=newest))
    station.until(lambda: station.status.acknowledged >= newest, "the acknowledgement to count")
    station.steps.clear()
    station.until(lambda: len(station.steps) >= 8, "more steps")
    assert min(station.sequences()) > newest, "what is acknowledged is not sent again"


def test_a_camera_that_stops_holds_the_arm_says_so_and_goes_on_when_it_is_back(station):
    station.until(lambda: station.steps, "the first steps")
    station.camera = False
    station.until(lambda: station.status.phase == EpisodeStatus.HOLDING, "the hold")
    assert "no wrist" in station.status.text
    station.until(lambda: any(step.is_last and not step.is_terminal for step in station.steps), "the truncated episode")
    station.camera = True
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the next episode")


def test_joints_that_are_not_finite_hold_the_arm_and_never_reach_the_policy(station):
    station.joints = np.full(6, np.nan)
    station.until(lambda: station.status.phase == EpisodeStatus.HOLDING, "the hold")
    assert "not finite" in station.status.text
    assert all(np.isfinite(command.points[0].positions).all() for command in station.commands)
    station.joints = np.array(TASK.reset_joints_rad)
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the next episode")


def test_a_persons_keys_end_pause_and_stop(station):
    station.say(EpisodeEvent.SUCCESS)
    station.until(lambda: station.status.successes == 1, "the success")
    station.until(lambda: any(step.is_terminal for step in station.steps), "the terminal step")
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the next episode")
    station.say(EpisodeEvent.PAUSE)
    station.until(lambda: station.status.phase == EpisodeStatus.PAUSED, "the pause")
    station.say(EpisodeEvent.RESUME)
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "going on")
    station.say(EpisodeEvent.STOP)
    station.until(lambda: station.status.phase == EpisodeStatus.DONE, "the end")


def test_a_reset_moves_the_joints_straight_to_the_reset_pose_whatever_kinematic_model_is_loaded(station):
    """An IK reset must never switch itself on: not even here, where the actor has a model for its Cartesian actions."""
    goal = np.array(TASK.reset_joints_rad)
    begin = goal + np.array([0.4, 0.5, -0.6, -0.3, 0.2, 0.1])
    station.joints = begin
    seen = len(station.steps) + 3
    station.until(lambda: len(station.steps) > seen, "steps with the arm elsewhere")
    station.commands.clear()
    station.say(EpisodeEvent.FAILURE)
    station.until(lambda: any(np.allclose(c.points[0].positions, goal, atol=1e-9) for c in station.commands), "the reset pose")
    path = np.array([command.points[0].positions for command in station.commands])
    path = path[: int(np.argmax(np.isclose(path, goal, atol=1e-9).all(1))) + 1]
    part = (path - begin) / (goal - begin)  # of the way, each joint
    straight = np.isclose(part, part[:, :1], atol=1e-6).all(1)
    assert straight[-1] and straight[-2] and 0.0 < part[-2, 0] < 1.0, part


@pytest.mark.parametrize("station", [(EpisodeStatus.RESETTING, ())], indirect=True)
def test_a_reset_without_joint_states_is_told_regularly_with_its_reason_and_never_begins_from_old_ones(station):
    """Before, the actor was silent meanwhile, and the system was ended after 90 s since it was not heard."""
    station.until(lambda: len(station.phases) > 2 and "no joint_states" in station.status.text, "the reason, said again")
    assert set(station.phases) == {EpisodeStatus.RESETTING} and not station.commands
    station.arm = station.rewards = True
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the episode")
    station.say(EpisodeEvent.PAUSE)
    station.until(lambda: station.status.phase == EpisodeStatus.PAUSED, "the pause")
    station.arm = station.rewards = False
    station.phases.clear()
    station.until(lambda: len(station.phases) > 10, "joints that are a second old")
    station.commands.clear()
    station.say(EpisodeEvent.RESUME)
    station.until(lambda: "no joint_states" in station.status.text, "the reason")
    assert station.status.phase == EpisodeStatus.RESETTING and not station.commands


@pytest.mark.parametrize("unseen", ["", "wrist", "service"])
def test_in_lockstep_it_starts_again_only_where_a_publisher_or_the_world_is_not_even_seen(tmp_path, unseen):
    domain = int(os.environ.get("ROS_DOMAIN_ID", "0")) + 2
    changed = ("lockstep:=true", "reset:=world", "teleop_sources:=[leader]", "observation_timeout_s:=2.0")
    changed += (f"folder:={tmp_path}",)
    words = [word for text in (*ARGUMENTS, *changed) for word in ("-p", text)]
    command = [str(Path(get_package_prefix("hilserl_actor")) / "lib/hilserl_actor/actor_node"), "--ros-args", *words]
    station = _Station(domain)
    station.camera = False  # there, but silent
    if unseen == "wrist":
        station.node.destroy_publisher(station._image)
    if unseen != "service":
        station.node.create_service(ResetWorld, "sim/reset", lambda _, response: station.reset(response))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, "ROS_DOMAIN_ID": str(domain)}, stdout=log, stderr=log)
    try:
        if not unseen:
            station.until(lambda: station.status.phase == EpisodeStatus.HOLDING, "the hold")
            station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the next try")
            assert process.poll() is None
        else:
            station.until(lambda: process.poll() is not None, "its end")
            assert process.returncode == 1, "its guard starts it again"
            said = {"wrist": "nobody is seen to publish wrist", "service": "the service that resets the world is not seen"}
            assert f"{said[unseen]}; starting again" in (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(20)
        station.close()


AT_THE_PERSONS_PACE = ("judge:=person", "ready_after_s:=-1.0", "wait_for_person:=true", "reset_variation_rad:=0.05")


@pytest.mark.parametrize("station", [(EpisodeStatus.AWAITING_READY, AT_THE_PERSONS_PACE)], indirect=True)
def test_a_person_alone_demonstrates_at_a_real_arm_without_anybody_who_publishes_a_reward(station):
    """The road of a new station: before, each episode ended with "no reward for 1.0 s"."""
    station.rewards = station.driving = False
    assert "keep clear" in station.status.text, "the arm does not move before a person says so"
    station.until(lambda: station.event.get_subscription_count(), "somebody who hears the keys")
    station.say(EpisodeEvent.READY)
    station.until(lambda: "put the object back" in station.status.text, "the reset")
    station.commands.clear()
    station.until(lambda: len(station.commands) > 5, "commands that hold, so that no watchdog stops the arm")
    held = {tuple(command.points[0].positions) for command in station.commands[1:]}
    assert len(held) == 1 and "say ready" in station.status.text
    away = np.abs(np.array(held.pop()) - TASK.reset_joints_rad)
    assert 0.0 < away.max() <= 0.05 and away[-1] == 0.0, "the reset pose varies, the gripper's does not"
    station.say(EpisodeEvent.READY)
    station.until(lambda: station.status.phase == EpisodeStatus.AWAITING_PERSON, "the wait for the first motion")
    assert not station.steps
    station.driving = True
    station.until(lambda: len(station.steps) > 3, "steps")
    assert station.steps[0].index == 0 and station.steps[0].action, "the clock began with the first motion"
    station.say(EpisodeEvent.SUCCESS)
    station.until(lambda: station.results, "the end")
    result = station.results[0]
    assert (result.end, result.judge, result.success) == (EpisodeResult.SUCCESS, "person", True)
    assert result.ticks >= 3
    station.until(lambda: station.status.successes == 1, "the count")
    station.driving = False
    station.until(lambda: station.status.phase == EpisodeStatus.AWAITING_READY, "the next reset")
    station.until(lambda: not station.counted[-1].active, "nobody to drive")
    station.driving = True  # taking hold says ready, and drives
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the next demonstration")
    station.say(EpisodeEvent.PAUSE)
    station.until(lambda: len(station.results) == 2, "the end by the pause")
    assert station.results[1].end == EpisodeResult.STOP and not station.results[1].judge
    station.until(lambda: "without a verdict" in station.status.text, "what the pause did")


NO_REWARD = ("judge:=classifier", "reward_timeout_s:=30.0", "task.max_episode_s:=1.0")


@pytest.mark.parametrize("station", [(EpisodeStatus.RUNNING, NO_REWARD)], indirect=True)
def test_a_key_and_an_emergency_stop_count_while_steps_wait_for_a_reward_that_does_not_come(station):
    """Before, one episode of 100 ticks ran to index 348 and took no key."""
    station.rewards = False
    station.say(EpisodeEvent.FAILURE)  # whatever came before
    station.until(lambda: station.results and station.status.phase == EpisodeStatus.RUNNING, "an episode without rewards")
    station.until(lambda: "time is over" in station.status.text, "the end of its time")
    assert station.status.index == 10
    station.say(EpisodeEvent.SUCCESS)
    station.until(lambda: len(station.results) == 2, "the person's word")
    result = station.results[1]
    assert (result.end, result.judge, result.ticks) == (EpisodeResult.SUCCESS, "person", 10)
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the next episode")
    station.estop.publish(Bool(data=True))
    station.until(lambda: station.status.phase == EpisodeStatus.HOLDING, "the stop")
    assert "reach-grasp estop --clear" in station.status.text
    station.estop.publish(Bool(data=False))
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "the next episode")


def test_a_reward_that_does_not_come_holds_the_arm_until_one_does(station):
    """Before, it began episode after episode, each for a second."""
    station.rewards = False
    station.until(lambda: station.status.phase == EpisodeStatus.HOLDING, "the hold")
    assert "no reward" in station.status.text and "judge" in station.status.text
    station.phases.clear()
    station.until(lambda: len(station.phases) > 15, "more than a second")
    assert set(station.phases) == {EpisodeStatus.HOLDING} and len(station.results) == 1
    assert station.results[0].end == EpisodeResult.LOST and not station.results[0].judge
    station.rewards = True
    station.until(lambda: station.status.phase == EpisodeStatus.RUNNING, "going on")


@pytest.mark.parametrize("station", [(EpisodeStatus.RUNNING, ("use_sim_time:=true",))], indirect=True)
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_costs_one_episode(station, hours):
    """Before, the arm held for the hour by which the clock was behind."""
    station.until(lambda: station.steps, "the first steps")
    station.offset_ns = hours * 3_600_000_000_000
    station.until(lambda: abs(to_ns(station.steps[-1].header.stamp) - station.now_ns()) < 5e9, "steps after it")
    assert len(station.results) <= 1 and station.status.phase == EpisodeStatus.RUNNING


def test_stamps_of_years_ahead_are_used_by_nobody(station):
    """Before, no observation counted after the next reset."""
    station.until(lambda: station.steps, "the first steps")
    future = to_stamp(station.node.get_clock().now().nanoseconds + 10**17)
    station.publish(future)
    station.say(EpisodeEvent.FAILURE, future)
    station.until(lambda: station.results, "the person's word, whatever its stamp")
    assert station.results[0].end == EpisodeResult.FAILURE
    station.until(lambda: station.steps[-1].episode == 1, "the next episode")
    assert all(to_ns(step.header.stamp) < to_ns(future) for step in station.steps)


@pytest.mark.parametrize(
    "station",
    [(EpisodeStatus.RUNNING, ("lockstep:=true", "reset:=world", "teleop_sources:=[leader]", "demonstrations:=1"))],
    indirect=True,
)
def test_in_lockstep_a_pause_freezes_and_a_key_counts_without_the_answer_of_a_source(station):
    station.until(lambda: station.status.index > 3, "some ticks")
    station.say(EpisodeEvent.PAUSE)
    station.until(lambda: station.status.phase == EpisodeStatus.PAUSED, "the pause")
    index = station.status.index
    station.phases.clear()
    station.until(lambda: len(station.phases) > 12, "longer than an observation may take")
    assert set(station.phases) == {EpisodeStatus.PAUSED} and not station.results
    station.say(EpisodeEvent.RESUME)
    station.until(lambda: station.status.index > index + 2, "the same episode")
    assert not station.results and station.status.episode == 0
    station.person_there = False
    station.phases.clear()
    station.say(EpisodeEvent.FAILURE)
    station.until(lambda: station.results, "the end")
    assert (station.results[0].end, station.results[0].judge) == (EpisodeResult.FAILURE, "person")
