# SPDX-License-Identifier: Apache-2.0
"""The actor's decisions, one tick at a time, without ROS: observation -> policy -> (person) -> clamp -> IK -> command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hilserl_actor.episode import PERSON, End, Episode, EpisodeBuilder, Result, Verdict
from hilserl_actor.motion import is_far
from hilserl_actor.phases import (
    AwaitingPerson,
    AwaitingReady,
    AwaitingVerdict,
    Done,
    Holding,
    Idle,
    Lack,
    NoPolicy,
    Paused,
    Phase,
    Resetting,
    Running,
    State,
)  # fmt: skip
from hilserl_actor.schedule import Counters, Plan
from hilserl_actor.teleop import Teleop
from hilserl_core.action import Controller
from hilserl_core.step import Mode, Observation, Step
from hilserl_core.task import TaskSpec

_STOPPED = "the arm is stopped (reach-grasp estop --clear)"


class Policy(Protocol):
    """Chooses actions. `version` is 0 before the first parameters."""

    version: int

    def ready(self, sequence: int) -> bool:
        """Whether the parameters that step `sequence` must act with are here; applies them when they are."""

    def act(self, observation: Observation, sequence: int, deterministic: bool) -> np.ndarray:
        """An action, (A,) float32 in [-1, 1]."""


@dataclass(frozen=True)
class Pace:
    """Waiting times of the loop for a person, in ticks. ready_ticks: after a reset; None: until the person is ready.

    wait_for_person: a demonstration's clock begins with the person's first active command. verdict_ticks: how long an
    evaluation asks for a verdict when time is over and the person judges; late_ticks: how long demonstrations and training do,
    for a key that comes just too late. hold_ticks: of a demonstration after its success.
    """

    ready_ticks: int | None = 0
    wait_for_person: bool = False
    verdict_ticks: int = 0
    late_ticks: int = 0
    hold_ticks: int = 0


@dataclass
class Outcome:
    """Requests of the loop to its caller: joint targets (J,) rad to publish, finished steps and episodes, a reset's seed."""

    joints: np.ndarray | None = None
    steps: list[Step] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    reset_seed: int | None = None

    def then(self, later: Outcome) -> Outcome:
        """Append `later` to this outcome and return it."""
        self.steps += later.steps
        self.results += later.results
        self.reset_seed = later.reset_seed
        return self


class ControlLoop:
    """Runs the plan episode by episode; docs/episode.md has its phases and what ends an episode in each.

    The caller starts it, answers `reset_seed` with `reset_done`, and then calls `observe` and `act` with every observation.
    `act` returns no joints while the loop waits for parameters it must act with; call both again with the same observation.
    An episode begins with its first observation. One that is ended before is prepared again and counts nowhere.
    """

    def __init__(
        self,
        task: TaskSpec,
        controller: Controller,
        policy: Policy,
        plan: Plan,
        counters: Counters,
        pace: Pace = Pace(),
        greedy_every: int = 0,
        judge: str = "simulation",
        waits_for_judge: bool = False,
    ) -> None:
        """waits_for_judge: no episode begins before a first reward has come, whatever its stamp."""
        self.task = task
        self.controller = controller
        self.policy = policy
        self.plan = plan
        self.counters = counters
        self.pace = pace
        self.greedy_every = greedy_every  # one training episode in so many runs without exploration; 0: none
        self.judge_name = judge
        self._waits_for_judge = waits_for_judge
        self.state: State = Idle()
        self.mode = counters.next_mode(plan) or Mode.TRAINING
        self.seed = 0
        self.arm_stopped = False
        self.last_episode_success = False
        self.intervention = False
        self.dropped = 0  # actions of policy or person that were not finite
        self._hold: np.ndarray | None = None  # joint targets (J,) rad while a person is waited for
        self._asks = pace.ready_ticks is None  # for the person's word before the arm goes to its start
        self._waited_ns: int | None = None  # stamp of the newest observation in which a person was waited for

    # What the caller may ask ------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The phase that the status publishes."""
        return self.state.phase

    @property
    def text(self) -> str:
        """Instruction for the person, or why the arm waits or holds."""
        return self.state.text

    @property
    def episode(self) -> Episode | None:
        """The episode that has begun and not ended, also while it is paused."""
        state = self.state.frozen if isinstance(self.state, Paused) else self.state
        return state.episode if isinstance(state, (Running, AwaitingVerdict)) else None

    @property
    def takes_observations(self) -> bool:
        """Whether `observe` and `act` have a use for the next observation."""
        if isinstance(self.state, Paused):
            return self.verdict_waits
        return isinstance(self.state, (AwaitingReady, AwaitingPerson, Running, AwaitingVerdict))

    @property
    def verdict_waits(self) -> bool:
        """Whether a person has judged and the next observation, whatever it lacks, ends the episode."""
        return self.episode is not None and self.episode.verdict is not None and self.episode.verdict.after_ns is None

    # Between episodes -------------------------------------------------------------------------------------------------

    def start(self) -> Outcome:
        """Begin the next episode, or wait for the first policy, or be done."""
        if isinstance(self.state, (Paused, Done)):
            return Outcome()
        if self.arm_stopped:
            self.state = Holding("the arm is stopped", Lack.CLEARANCE, self._asks)
            return Outcome()
        mode = self.counters.next_mode(self.plan)
        if mode is None:
            self.state = Done(self.counters.summary(self.plan))
            return Outcome()
        self.mode = mode
        if mode is not Mode.DEMONSTRATION and not self.policy.ready(self.counters.sequence + 1):
            self._asks = self.pace.ready_ticks is None
            self.state = NoPolicy(self._asks)
            return Outcome()
        if self._waits_for_judge:
            why = f"no image has been judged yet: the {self.judge_name} is starting or not running"
            self.state = Holding(why, Lack.REWARD, self._asks)
            return Outcome()
        if self._asks:
            self._hold = None
            self.state = AwaitingReady(None, moves=True)
            return Outcome()
        self.seed = self.counters.next_seed(self.plan, mode)
        self.state = Resetting()
        return Outcome(reset_seed=self.seed)

    def reset_waits(self, why: str) -> None:
        """Note why the reset cannot go on yet; '' when it can."""
        if isinstance(self.state, Resetting):
            self.state.why = why

    def reset_done(self, targets: np.ndarray | None = None) -> None:
        """Go on after a reset. targets: (J,) rad, the pose that the arm is told to hold; None: its joints as measured."""
        if isinstance(self.state, Resetting):
            self._hold = None if targets is None else targets.copy()
            self.state = self._prepared() if self.pace.ready_ticks == 0 else AwaitingReady(self.pace.ready_ticks)

    def ready(self) -> None:
        """Note that the person is ready: the episode may begin."""
        if isinstance(self.state, AwaitingReady):
            self.state.ready = True

    def _prepared(self) -> AwaitingPerson | Running:
        waits = self.pace.wait_for_person and self.mode is Mode.DEMONSTRATION
        return AwaitingPerson() if waits else self._begun()

    def _begun(self) -> Running:
        counters = self.counters
        by_person = self.judge_name == PERSON
        builder = EpisodeBuilder(
            self.task, counters.run_id, self.mode, counters.episode, counters.sequence + 1,
            hold_ticks=self.pace.hold_ticks if self.mode is Mode.DEMONSTRATION else 0,
            unrewarded=by_person, asks=by_person and self._ask_ticks > 0,
        )  # fmt: skip
        return Running(Episode(builder, self.seed, self.judge_name))

    @property
    def _ask_ticks(self) -> int:
        """Ticks for which the person is asked for a verdict when time is over."""
        return self.pace.verdict_ticks if self.mode is Mode.EVALUATION else self.pace.late_ticks

    # What ends an episode, or its preparation ---------------------------------------------------------------------------

    def reward(self, stamp_ns: int, reward: float, success: bool) -> Outcome:
        """Take a reward that has come; in real time it may finish steps, or the episode."""
        self._waits_for_judge = False
        if self.episode is None:
            return Outcome()
        self.episode.builder.reward(stamp_ns, reward, success)
        if self.episode.verdict is not None:
            return Outcome()  # the person's verdict came first
        return self._collect()

    def judge(self, success: bool, after_ns: int | None = None, again: bool = False) -> Outcome:
        """Take the person's verdict. again: the episode is repeated.

        after_ns: the verdict takes effect at the first observation after this stamp; None: at the next one, whatever its stamp.
        When time is over it takes effect at once. Between reset and episode, failure and again start the reset anew.
        """
        if self.episode is not None:
            self.episode.say(Verdict(success, after_ns, again))
            return self._collect() if self.episode.builder.time_over else Outcome()
        if isinstance(self.state, (AwaitingReady, AwaitingPerson)):
            if not success:
                return self.start()
            self.state.note = "no success yet: the episode has not begun; "
        return Outcome()

    def pause(self, freeze: bool = False) -> Outcome:
        """Hold. freeze: time stands still and the episode goes on afterwards; else the episode ends here without a verdict."""
        if isinstance(self.state, (Paused, Done)):
            return Outcome()
        if freeze and self.takes_observations:
            self.state = Paused(self.state)
            return Outcome()
        why = "the episode has ended without a verdict" if self.episode is not None else ""
        outcome = self._cut(End.STOP, "paused by the person")
        self.state = Paused(why=why)
        return outcome

    def resume(self) -> Outcome:
        """Go on with the episode that was frozen, else with a new one."""
        if not isinstance(self.state, Paused):
            return Outcome()
        if self.state.frozen is not None:
            self.state = self.state.frozen
            return Outcome()
        self.state = Idle()
        return self.start()

    def stop(self) -> Outcome:
        """End the episode without a verdict, and the run."""
        outcome = self._cut(End.STOP, "the run was ended by the person")
        self.state = Done("stopped by the person")
        return outcome

    def stop_arm(self, stopped: bool) -> Outcome:
        """Take a change of the emergency stop. stopped: latched; else it was cleared, and a new episode begins."""
        self.arm_stopped = stopped
        if not stopped:
            if isinstance(self.state, Paused) and self.state.why == _STOPPED:
                self.state.why = "the emergency stop is cleared"
            return self.recovered(Lack.CLEARANCE)
        outcome = self._cut(End.STOP, "emergency stop")
        if isinstance(self.state, Paused):
            self.state = Paused(why=_STOPPED)
        elif not isinstance(self.state, (Done, Idle)):
            self.state = Holding("the arm is stopped", Lack.CLEARANCE, self._asks)
        return outcome

    def lost(self, why: str, lack: Lack = Lack.OBSERVATION) -> Outcome:
        """An observation or a reward is missing or unusable: end the episode, command nothing, and hold until it is back."""
        if not isinstance(self.state, (AwaitingReady, AwaitingPerson, Running, AwaitingVerdict)):
            return Outcome()
        outcome = self._cut(End.LOST, why)
        self._asks = self.pace.ready_ticks is None
        self.state = Holding(why, lack, self._asks)
        return outcome

    def recovered(self, lack: Lack = Lack.OBSERVATION) -> Outcome:
        """Begin a new episode, if the arm holds because of `lack`, which is over now."""
        if not isinstance(self.state, Holding) or self.state.lack is not lack:
            return Outcome()
        self.state = Idle()
        return self.start()

    # One tick ---------------------------------------------------------------------------------------------------------

    def observe(self, observation: Observation, joints: np.ndarray) -> Outcome:
        """Take one observation, which may finish steps, or the episode; `act` comes next. joints: (J,) rad as measured."""
        if isinstance(self.state, AwaitingReady) and self.state.moves and self.state.ready:
            self._asks = False
            return self.start()
        if isinstance(self.state, AwaitingVerdict):
            if self._waited(observation.stamp_ns):
                self.state.ticks_left -= 1
            if self.state.ticks_left <= 0:
                self.state.episode.builder.give_up_asking()
            return self._collect()
        if self.episode is None:
            return Outcome()
        self._take(self.episode, observation, joints)
        outcome = self._collect()
        running = isinstance(self.state, Running) and self.mode is Mode.TRAINING
        if running and self.counters.training_steps >= self.plan.training_steps:
            outcome.then(self._cut(End.STOP, "all training steps are taken")).then(self.start())
        return outcome

    def act(self, observation: Observation, joints: np.ndarray, teleop: Teleop | None) -> np.ndarray | None:
        """Joint targets (J,) rad after acting in the newest observation, None when there is nothing to do or not yet.

        teleop: the person's command for it, None when nobody is there.
        """
        self._await_person(observation, joints, teleop)
        if isinstance(self.state, (AwaitingReady, AwaitingPerson)):
            return self._hold
        if isinstance(self.state, AwaitingVerdict):
            return self.controller.hold()
        if not isinstance(self.state, Running):
            return None
        builder = self.state.episode.builder
        if builder.index < 0:
            return self._hold
        if builder.time_over:  # only its reward is still to come, or the end of the hold after success
            builder.act(np.zeros(self.task.action_size, np.float32), False, self.policy.version)
            return self.controller.hold()
        action = self._choose(self.state, observation, joints, teleop)
        if action is None:
            return None
        command = self.controller.command(action, joints)
        builder.act(command.action, self.intervention, self.policy.version)
        return command.joints

    def _await_person(self, observation: Observation, joints: np.ndarray, teleop: Teleop | None) -> None:
        """Begin the episode in this observation when the person is ready and, in a demonstration, drives."""
        if not isinstance(self.state, (AwaitingReady, AwaitingPerson)):
            return
        if self._hold is None or is_far(joints, self._hold):  # a limp arm must not leap back once it has torque again
            self._hold = np.array(joints, float)
        active = teleop is not None and teleop.active and bool(np.isfinite(teleop.action).all())  # NaN is nobody's hand
        if isinstance(self.state, AwaitingReady):
            if self._waited(observation.stamp_ns) and self.state.tick(active) and not self.state.moves:
                self.state = self._prepared()  # from the next observation on, which every source of teleop answers
        elif active:
            self.state = self._begun()
            self._take(self.state.episode, observation, joints)

    def _waited(self, stamp_ns: int) -> bool:
        """Whether this observation is new, so that it counts as one tick of waiting."""
        before, self._waited_ns = self._waited_ns, stamp_ns
        return before != stamp_ns

    def _take(self, episode: Episode, observation: Observation, joints: np.ndarray) -> None:
        if episode.observe(observation) and episode.builder.index == 0:
            self.controller.latch(joints)
            self._hold = None

    def _choose(
        self, running: Running, observation: Observation, joints: np.ndarray, teleop: Teleop | None
    ) -> np.ndarray | None:
        """The person's action, else the policy's; None when the policy's parameters for this step are not here yet."""
        episode = running.episode
        person = teleop is not None and teleop.active and self.mode is not Mode.EVALUATION
        sequence = episode.builder.acting_sequence
        ready = self.mode is Mode.DEMONSTRATION or self.policy.ready(sequence)
        if not ready and not self.verdict_waits:
            running.lacks_policy = sequence
            return None
        running.lacks_policy = None
        if person:
            action = teleop.action
        elif self.mode is Mode.DEMONSTRATION or not ready:
            action = np.zeros(self.task.action_size, np.float32)
        else:
            action = self.policy.act(observation, sequence, deterministic=self._greedy)
        self.intervention = person or self.mode is Mode.DEMONSTRATION
        if episode.person_drove != person:
            self.controller.latch_position(joints)
            episode.person_drove = person
        if not np.isfinite(action).all():
            self.dropped += 1
            action = np.zeros(self.task.action_size, np.float32)
        return action

    @property
    def _greedy(self) -> bool:
        """Whether the policy acts with its mean: no other training episode shows where the mean action comes to rest."""
        return self.mode is Mode.EVALUATION or (self.greedy_every > 0 and self.seed % self.greedy_every == 0)

    # Steps and counters -----------------------------------------------------------------------------------------------

    def _collect(self) -> Outcome:
        """Hand out what is complete; begin the next episode when this one has ended."""
        episode = self.episode
        outcome = Outcome(steps=self._counted(episode.builder.advance()))
        if episode.builder.ended:
            outcome.results.append(self._count(episode.result(End.TIME_OUT, "")))
            self.state = Paused(why="the episode has ended") if isinstance(self.state, Paused) else Idle()
            outcome.reset_seed = self.start().reset_seed
        elif isinstance(self.state, Running) and episode.builder.awaits_verdict:
            self.state = AwaitingVerdict(episode, self._ask_ticks)
        return outcome

    def _cut(self, end: End, why: str) -> Outcome:
        """End the episode that has begun, if any. The caller decides what comes next."""
        episode = self.episode
        if episode is None or episode.builder.index < 0:
            return Outcome()
        steps = self._counted(episode.cut())
        return Outcome(steps=steps, results=[self._count(episode.result(end, why))])

    def _count(self, result: Result) -> Result:
        self.last_episode_success = result.success
        self.counters = self.counters.after_episode(
            result.mode, result.success, counts=result.end is not End.RERECORD, judged=bool(result.judge)
        )
        return result

    def _counted(self, steps: list[Step]) -> list[Step]:
        for step in steps:
            self.counters = self.counters.after_step(step.sequence, step.mode, step.action is not None, step.intervention)
        return steps
