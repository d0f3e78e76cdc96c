# SPDX-License-Identifier: Apache-2.0
"""The actor's decisions, one tick at a time, without ROS: observation -> policy -> (person) -> clamp -> IK -> command."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np

from hilserl_actor.episode import EpisodeBuilder
from hilserl_actor.schedule import Counters, Plan
from hilserl_actor.teleop import Teleop
from hilserl_core.action import Controller
from hilserl_core.step import Mode, Observation, Step
from hilserl_core.task import TaskSpec


class Phase(IntEnum):
    """As in hilserl_interfaces/EpisodeStatus."""

    IDLE = 0
    RESETTING = 1
    RUNNING = 2
    PAUSED = 3
    WAITING = 4
    DONE = 5
    HOLDING = 6


class Policy(Protocol):
    """What chooses actions. `version` is 0 before the first parameters."""

    version: int

    def ready(self, sequence: int) -> bool:
        """Whether the parameters that step `sequence` must act with are here; applies them when they are."""

    def act(self, observation: Observation, sequence: int, deterministic: bool) -> np.ndarray:
        """An action, (A,) float32 in [-1, 1]."""


@dataclass
class Outcome:
    """What a call of the loop asks for: joint targets (J,) to publish, finished steps, a reset of the world."""

    joints: np.ndarray | None = None
    steps: list[Step] = field(default_factory=list)
    reset_seed: int | None = None


class ControlLoop:
    """Runs the plan episode by episode.

    The caller starts it, answers `reset_seed` with `reset_done`, and then calls `observe` and `act` with every observation.
    `act` returns no joints while the loop waits for parameters it must act with; call both again with the same observation.
    """

    def __init__(
        self,
        task: TaskSpec,
        controller: Controller,
        policy: Policy,
        plan: Plan,
        counters: Counters,
        hold_ticks: int = 0,
        greedy_every: int = 0,
    ) -> None:
        self.task = task
        self.controller = controller
        self.policy = policy
        self.plan = plan
        self.counters = counters
        self.hold_ticks = hold_ticks  # of demonstrations
        self.greedy_every = greedy_every  # so many training episodes one without exploration; 0: none
        self.phase = Phase.IDLE
        self.text = ""
        self.mode = counters.next_mode(plan) or Mode.TRAINING
        self.seed = 0
        self.builder: EpisodeBuilder | None = None
        self.last_episode_success = False
        self.intervention = False
        self.dropped = 0  # actions of policy or person that were not finite
        self._observed: int | None = None
        self._person_drove = False
        self._verdict: tuple[bool, int] | None = None
        self._said: bool | None = None  # the verdict that counts so far in this episode
        self._repeat = False

    def start(self) -> Outcome:
        """Begin the next episode, or wait for the first policy, or be done."""
        if self.phase in (Phase.PAUSED, Phase.DONE):
            return Outcome()
        mode = self.counters.next_mode(self.plan)
        if mode is None:
            self.phase, self.text = Phase.DONE, "everything asked for has been done"
            return Outcome()
        self.mode = mode
        if mode is not Mode.DEMONSTRATION and not self.policy.ready(self.counters.sequence + 1):
            self.phase, self.text = Phase.WAITING, "waiting for the first policy"
            return Outcome()
        self.phase, self.text = Phase.RESETTING, ""
        self.seed = self.counters.next_seed(self.plan, mode)
        hold_ticks = self.hold_ticks if mode is Mode.DEMONSTRATION else 0
        run_id, episode, sequence = self.counters.run_id, self.counters.episode, self.counters.sequence + 1
        self.builder = EpisodeBuilder(self.task, run_id, mode, episode, sequence, hold_ticks)
        self._observed, self._verdict, self._said, self._repeat, self._person_drove = None, None, None, False, False
        return Outcome(reset_seed=self.seed)

    def reset_done(self) -> None:
        """The world is in its start state: the next observation is the first of the episode."""
        if self.phase is Phase.RESETTING:
            self.phase = Phase.RUNNING

    def reward(self, stamp_ns: int, reward: float, success: bool) -> Outcome:
        """A reward has come; in real time it may finish steps, or the episode."""
        if not self.in_episode:
            return Outcome()
        self.builder.reward(stamp_ns, reward, success)
        return self._collect()

    def judge(self, success: bool, stamp_ns: int, again: bool = False) -> None:
        """The person's verdict, effective at the first observation after `stamp_ns`. again: the episode is repeated.

        A verdict acts once, however often a key that is held says it.
        """
        if self.in_episode and self._verdict is None and success is not self._said:
            self._verdict, self._repeat = (success, stamp_ns), again

    def pause(self) -> Outcome:
        """Hold; the episode ends here without a verdict."""
        if self.phase in (Phase.PAUSED, Phase.DONE):
            return Outcome()
        outcome = self._truncate()
        self.phase, self.text = Phase.PAUSED, "paused by the person"
        return outcome

    def resume(self) -> Outcome:
        """Go on with a new episode."""
        if self.phase is not Phase.PAUSED:
            return Outcome()
        self.phase = Phase.IDLE
        return self.start()

    def stop(self) -> Outcome:
        """End the episode without a verdict, and the run."""
        outcome = self._truncate()
        self.phase, self.text = Phase.DONE, "stopped by the person"
        return outcome

    def lost(self, why: str) -> Outcome:
        """An observation is missing or unusable: end the episode at the last good one and hold until observations are back."""
        if not self.in_episode or self.phase is Phase.HOLDING:
            return Outcome()
        outcome = self._truncate()
        outcome.joints = self.controller.hold()
        self.phase, self.text = Phase.HOLDING, why
        return outcome

    def recovered(self) -> Outcome:
        """Observations are good again: a new episode begins."""
        if self.phase is not Phase.HOLDING:
            return Outcome()
        self.phase = Phase.IDLE
        return self.start()

    @property
    def in_episode(self) -> bool:
        """Whether an episode has begun and not ended."""
        return self.builder is not None and self.phase in (Phase.RUNNING, Phase.WAITING)

    def observe(self, observation: Observation, joints: np.ndarray) -> Outcome:
        """One observation, which may finish steps, or the episode; `act` comes next. joints: (J,) rad as measured."""
        if not self.in_episode:
            return Outcome()
        if self._observed != observation.stamp_ns:
            self._observed = observation.stamp_ns
            self.builder.observe(observation)
            if self.builder.index == 0:
                self.controller.latch(joints)
            if self._verdict is not None and observation.stamp_ns > self._verdict[1] and self.builder.index > 0:
                self.builder.judge(self._verdict[0])
                self._verdict, self._said = None, self._verdict[0]
        outcome = self._collect()
        if self.in_episode and self.mode is Mode.TRAINING and self.counters.training_steps >= self.plan.training_steps:
            outcome.steps += self._truncate().steps
            self.start()
        return outcome

    def act(self, observation: Observation, joints: np.ndarray, teleop: Teleop | None) -> np.ndarray | None:
        """Joint targets (J,) rad after acting in the newest observation, None when there is nothing to do or not yet.

        teleop: the person's command for it, None when nobody is there.
        """
        if not self.in_episode:
            return None
        if self.builder.index >= self.builder.last_index:
            return self.controller.hold()  # the last observation: only its reward is still to come
        action = self._choose(observation, joints, teleop)
        if action is None:
            return None
        command = self.controller.command(action, joints)
        self.builder.act(command.action, self.intervention, self.policy.version)
        return command.joints

    def _choose(self, observation: Observation, joints: np.ndarray, teleop: Teleop | None) -> np.ndarray | None:
        """The person's action, else the policy's; None when the policy's parameters for this step are not here yet."""
        person = teleop is not None and teleop.active and self.mode is not Mode.EVALUATION
        sequence = self.builder.acting_sequence
        if self.mode is not Mode.DEMONSTRATION and not self.policy.ready(sequence):
            self.phase, self.text = Phase.WAITING, f"waiting for the policy of step {sequence}"
            return None
        self.phase, self.text = Phase.RUNNING, ""
        if person:
            action = teleop.action
        elif self.mode is Mode.DEMONSTRATION:
            action = np.zeros(self.task.action_size, np.float32)
        else:
            action = self.policy.act(observation, sequence, deterministic=self._greedy)
        self.intervention = person or self.mode is Mode.DEMONSTRATION
        if self._person_drove != person:
            self.controller.latch_position(joints)
            self._person_drove = person
        if not np.isfinite(action).all():
            self.dropped += 1
            action = np.zeros(self.task.action_size, np.float32)
        return action

    @property
    def _greedy(self) -> bool:
        """Whether the policy acts with its mean: where that comes to rest is seen in no other training episode."""
        return self.mode is Mode.EVALUATION or (self.greedy_every > 0 and self.seed % self.greedy_every == 0)

    def _collect(self) -> Outcome:
        """Hand out what is complete; begin the next episode when this one has ended."""
        outcome = Outcome(steps=self._counted(self.builder.advance()))
        if self.builder.ended:
            self._finish()
            outcome.reset_seed = self.start().reset_seed
        return outcome

    def _truncate(self) -> Outcome:
        """End the running episode without a verdict."""
        if not self.in_episode:
            return Outcome()
        outcome = Outcome(steps=self._counted(self.builder.truncate()))
        self._finish()
        return outcome

    def _finish(self) -> None:
        """Count the finished episode."""
        self.last_episode_success = self.builder.success
        self.counters = self.counters.after_episode(self.mode, self.builder.success, counts=not self._repeat)
        self.builder = None
        self.phase = Phase.IDLE

    def _counted(self, steps: list[Step]) -> list[Step]:
        for step in steps:
            self.counters = self.counters.after_step(step.sequence, step.mode, step.action is not None, step.intervention)
        return steps
