# SPDX-License-Identifier: Apache-2.0
"""Turns observations, actions and late rewards of one episode into numbered steps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from hilserl_core.step import Mode, Observation, Step
from hilserl_core.task import TaskSpec


@dataclass
class _Tick:
    observation: Observation
    index: int
    action: np.ndarray | None = None
    intervention: bool = False
    policy_version: int = 0


class EpisodeBuilder:
    """The reward of step k is the one of the image of observation k + 1, so a step is complete when that has come.

    Call `observe` for each observation, `act` for the action taken in it, `reward` whenever one arrives, and take the
    complete steps from `advance`. In lockstep the reward is there at once; in real time it may come a tick later, and an
    action already taken after a success is dropped from the record. hold_ticks: the episode goes on for so many ticks after
    the first success.
    """

    def __init__(self, task: TaskSpec, run_id: str, mode: Mode, episode: int, next_sequence: int, hold_ticks: int = 0) -> None:
        self.task = task
        self.run_id = run_id
        self.mode = mode
        self.episode = episode
        self.next_sequence = next_sequence
        self.hold_ticks = hold_ticks
        self.ended = False
        self.terminal = False
        self.success = False
        self.return_ = 0.0
        self.actions = 0  # steps with an action that have been handed out
        self.interventions = 0
        self._ticks: deque[_Tick] = deque()
        self._rewards: dict[int, tuple[float, bool]] = {}
        self._verdict: bool | None = None  # the person's, True is success
        self._since_success = 0  # steps from the first success on

    @property
    def index(self) -> int:
        """Index of the newest observation, -1 before the first."""
        return self._ticks[-1].index if self._ticks else -1

    @property
    def last_index(self) -> int:
        """Index of the observation at which time is over; what is held after success does not count."""
        return self.task.max_ticks + (self.hold_ticks if self._since_success else 0)

    @property
    def acting_sequence(self) -> int:
        """The sequence number of the step that the newest observation belongs to."""
        return self.next_sequence + len(self._ticks) - 1

    @property
    def waiting_since_ns(self) -> int | None:
        """Stamp of the observation whose reward is lacking, None when none is."""
        return self._ticks[1].observation.stamp_ns if len(self._ticks) > 1 else None

    def observe(self, observation: Observation) -> None:
        """The next observation of the episode."""
        self._ticks.append(_Tick(observation, self.index + 1))

    def act(self, action: np.ndarray, intervention: bool, policy_version: int) -> None:
        """The action, (A,) float32, that is carried out in the newest observation."""
        tick = self._ticks[-1]
        tick.action, tick.intervention, tick.policy_version = action, intervention, policy_version

    def reward(self, stamp_ns: int, reward: float, success: bool) -> None:
        """What the image with this stamp was worth."""
        self._rewards[stamp_ns] = (reward, success)

    def judge(self, success: bool) -> None:
        """The person's verdict: the newest observation ends the episode."""
        self._verdict = success

    def advance(self) -> list[Step]:
        """The steps that are complete now, in order. Ends the episode on success, verdict or time-out."""
        steps: list[Step] = []
        while len(self._ticks) > 1 and not self.ended:
            following = self._ticks[1].observation.stamp_ns
            judged = self._verdict is not None and len(self._ticks) == 2
            if judged:
                reward, success = (self.task.success_reward if self._verdict else 0.0), self._verdict
            elif following in self._rewards:
                reward, success = self._rewards.pop(following)
            else:
                break
            tick = self._ticks.popleft()
            self.return_ += reward
            self.success = success if judged else self.success or success
            if self.success and (self.task.terminate_on_success or judged or self._since_success):
                self._since_success += 1
            self.actions += 1
            self.interventions += tick.intervention
            steps.append(self._step(tick, reward=reward, success=success))
            if judged and success and self.hold_ticks:
                judged, self._verdict = False, None  # the person's word for success; the rest of the episode is still to come
            if self._since_success > self.hold_ticks or judged:
                steps.append(self._last(terminal=True))
            elif self._ticks[0].index >= self.last_index:
                steps.append(self._last(terminal=False))
        return steps

    def truncate(self) -> list[Step]:
        """End here, without a verdict: later observations bootstrap from the last one whose reward is known."""
        return [self._last(terminal=False)] if self._ticks and not self.ended else []

    def _last(self, terminal: bool) -> Step:
        tick = self._ticks[0]
        self._ticks.clear()
        tick.action, tick.intervention = None, False
        self.ended, self.terminal = True, terminal
        return self._step(tick, is_last=True, terminal=terminal)

    def _step(
        self,
        tick: _Tick,
        reward: float | None = None,
        success: bool = False,
        is_last: bool = False,
        terminal: bool = False,
    ) -> Step:
        step = Step(
            run_id=self.run_id,
            sequence=self.next_sequence,
            episode=self.episode,
            index=tick.index,
            mode=self.mode,
            stamp_ns=tick.observation.stamp_ns,
            is_first=tick.index == 0,
            is_last=is_last,
            is_terminal=terminal,
            state=tick.observation.state,
            images=tick.observation.images,
            action=tick.action,
            reward=reward,
            intervention=tick.intervention,
            success=success or (is_last and self.success),
            policy_version=tick.policy_version,
        )
        self.next_sequence += 1
        return step
