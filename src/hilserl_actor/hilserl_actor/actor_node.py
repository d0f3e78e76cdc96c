# SPDX-License-Identifier: Apache-2.0
"""The actor: topics in, `joint_command` and `steps` out. Decisions are in control_loop.py."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from hilserl_actor.control_loop import ControlLoop, Outcome, Pace
from hilserl_actor.episode import PERSON
from hilserl_actor.metronome import Metronome
from hilserl_actor.phases import Lack, Phase
from hilserl_actor.policy_store import PolicyStore
from hilserl_actor.reading import read_observation
from hilserl_actor.resetter import RETRY_S, Resetter
from hilserl_actor.schedule import CounterFile, Counters, Plan
from hilserl_actor.sender import StepSender
from hilserl_actor.settings import ActorParameters
from hilserl_actor.status import result_message, status_message
from hilserl_actor.teleop_topics import TeleopTopics
from hilserl_actor.watch import Watch
from hilserl_core.action import Controller
from hilserl_core.kinematics import Kinematics
from hilserl_core.observation import ObservationError
from hilserl_core.policy import PolicySpec
from hilserl_core.stamps import foreign_stamp, set_back_s
from hilserl_core.synchroniser import Synchroniser
from hilserl_core.timing import Timings
from hilserl_interfaces.msg import EpisodeEvent, EpisodeResult, EpisodeStatus, PolicyParameters, Reward, StepAck, TeleopCommand
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_interfaces.srv import ResetWorld
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, joint_maps, to_ns, to_stamp
from hilserl_ros.images import ImageError
from hilserl_ros.node import BaseNode, StartAgain, main_of
from hilserl_ros.realtime import take_precedence
from so101_description import urdf_path

SCRIPTED = "operator"
"""Source of the events that are a function of the observation they are stamped with."""


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
        pace = Pace(
            ready_ticks=None if params.ready_after_s < 0 else round(params.ready_after_s * task.fps),
            wait_for_person=params.wait_for_person,
            verdict_ticks=round(params.verdict_timeout_s * task.fps),
            hold_ticks=params.hold_ticks,
        )
        self._loop = ControlLoop(task, controller, self._store, plan, counters, pace, params.greedy_every, params.judge)
        self._saved: Counters | None = None
        self._answer: tuple[int, np.ndarray] | None = None  # lockstep: what was answered last
        self._timings = Timings()
        self._owing = False  # real time: this tick has found no new observation yet, and takes the first that comes
        self._begins = False  # real time: the next observation is the first after a reset
        self._known_s = 0.0  # when the newest reward or observation was there [s, system clock]
        self._joints: np.ndarray | None = None
        waits = not params.lockstep and params.judge != PERSON
        reward_timeout_s = params.reward_timeout_s if waits else None
        self._watch = Watch(params.observation_timeout_s, reward_timeout_s, time.monotonic())
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)

        self._teleop = TeleopTopics(
            self, params.teleop_sources, task, self._complain, self._on_teleop, real_time=not params.lockstep
        )
        parts = [*task.cameras, "joints"]  # the first gives the observation's stamp, which the reward carries too
        if params.lockstep:
            parts += [*self._rewards(), *self._teleop.topics]
        self._sync = Synchroniser(parts, 0 if params.lockstep else round(0.5e9 * task.tick_s))
        self._connect()
        client = self.create_client(ResetWorld, "sim/reset") if params.reset == "world" else None
        goal = np.array(task.reset_joints_rad)
        arm = self.create_client(SetBool, "follower/suspend") if params.reset_stops_arm else None
        self._resetter = Resetter(client, goal, self._on_reset, self._complain, arm, params.reset_variation_rad)
        if not params.wait_for_recorder:
            self._follow(self._loop.start())

    def _complain(self, why: str) -> None:
        self.get_logger().error(why, throttle_duration_sec=5.0)

    def _connect(self) -> None:
        params = self.params
        self._command = self.create_publisher(JointTrajectory, "joint_command", qos.recorded(qos.JOINT_COMMAND))
        self._status = self.create_publisher(EpisodeStatus, "episode/status", qos.STATUS)
        self._results = self.create_publisher(EpisodeResult, "episode/result", qos.EPISODE_RESULT)
        image_qos = qos.IMAGE if params.lockstep else qos.newest()
        create = self.create_subscription
        self._parts = {"joints": create(JointState, "joint_states", self._on_joints, qos.JOINT_STATES)}
        for camera in self.task.cameras:
            self._parts[camera] = create(Image, f"{camera}/image_raw", partial(self._on_part, camera), image_qos)
        self._parts |= {part: create(Reward, part, self._on_reward, qos.REWARD) for part in self._rewards()}
        self._parts |= self._teleop.subscriptions
        self.create_subscription(Bool, "estop", self._on_estop, qos.STATUS)
        self.create_subscription(EpisodeEvent, "episode/event", self._on_event, qos.EPISODE_EVENT)
        if params.mode == "train":
            self.create_subscription(StepAck, "steps/ack", self._on_ack, qos.STEPS_ACK)
            self.create_subscription(PolicyParameters, "policy/frozen", self._on_frozen, qos.POLICY)
            self.create_subscription(PolicyParameters, "policy", self._on_policy, qos.POLICY)
        self.create_timer(0.1, self._on_housekeeping, clock=self._steady)
        if not params.lockstep:
            self._metronome = Metronome(self, self.task.tick_s, params.command_delay_s, self._on_tick)
            self.get_logger().info(f"the tick runs with {take_precedence()}")

    def _rewards(self) -> list[str]:
        """Topic of the rewards, none where only the person judges."""
        return [] if self.params.judge == PERSON else ["reward"]

    def _of_now(self, name: str, stamp: Time) -> bool:
        """Whether a stamp can be from the present, said when it cannot. Simulated time is whatever it is."""
        sentence = "" if self.params.lockstep else foreign_stamp(name, to_ns(stamp), self.get_clock().now().nanoseconds)
        if sentence:
            self.get_logger().error(sentence, throttle_duration_sec=5.0)
        return not sentence

    def _on_part(self, part: str, message: object) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if not self._of_now(part, message.header.stamp):
            return
        if not self.params.lockstep and (back_s := set_back_s(stamp_ns, self._sync.used_through)):
            self._hold(f"the system clock was set back by {back_s:.0f} s")
            self._sync.begin_anew()
        if self._answer is not None and part == "joints" and stamp_ns == self._answer[0]:
            self._publish_command(message.header.stamp, self._answer[1])  # it was lost: the simulator repeats itself
        self._sync.add(part, stamp_ns, message)
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
        elif not math.isfinite(message.reward):
            self._complain(f"a reward is {message.reward}: it counts as not having come")
        elif self._of_now("reward", message.header.stamp):
            self._known_s = info["source_timestamp"] * 1e-9
            self._watch.rewarded(time.monotonic())
            self._follow(self._loop.reward(to_ns(message.header.stamp), message.reward, message.success))

    def _on_teleop(self, topic: str, message: TeleopCommand) -> None:
        if self.params.lockstep:
            self._on_part(topic, message)
        else:
            self._of_now(topic, message.header.stamp)  # only said: it counts from its arrival on

    def _on_event(self, event: EpisodeEvent) -> None:
        """A person's word counts from its arrival on; the scripted person's in lockstep by its stamp, so that a run repeats."""
        loop, lockstep = self._loop, self.params.lockstep
        scripted = lockstep and event.source == SCRIPTED
        if not scripted:
            self._of_now("episode/event", event.header.stamp)
        if event.kind in (EpisodeEvent.SUCCESS, EpisodeEvent.FAILURE, EpisodeEvent.RERECORD):
            after_ns = to_ns(event.header.stamp) if scripted else None
            again = event.kind == EpisodeEvent.RERECORD
            self._follow(loop.judge(event.kind == EpisodeEvent.SUCCESS, after_ns, again))
        elif event.kind == EpisodeEvent.READY:
            loop.ready()
        elif event.kind in (EpisodeEvent.PAUSE, EpisodeEvent.STOP):
            self._resetter.cancel()
            self._follow(loop.pause(freeze=lockstep) if event.kind == EpisodeEvent.PAUSE else loop.stop())
        elif event.kind == EpisodeEvent.RESUME:
            self._watch.observed(time.monotonic())
            self._follow(loop.resume())
        if lockstep and not scripted:
            self._advance()

    def _on_estop(self, message: Bool) -> None:
        if message.data is not self._loop.arm_stopped:
            if message.data:
                self._resetter.cancel()
            self._follow(self._loop.stop_arm(message.data))

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
            if self._loop.episode is None:
                self._follow(self._loop.start())
            elif self.params.lockstep:
                self._advance()

    def _on_tick(self) -> None:
        targets = self._resetter.targets()
        if targets is None:
            self._owing = self._loop.takes_observations
            self._advance()
        else:
            self._publish_command(self.get_clock().now().to_msg(), targets)

    def _advance(self) -> None:
        """One tick of the loop, if a complete new observation is there."""
        loop, lockstep = self._loop, self.params.lockstep
        if self._sender.blocked or not loop.takes_observations:
            return
        found = self._sync.newest(self._optional)
        if found is None:
            return
        stamp_ns, parts = found
        self._owing = False
        try:
            observation, joints = read_observation(stamp_ns, parts, self.task, self._kinematics)
            reward = parts.get("reward")
            if reward is not None and not math.isfinite(reward.reward):
                raise ObservationError(f"the reward is {reward.reward}")
        except (ObservationError, ImageError) as error:
            self._sync.use(stamp_ns)
            self._hold(str(error))
            return
        self._watch.observed(time.monotonic())
        self._known_s = time.time()
        if reward is not None:
            loop.reward(stamp_ns, reward.reward, reward.success)
        outcome = loop.observe(observation, joints)
        if not lockstep:
            self._send(outcome)  # there is time until the command goes out
            if self._begins:
                self._metronome.begin()
        self._begins = False
        teleop = self._teleop.choose(stamp_ns, parts, self.params.teleop_timeout_s)
        outcome.joints = loop.act(observation, joints, teleop)
        if outcome.joints is not None or loop.episode is None:
            self._sync.use(stamp_ns)
        self._follow(outcome, stamp_ns)

    @property
    def _optional(self) -> list[str]:
        """The parts of lockstep that nobody needs now: where a person's word ends the episode, or is waited for."""
        if self._loop.verdict_waits:
            return [*self._rewards(), *self._teleop.topics]
        waits = self._loop.phase in (Phase.AWAITING_READY, Phase.AWAITING_VERDICT)
        return list(self._teleop.topics) if waits else []

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
        """The finished steps on their way, and how an episode has ended after its last one."""
        if outcome.steps:
            self._sender.put(outcome.steps)
        took_s = time.time() - self._known_s
        for step in outcome.steps:
            self._timings.add("reward_to_step", took_s, step.sequence)
        outcome.steps = []
        for result in outcome.results:
            self._results.publish(result_message(result))
        outcome.results = []

    def _answer_observation(self, stamp_ns: int, joints: np.ndarray) -> None:
        """The command that answers an observation, unless the episode was ended while it waited to go out."""
        if not self._loop.takes_observations:
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
        self._watch.observed(time.monotonic())
        self._loop.reset_done(self._resetter.goal if stamp_ns is None else None)
        self._publish_status(stamp_ns)
        self._owing = self._begins = True  # the episode's beat begins with its first observation
        if self.params.lockstep:
            self._advance()

    def _hold(self, why: str, lack: Lack = Lack.OBSERVATION) -> None:
        if self._loop.takes_observations:
            self.get_logger().error(f"the arm holds: {why}")
        self._watch.holds(time.monotonic())
        self._follow(self._loop.lost(why, lack))
        if not self.params.lockstep:
            self._sync.begin_anew()  # what comes now may be stamped by a clock that was set

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
        now_s = time.monotonic()
        if silent_s := self._watch.silent_s(loop, now_s):
            lacking = self._sync.lacking()
            self._hold(f"no {', '.join(lacking) or 'observation'} for {silent_s:.1f} s")
            if params.lockstep:
                self._look_for_publishers(lacking)
        elif late_s := self._watch.unrewarded_s(loop, now_s):
            self._hold(f"no reward for {late_s:.1f} s: is what judges (judge is {params.judge}) running?", Lack.REWARD)
        elif lack := self._watch.back(loop, params.lockstep or self._sync.newest() is not None, now_s):
            self._follow(loop.recovered(lack))

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
        self._status.publish(status_message(stamp, self._loop, self._store, self._sender, self._teleop.choice.conflict))

    def close(self) -> None:
        """Everything taken so far is on disk when the node ends."""
        self._sender.close()
        if self._counter_file is not None:
            self._counter_file.close()
            self._timings.save(self._folder / "actor_timings.json")


main = main_of(ActorNode)
