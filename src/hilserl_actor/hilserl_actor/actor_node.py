# SPDX-License-Identifier: Apache-2.0
"""The actor: topics in, `joint_command` and `steps` out. Decisions are in control_loop.py."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Bool
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from hilserl_actor.control_loop import ControlLoop, Outcome
from hilserl_actor.episode import CLASSIFIER
from hilserl_actor.intake import Intake
from hilserl_actor.metronome import Metronome
from hilserl_actor.phases import Lack, Phase
from hilserl_actor.policy_store import PolicyStore
from hilserl_actor.resetter import RETRY_S, Resetter
from hilserl_actor.schedule import CounterFile, Counters, Plan
from hilserl_actor.sender import StepSender
from hilserl_actor.settings import ActorParameters
from hilserl_actor.status import result_message, status_message
from hilserl_actor.watch import Watch
from hilserl_core.action import Controller
from hilserl_core.kinematics import Kinematics
from hilserl_core.observation import ObservationError
from hilserl_core.policy import PolicySpec
from hilserl_core.timing import Timings
from hilserl_interfaces.msg import EpisodeEvent, EpisodeResult, EpisodeStatus, PolicyParameters, Reward, StepAck
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_interfaces.srv import ResetWorld
from hilserl_ros import qos
from hilserl_ros.convert import joint_command, to_ns, to_stamp
from hilserl_ros.images import ImageError
from hilserl_ros.node import BaseNode, StartAgain, main_of
from hilserl_ros.realtime import take_precedence
from so101_description import urdf_path

SCRIPTED = "operator"
"""Source of the events that the scripted person derives from the observation whose stamp they carry."""


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
        kinematics = Kinematics(urdf_path(), task.joints)
        controller = Controller(task, kinematics, params.max_lag_m)
        pace = params.pace(task.fps)
        waits = params.judge == CLASSIFIER and not params.lockstep  # the classifier loads for seconds
        self._loop = ControlLoop(task, controller, self._store, plan, counters, pace, params.greedy_every, params.judge, waits)
        self._saved: Counters | None = None
        self._answer: tuple[int, np.ndarray] | None = None  # lockstep: what was answered last
        self._timings = Timings()
        self._owing = False  # real time: this tick has found no new observation yet, and takes the first that comes
        self._begins = False  # real time: the next observation is the first after a reset
        self._known_s = 0.0  # when the newest reward or observation was there [s, system clock]
        self._watch = Watch(params.observation_timeout_s, params.longest_without_reward_s, time.monotonic())
        self._intake = Intake(self, task, params, kinematics, self._on_part, self._on_reward, self._hold)
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
        self.create_subscription(Bool, "estop", self._on_estop, qos.STATUS)
        self.create_subscription(EpisodeEvent, "episode/event", self._on_event, qos.EPISODE_EVENT)
        if params.mode == "train":
            self.create_subscription(StepAck, "steps/ack", self._on_ack, qos.STEPS_ACK)
            self.create_subscription(PolicyParameters, "policy/frozen", self._on_frozen, qos.POLICY)
            self.create_subscription(PolicyParameters, "policy", self._on_policy, qos.POLICY)
        self.create_timer(0.1, self._on_housekeeping, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if not params.lockstep:
            self._metronome = Metronome(self, self.task.tick_s, params.command_delay_s, self._on_tick)
            self.get_logger().info(f"the tick runs with {take_precedence()}")

    def _on_part(self, part: str, stamp_ns: int) -> None:
        if self._answer is not None and part == "joints" and stamp_ns == self._answer[0]:
            self._publish_command(to_stamp(stamp_ns), self._answer[1])  # the command was lost: the simulator asks again
        if self.params.lockstep or self._owing:
            self._advance()

    def _on_reward(self, message: Reward, published_s: float) -> None:
        self._known_s = published_s
        self._watch.rewarded(time.monotonic())
        self._follow(self._loop.reward(to_ns(message.header.stamp), message.reward, message.success))

    def _on_event(self, event: EpisodeEvent) -> None:
        """Take a person's event. It counts on arrival; in lockstep the scripted person's by its stamp, so that runs repeat."""
        loop, lockstep = self._loop, self.params.lockstep
        scripted = lockstep and event.source == SCRIPTED
        if not scripted:
            self._intake.of_now("episode/event", event.header.stamp)
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
        try:
            instant = self._intake.newest(loop.verdict_waits, loop.phase in (Phase.AWAITING_READY, Phase.AWAITING_VERDICT))
        except (ObservationError, ImageError) as error:
            self._owing = False
            self._hold(str(error))
            return
        if instant is None:
            return
        self._owing = False
        self._watch.observed(time.monotonic())
        self._known_s = time.time()
        stamp_ns, reward = instant.stamp_ns, instant.reward
        if reward is not None:
            loop.reward(stamp_ns, reward.reward, reward.success)
        outcome = loop.observe(instant.observation, instant.joints)
        if not lockstep:
            self._send(outcome)  # there is time until the command goes out
            if self._begins:
                self._metronome.begin()
        self._begins = False
        teleop = self._intake.teleop.choose(stamp_ns, instant.parts, self.params.teleop_timeout_s)
        outcome.joints = loop.act(instant.observation, instant.joints, teleop)
        if outcome.joints is not None or loop.episode is None:
            self._intake.sync.use(stamp_ns)
        self._follow(outcome, stamp_ns)

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
            self._resetter.poll(self._intake.joints, self.params.reset_duration_s)

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
        self._intake.sync.use(self._intake.sync.latest if stamp_ns is None else stamp_ns - 1)
        self._loop.reset_done(self._resetter.goal if stamp_ns is None else None)
        self._publish_status(stamp_ns)
        self._owing = self._begins = True  # the episode's ticks begin with its first observation
        if self.params.lockstep:
            self._advance()

    def _hold(self, why: str, lack: Lack = Lack.OBSERVATION) -> None:
        if self._loop.takes_observations:
            self.get_logger().error(f"the arm holds: {why}")
        self._watch.holds(time.monotonic())
        self._follow(self._loop.lost(why, lack))
        if not self.params.lockstep:
            self._intake.sync.begin_anew()  # new messages may be stamped by a clock that was set

    def _on_housekeeping(self) -> None:
        """Ten times a second: resend, retry a reset, notice what is missing."""
        params, loop = self.params, self._loop
        if loop.phase is Phase.IDLE and self._recorded():
            self._follow(loop.start())
        self._sender.flush()
        self._resetter.poll(self._intake.joints, params.reset_duration_s)
        if params.lockstep and self._resetter.unseen_s > params.observation_timeout_s + RETRY_S:
            raise StartAgain("the service that resets the world is not seen")
        loop.reset_waits(self._resetter.why)
        now_s = time.monotonic()
        if self._watch.status_due(loop, now_s):
            self._publish_status(None)  # acknowledgements go on while nothing else happens
        if silent_s := self._watch.silent_s(loop, now_s):
            lacking = self._intake.sync.lacking()
            self._hold(f"no {', '.join(lacking) or 'observation'} for {silent_s:.1f} s")
            if params.lockstep:
                self._intake.look_for_publishers(lacking)
        elif late_s := self._watch.unrewarded_s(loop, now_s):
            self._hold(f"no reward for {late_s:.1f} s: is the judge ({params.judge}) running?", Lack.REWARD)
        elif lack := self._watch.back(loop, params.lockstep or self._intake.sync.newest() is not None, now_s):
            self._follow(loop.recovered(lack))

    def _recorded(self) -> bool:
        """Whether the recorder is there."""
        return any(info.node_name == "recorder" for info in self.get_subscriptions_info_by_topic(self._steps.topic_name))

    def _publish_status(self, stamp_ns: int | None) -> None:
        self._watch.told(time.monotonic())
        stamp = self.get_clock().now().to_msg() if stamp_ns is None else to_stamp(stamp_ns)
        self._status.publish(status_message(stamp, self._loop, self._store, self._sender, self._intake.teleop.choice.conflict))

    def close(self) -> None:
        """Everything taken so far is on disk when the node ends."""
        self._sender.close()
        if self._counter_file is not None:
            self._counter_file.close()
            self._timings.save(self._folder / "actor_timings.json")


main = main_of(ActorNode)
