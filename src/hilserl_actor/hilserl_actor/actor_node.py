# SPDX-License-Identifier: Apache-2.0
"""The actor: topics in, `joint_command` and `steps` out. Decisions are in control_loop.py."""

from __future__ import annotations

import array
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from hilserl_actor.control_loop import ControlLoop, Outcome, Phase
from hilserl_actor.metronome import Metronome
from hilserl_actor.policy_store import PolicyStore
from hilserl_actor.reading import read_observation, read_teleop
from hilserl_actor.resetter import RETRY_S, Resetter
from hilserl_actor.schedule import CounterFile, Counters, Plan
from hilserl_actor.sender import StepSender
from hilserl_actor.settings import ActorParameters
from hilserl_actor.status import status_message
from hilserl_actor.teleop import NO_SOURCE, Choice, NewestCommands, Teleop, choose
from hilserl_core.action import Controller
from hilserl_core.kinematics import Kinematics
from hilserl_core.observation import ObservationError
from hilserl_core.policy import PolicySpec
from hilserl_core.synchroniser import Synchroniser
from hilserl_core.timing import Timings
from hilserl_interfaces.msg import EpisodeEvent, EpisodeStatus, PolicyParameters, Reward, StepAck, TeleopCommand
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_interfaces.srv import ResetWorld
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, joint_maps, to_ns, to_stamp
from hilserl_ros.images import ImageError
from hilserl_ros.node import BaseNode, StartAgain, main_of
from hilserl_ros.realtime import take_precedence
from so101_description import urdf_path


class ActorNode(BaseNode[ActorParameters]):
    """See docs/architecture.md for the graph and the two clocks."""

    def __init__(self) -> None:
        super().__init__("actor", ActorParameters, {"policy.": PolicySpec})
        params, task = self.params, self.task
        self._folder = Path(params.folder)
        training = params.mode == "train"
        self._counter_file = CounterFile(self._folder / "actor_counters") if training else None
        self._steps = self.create_publisher(StepMessage, "steps", qos.STEPS)
        self._sender = StepSender(
            self._folder / "spool" if training else None, task, params.window, params.resend_s, self._steps.publish,
            self._complain,
        )  # fmt: skip
        counters = self._sender.counters(self._counter_file.load() if training else None, params.seed)
        plan = Plan(params.demonstrations, params.training_steps, 0 if training else params.evaluation_episodes, params.seed)
        self._store = PolicyStore(self.tables["policy."], task, params, counters.run_id, self.get_logger())
        self._kinematics = Kinematics(urdf_path(), task.joints)
        controller = Controller(task, self._kinematics, params.max_lag_m)
        self._loop = ControlLoop(task, controller, self._store, plan, counters, params.hold_ticks, params.greedy_every)
        self._saved: Counters | None = None
        self._answer: tuple[int, np.ndarray] | None = None  # lockstep: what was answered last
        self._timings = Timings()
        self._owing = False  # real time: this tick has found no new observation yet, and takes the first that comes
        self._known_s = 0.0  # when the newest reward or observation was there [s, system clock]
        self._joints: np.ndarray | None = None
        self._last_good_s = time.monotonic()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)

        self._sources = [source for source in params.teleop_sources if source != NO_SOURCE]
        parts = [*task.cameras, "joints"]  # the first gives the observation's stamp, which the reward carries too
        if params.lockstep:
            parts += ["reward", *(f"teleop/{source}" for source in self._sources)]
        self._sync = Synchroniser(parts, 0 if params.lockstep else round(0.5e9 * task.tick_s))
        self._teleop = NewestCommands()
        self._choice, self._chosen_ns = Choice(), -1  # who drives, and for which observation that was published last
        self._connect()
        client = self.create_client(ResetWorld, "sim/reset") if params.reset == "world" else None
        goal = np.array(task.reset_joints_rad)
        arm = self.create_client(SetBool, "follower/suspend") if params.reset_stops_arm else None
        self._resetter = Resetter(client, goal, self._on_reset, self._complain, arm)
        if not params.wait_for_recorder:
            self._follow(self._loop.start())

    def _complain(self, why: str) -> None:
        self.get_logger().error(why, throttle_duration_sec=5.0)

    def _connect(self) -> None:
        params = self.params
        self._command = self.create_publisher(JointTrajectory, "joint_command", qos.recorded(qos.JOINT_COMMAND))
        self._status = self.create_publisher(EpisodeStatus, "episode/status", qos.STATUS)
        self._counted = self.create_publisher(TeleopCommand, "teleop", qos.recorded(qos.TELEOP))
        image_qos = qos.IMAGE if params.lockstep else qos.newest()
        create = self.create_subscription
        self._parts = {"joints": create(JointState, "joint_states", self._on_joints, qos.JOINT_STATES)}
        for camera in self.task.cameras:
            self._parts[camera] = create(Image, f"{camera}/image_raw", partial(self._on_part, camera), image_qos)
        self._parts["reward"] = create(Reward, "reward", self._on_reward, qos.REWARD)
        for source in self._sources:
            topic = f"teleop/{source}"
            self._parts[topic] = create(TeleopCommand, topic, partial(self._on_teleop, source), qos.TELEOP)
        self.create_subscription(EpisodeEvent, "episode/event", self._on_event, qos.EPISODE_EVENT)
        if params.mode == "train":
            self.create_subscription(StepAck, "steps/ack", self._on_ack, qos.STEPS_ACK)
            self.create_subscription(PolicyParameters, "policy/frozen", self._on_frozen, qos.POLICY)
            self.create_subscription(PolicyParameters, "policy", self._on_policy, qos.POLICY)
        self.create_timer(0.1, self._on_housekeeping, clock=self._steady)
        if not params.lockstep:
            self._metronome = Metronome(self, self.task.tick_s, params.command_delay_s, self._on_tick)
            self.get_logger().info(f"the tick runs with {take_precedence()}")

    def _on_part(self, part: str, message: object) -> None:
        if self._answer is not None and part == "joints" and to_ns(message.header.stamp) == self._answer[0]:
            self._publish_command(message.header.stamp, self._answer[1])  # it was lost: the simulator repeats itself
        self._sync.add(part, to_ns(message.header.stamp), message)
        if self.params.lockstep or self._owing:
            self._advance()

    def _on_joints(self, message: JointState) -> None:
        positions, _ = joint_maps(message)
        joints = np.array([positions.get(joint, np.nan) for joint in self.task.joints])
        if np.isfinite(joints).all():
            self._joints = joints  # where the move to the reset pose begins
        self._on_part("joints", message)

    def _on_reward(self, message: Reward, info: dict) -> None:
        if self.params.lockstep:
            self._on_part("reward", message)
        elif math.isfinite(message.reward):
            self._known_s = info["source_timestamp"] * 1e-9
            self._follow(self._loop.reward(to_ns(message.header.stamp), message.reward, message.success))
        else:
            self._complain(f"a reward is {message.reward}: it counts as not having come")

    def _on_teleop(self, source: str, message: TeleopCommand) -> None:
        if self.params.lockstep:
            self._on_part(f"teleop/{source}", message)
        else:
            self._teleop.put(source, self._read_teleop(source, message), time.monotonic())

    def _read_teleop(self, source: str, message: TeleopCommand) -> Teleop | None:
        try:
            return read_teleop(message, source, self.task)
        except ObservationError as error:
            self._complain(f"{error}: ignored")
            return None

    def _on_event(self, event: EpisodeEvent) -> None:
        if event.kind in (EpisodeEvent.SUCCESS, EpisodeEvent.FAILURE, EpisodeEvent.RERECORD):
            again = event.kind == EpisodeEvent.RERECORD
            self._loop.judge(event.kind == EpisodeEvent.SUCCESS, to_ns(event.header.stamp), again)
            return
        calls = {
            EpisodeEvent.PAUSE: self._loop.pause,
            EpisodeEvent.RESUME: self._loop.resume,
            EpisodeEvent.STOP: self._loop.stop,
        }
        if event.kind in calls:
            if event.kind != EpisodeEvent.RESUME:
                self._resetter.cancel()
            self._follow(calls[event.kind]())

    def _on_ack(self, ack: StepAck) -> None:
        if ack.run_id == self._loop.counters.run_id:
            self._sender.acknowledge(ack)

    def _on_frozen(self, message: PolicyParameters) -> None:
        self._store.take_frozen(message)
        self._on_new_parameters()

    def _on_policy(self, message: PolicyParameters, info: dict) -> None:
        self._store.take(message, info["source_timestamp"] * 1e-9)
        self._on_new_parameters()

    def _on_new_parameters(self) -> None:
        if self._loop.phase is Phase.WAITING:
            if not self._loop.in_episode:
                self._follow(self._loop.start())
            elif self.params.lockstep:
                self._advance()

    def _on_tick(self) -> None:
        targets = self._resetter.targets()
        if targets is None:
            self._owing = self._loop.in_episode
            self._advance()
        else:
            self._publish_command(self.get_clock().now().to_msg(), targets)

    def _advance(self) -> None:
        """One tick of the loop, if a complete new observation is there."""
        if self._sender.blocked or not self._loop.in_episode:
            return
        found = self._sync.newest()
        if found is None:
            return
        stamp_ns, parts = found
        self._owing = False
        try:
            observation, joints = read_observation(stamp_ns, parts, self.task, self._kinematics)
        except (ObservationError, ImageError) as error:
            self._sync.use(stamp_ns)
            self._hold(str(error))
            return
        self._last_good_s, self._known_s = time.monotonic(), time.time()
        if (reward := parts.get("reward")) is not None:
            if not math.isfinite(reward.reward):
                self._sync.use(stamp_ns)
                self._hold(f"the reward is {reward.reward}")
                return
            self._loop.reward(stamp_ns, reward.reward, reward.success)
        outcome = self._loop.observe(observation, joints)
        if not self.params.lockstep:
            self._send(outcome)  # there is time until the command goes out
            if self._loop.in_episode and self._loop.builder.index == 0:
                self._metronome.begin()
        outcome.joints = self._loop.act(observation, joints, self._person(stamp_ns, parts))
        if outcome.joints is not None or not self._loop.in_episode:
            self._sync.use(stamp_ns)
        self._follow(outcome, stamp_ns)

    def _person(self, stamp_ns: int, parts: dict[str, Any]) -> Teleop | None:
        """What the person wants for this observation; published as `teleop`, once."""
        if self.params.lockstep:
            commands = {source: self._read_teleop(source, parts[f"teleop/{source}"]) for source in self._sources}
        else:
            commands = self._teleop.at(time.monotonic(), self.params.teleop_timeout_s)
        self._choice = choose(commands)
        teleop = self._choice.teleop
        if stamp_ns != self._chosen_ns:
            self._chosen_ns = stamp_ns
            message = TeleopCommand(active=teleop is not None)
            message.header.stamp = to_stamp(stamp_ns)
            if teleop is not None:
                message.action = array.array("f", teleop.action.tobytes())
            self._counted.publish(message)
        return teleop

    def _follow(self, outcome: Outcome, stamp_ns: int | None = None) -> None:
        """Carry out what the loop asks for."""
        if outcome.joints is not None and stamp_ns is not None:
            command = partial(self._answer_observation, stamp_ns, outcome.joints)
            command() if self.params.lockstep else self._metronome.later(command)
        self._send(outcome)
        if not self._sender.blocked and self._loop.counters != self._saved:
            self._saved = self._loop.counters  # only ever behind the spool, never ahead of it
            if self._counter_file is not None:
                self._counter_file.save(self._saved)
        self._publish_status(stamp_ns)
        if outcome.reset_seed is not None:
            self._resetter.begin(outcome.reset_seed)
            self._resetter.poll(self._joints, self.params.reset_duration_s)

    def _send(self, outcome: Outcome) -> None:
        """The finished steps on their way."""
        if not outcome.steps:
            return
        self._sender.put(outcome.steps)
        took_s = time.time() - self._known_s
        for step in outcome.steps:
            self._timings.add("reward_to_step", took_s, step.sequence)
        outcome.steps = []

    def _answer_observation(self, stamp_ns: int, joints: np.ndarray) -> None:
        """The command that answers an observation, unless the episode was ended while it waited to go out."""
        if not self._loop.in_episode:
            return
        self._publish_command(to_stamp(stamp_ns), joints)
        self._answer = (stamp_ns, joints) if self.params.lockstep else None
        if (applied_s := self._store.take_latency()) is not None:
            self._timings.add("policy_to_action", applied_s)

    def _publish_command(self, stamp: Time, joints: np.ndarray) -> None:
        named = dict(zip(self.task.joints, joints, strict=True))
        self._command.publish(joint_command(stamp, named, self.task.tick_s))

    def _on_reset(self, stamp_ns: int | None) -> None:
        """The world or the arm is in its start state."""
        self._sync.use(self._sync.latest if stamp_ns is None else stamp_ns - 1)
        self._last_good_s = time.monotonic()
        self._loop.reset_done()
        self._publish_status(stamp_ns)
        self._owing = True  # the episode's beat begins with its first observation
        if self.params.lockstep:
            self._advance()

    def _hold(self, why: str) -> None:
        if self._loop.in_episode:
            self.get_logger().error(f"the arm holds: {why}")
        self._follow(self._loop.lost(why))

    def _on_housekeeping(self) -> None:
        """Ten times a second: resend, retry a reset, notice what is missing."""
        params, loop = self.params, self._loop
        if loop.phase is Phase.IDLE and self._recorded():
            self._follow(loop.start())
        self._sender.flush()
        self._resetter.poll(self._joints, params.reset_duration_s)
        if params.lockstep and self._resetter.unseen_s > params.observation_timeout_s + RETRY_S:
            raise StartAgain("the service that resets the world is not seen")
        if loop.phase not in (Phase.RUNNING, Phase.RESETTING):
            self._publish_status(None)  # acknowledgements go on while nothing else happens
        silent_s = time.monotonic() - self._last_good_s
        if loop.phase is Phase.RUNNING and silent_s > params.observation_timeout_s:
            lacking = self._sync.lacking()
            self._hold(f"no {', '.join(lacking) or 'observation'} for {silent_s:.1f} s")
            if params.lockstep:
                self._look_for_publishers(lacking)
        elif loop.phase is Phase.HOLDING and silent_s > 1.0:
            self._last_good_s = time.monotonic()
            if params.lockstep or self._sync.newest() is not None:
                self._follow(loop.recovered())
        elif loop.in_episode and not params.lockstep and (since := loop.builder.waiting_since_ns) is not None:
            late_s = (self.get_clock().now().nanoseconds - since) * 1e-9
            if late_s > params.reward_timeout_s:
                self._hold(f"no reward for {late_s:.1f} s")

    def _look_for_publishers(self, lacking: list[str]) -> None:
        """Raises StartAgain for a part that nobody is seen to publish, since in lockstep all of them belong to this system.

        On a starved machine (eight busy programs beside it on two cores: about one start in ten) Fast DDS does not show one
        process another's publishers, and never tries again; a new process sees them.
        """
        if unseen := [part for part in lacking if not self._parts[part].get_publisher_count()]:
            raise StartAgain(f"nobody is seen to publish {', '.join(unseen)}")

    def _recorded(self) -> bool:
        """Whether the recorder is there."""
        return any(info.node_name == "recorder" for info in self.get_subscriptions_info_by_topic(self._steps.topic_name))

    def _publish_status(self, stamp_ns: int | None) -> None:
        stamp = self.get_clock().now().to_msg() if stamp_ns is None else to_stamp(stamp_ns)
        self._status.publish(status_message(stamp, self._loop, self._store, self._sender, self._choice.conflict))

    def close(self) -> None:
        """Everything taken so far is on disk when the node ends."""
        self._sender.close()
        if self._counter_file is not None:
            self._counter_file.close()
            self._timings.save(self._folder / "actor_timings.json")


main = main_of(ActorNode)
