# SPDX-License-Identifier: Apache-2.0
"""An episode: its numbered steps from observations, actions and late rewards, and who judged it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from hilserl_core.step import Mode, Observation, Step
from hilserl_core.task import TaskSpec

PERSON, CLASSIFIER = "person", "classifier"
JUDGES = (PERSON, CLASSIFIER, "simulation")
_KEPT_REWARDS = 256
LATE_TICKS = 2
"""When a judge skips an image, a reward at most this many ticks later stands for it; else the reward is missing."""


class End(IntEnum):
    """Cause of an episode's end, as in hilserl_interfaces/EpisodeResult."""

    SUCCESS = 0
    FAILURE = 1
    RERECORD = 2
    TIME_OUT = 3
    STOP = 4
    LOST = 5


@dataclass(frozen=True)
class Verdict:
    """A person's verdict. after_ns: it takes effect at the first observation after this stamp; None: at the next one.

    again: the episode is to be repeated.
    """

    success: bool
    after_ns: int | None = None
    again: bool = False


@dataclass(frozen=True)
class Result:
    """Result of an episode; fields as in hilserl_interfaces/EpisodeResult."""

    stamp_ns: int
    run_id: str
    episode: int
    mode: Mode
    seed: int
    end: End
    success: bool
    judge: str
    ticks: int
    interventions: int
    policy_version: int
    episode_return: float
    text: str


@dataclass
class _Tick:
    observation: Observation
    index: int
    action: np.ndarray | None = None
    intervention: bool = False
    policy_version: int = 0


class EpisodeBuilder:
    """Makes numbered steps. The reward of step k is that of the image of observation k + 1; with it the step is complete.

    Call `observe` for each observation, `act` for the action taken in it, `reward` whenever one arrives, and take the
    complete steps from `advance`. In lockstep the reward is there at once; in real time it may come a tick later, and an
    action already taken after a success is dropped from the record. A judge goes through the images in their order: one
    that was busy and skipped an image has its next reward counted instead.

    hold_ticks: the episode goes on for so many ticks after the first success. unrewarded: a person judges, and each reward is 0
    until the verdict. asks: when time is over the last step is kept back until `judge` or `give_up_asking`.
    """

    def __init__(
        self,
        task: TaskSpec,
        run_id: str,
        mode: Mode,
        episode: int,
        next_sequence: int,
        hold_ticks: int = 0,
        unrewarded: bool = False,
        asks: bool = False,
    ) -> None:
        self.task = task
        self.run_id = run_id
        self.mode = mode
        self.episode = episode
        self.next_sequence = next_sequence
        self.hold_ticks = hold_ticks
        self.unrewarded = unrewarded
        self.asks = asks
        self.judged = False  # a person has decided `success`
        self.stamp_ns = 0  # stamp of the newest observation
        self.policy_version = 0  # version of the policy that acted last
        self.ended = False
        self.terminal = False
        self.success = False
        self.return_ = 0.0
        self.actions = 0  # steps with an action that have been handed out
        self.interventions = 0
        self._ticks: deque[_Tick] = deque()
        self._rewards: dict[int, tuple[float, bool]] = {}
        self._verdict: bool | None = None  # the person's verdict, True is success
        self._since_success = 0  # steps from the first success on

    @property
    def index(self) -> int:
        """Index of the newest observation, -1 before the first."""
        return self._ticks[-1].index if self._ticks else -1

    @property
    def last_index(self) -> int:
        """Index of the observation at which time is over; ticks that hold after a success come on top."""
        return self.task.max_ticks + (self.hold_ticks if self._since_success else 0)

    @property
    def time_over(self) -> bool:
        """Whether the last observation has come: no further one is taken."""
        return self.index >= self.last_index

    @property
    def hold_left(self) -> int | None:
        """Ticks to hold after success, None before it."""
        return self.hold_ticks + 1 - self._since_success if self._since_success else None

    @property
    def awaits_verdict(self) -> bool:
        """Whether the last step waits only for a person's verdict."""
        return self.asks and self.time_over and len(self._ticks) == 2 and not self.ended

    @property
    def acting_sequence(self) -> int:
        """The sequence number of the step that the newest observation belongs to."""
        return self.next_sequence + len(self._ticks) - 1

    @property
    def waiting_since_ns(self) -> int | None:
        """Stamp [ns] of the oldest observation whose reward is missing, None when none is."""
        return self._ticks[1].observation.stamp_ns if len(self._ticks) > 1 else None

    def observe(self, observation: Observation) -> None:
        """Take the next observation of the episode."""
        self._ticks.append(_Tick(observation, self.index + 1))
        self.stamp_ns = observation.stamp_ns
        if self.unrewarded:
            self._rewards[observation.stamp_ns] = (0.0, False)

    def act(self, action: np.ndarray, intervention: bool, policy_version: int) -> None:
        """Take the action, (A,) float32, that is carried out in the newest observation."""
        tick = self._ticks[-1]
        tick.action, tick.intervention, tick.policy_version = action, intervention, policy_version
        self.policy_version = policy_version

    def reward(self, stamp_ns: int, reward: float, success: bool) -> None:
        """Take the reward of the image with this stamp; it is ignored where a person judges."""
        if self.unrewarded:
            return
        self._rewards[stamp_ns] = (reward, success)
        while len(self._rewards) > _KEPT_REWARDS:  # left from images that belong to no observation
            del self._rewards[next(iter(self._rewards))]

    def judge(self, success: bool) -> None:
        """Take the person's verdict on the newest observation: it overrules every reward that has not been handed out."""
        self._verdict = success

    def give_up_asking(self) -> None:
        """Stop asking for a verdict: nobody has judged, and the time-out stands."""
        self.asks = False

    def advance(self) -> list[Step]:
        """The steps that are complete now, in order. Ends the episode on success, verdict or time-out."""
        steps: list[Step] = []
        while len(self._ticks) > 1 and not self.ended:
            following = self._ticks[1].observation.stamp_ns
            judged = self._verdict is not None and len(self._ticks) == 2
            if judged:
                reward, success = (self.task.success_reward if self._verdict else 0.0), self._verdict
            elif self._verdict is not None:
                reward, success = 0.0, False  # no reward came before the person's verdict
            elif self.awaits_verdict:
                break
            elif (found := self._reward_of(following)) is not None:
                reward, success = found
            else:
                break
            tick = self._ticks.popleft()
            self.return_ += reward
            self.success = success if judged else self.success or success
            self.judged = self.judged or judged
            if self.success and (self.task.terminate_on_success or judged or self._since_success):
                self._since_success += 1
            self.actions += 1
            self.interventions += tick.intervention
            steps.append(self._step(tick, reward=reward, success=success))
            if judged and success and self.hold_ticks:
                judged, self._verdict = False, None  # success by the person; the ticks to hold are still to come
            if self._since_success > self.hold_ticks or judged:
                steps.append(self._last(terminal=True))
            elif self._ticks[0].index >= self.last_index:
                steps.append(self._last(terminal=False))
        return steps

    def _reward_of(self, stamp_ns: int) -> tuple[float, bool] | None:
        """Reward of the image with this stamp, else that of the next judged image; None where neither has come yet."""
        if stamp_ns in self._rewards:
            return self._rewards.pop(stamp_ns)
        latest_ns = stamp_ns + round(LATE_TICKS * 1e9 * self.task.tick_s)
        later = min((other for other in self._rewards if stamp_ns < other <= latest_ns), default=None)
        return None if later is None else self._rewards[later]

    def truncate(self) -> list[Step]:
        """End here, at the last observation whose reward is known: it bootstraps, unless a person has judged it."""
        if not self._ticks or self.ended:
            return []
        terminal = self._verdict is not None  # the step that the verdict is about has been handed out already
        if terminal:
            self.success, self.judged = self._verdict, True
        return [self._last(terminal)]

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


class Episode:
    """An episode that has begun: its steps, and the verdicts on it."""

    def __init__(self, builder: EpisodeBuilder, seed: int, judge: str) -> None:
        """judge: who judges when no person does, one of JUDGES."""
        self.builder = builder
        self.seed = seed
        self.judge = judge
        self.verdict: Verdict | None = None  # a verdict that has not taken effect yet
        self.said: bool | None = None  # the person's verdict that counts so far
        self.again = False
        self.person_drove = False

    def say(self, verdict: Verdict) -> None:
        """Take a person's verdict. It acts once, however often a held key repeats it."""
        if self.verdict is None and verdict.success is not self.said:
            self.verdict = verdict
            if self.builder.time_over:
                self._apply()

    def observe(self, observation: Observation) -> bool:
        """Take an observation once; False when it is known, or time is over. A verdict that waits for it takes effect."""
        builder = self.builder
        if builder.time_over or (builder.index >= 0 and observation.stamp_ns == builder.stamp_ns):
            return False
        builder.observe(observation)
        after_ns = -1 if self.verdict is None or self.verdict.after_ns is None else self.verdict.after_ns
        if self.verdict is not None and builder.index > 0 and observation.stamp_ns > after_ns:
            self._apply()
        return True

    def cut(self) -> list[Step]:
        """End at the last observation whose reward is known; a verdict that waits still counts."""
        if self.verdict is not None and self.builder.index > 0:
            self._apply()
        steps = self.builder.advance()
        return steps + self.builder.truncate()

    def _apply(self) -> None:
        verdict, self.verdict = self.verdict, None
        self.said, self.again = verdict.success, verdict.again
        self.builder.judge(verdict.success)

    @property
    def text(self) -> str:
        """Instruction for the person."""
        builder = self.builder
        if builder.hold_left is not None and builder.hold_ticks:
            return f"success: hold, {builder.hold_left} ticks left"
        if builder.time_over:
            return "time is over: waiting for the rewards of the last images, or for your verdict"
        does = {
            Mode.DEMONSTRATION: "show the task",
            Mode.TRAINING: "the policy acts: help where it needs you",
            Mode.EVALUATION: "the policy acts: hands off",
        }[builder.mode]
        return does + (", then say success or failure" if self.judge == PERSON else "")

    def result(self, cause: End, why: str) -> Result:
        """Result of the ended episode. cause, why: used only where no verdict, success or time-out has ended it."""
        builder = self.builder
        cut = cause in (End.STOP, End.LOST) and not (builder.terminal and builder.judged)
        if not cut:
            cause = End.TIME_OUT
            if builder.terminal:
                cause = End.SUCCESS if builder.success else End.RERECORD if self.again else End.FAILURE
        rewarded = self.judge != PERSON and (builder.success or not cut)
        judge = PERSON if builder.judged else self.judge if rewarded else ""
        if not cut:
            why = {
                End.SUCCESS: f"success, says the {judge}",
                End.FAILURE: "failure, says the person",
                End.RERECORD: "the person wants it repeated",
                End.TIME_OUT: "time was over" + ("" if judge else ", and nobody has judged"),
            }[cause]
        return Result(
            builder.stamp_ns, builder.run_id, builder.episode, builder.mode, self.seed, cause, builder.success, judge,
            builder.actions, builder.interventions, builder.policy_version, builder.return_, why,
        )  # fmt: skip
