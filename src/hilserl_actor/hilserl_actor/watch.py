# SPDX-License-Identifier: Apache-2.0
"""Notices missing observations and rewards, and their return. Times are on the steady clock [s], which nobody sets."""

from __future__ import annotations

from hilserl_actor.control_loop import ControlLoop
from hilserl_actor.phases import Holding, Lack, Phase

_RESETTING_STATUS_S = 1.0  # period at which the status is repeated while a reset is under way
_HOLD_S = 1.0  # shortest hold before a new episode may begin


class Watch:
    """Remembers when the last observation and reward came, and since when the arm holds."""

    def __init__(self, observation_timeout_s: float, reward_timeout_s: float | None, now_s: float) -> None:
        """reward_timeout_s: None where no step waits for a reward that comes later."""
        self.observation_timeout_s, self.reward_timeout_s = observation_timeout_s, reward_timeout_s
        self._observed_s = self._rewarded_s = self._held_s = self._told_s = now_s
        self._unrewarded: tuple[int, float] | None = None  # stamp whose reward is waited for, and since when

    def observed(self, now_s: float) -> None:
        """Note that an observation was taken."""
        self._observed_s = now_s

    def rewarded(self, now_s: float) -> None:
        """Note that a reward has come."""
        self._rewarded_s = now_s

    def holds(self, now_s: float) -> None:
        """Note that the arm begins to hold."""
        self._held_s = now_s

    def told(self, now_s: float) -> None:
        """Note that a status was published."""
        self._told_s = now_s

    def status_due(self, loop: ControlLoop, now_s: float) -> bool:
        """Whether to publish a status although nothing has happened. While an episode runs, each observation brings one.

        A reset may wait for any length of time; listeners must still hear that the actor is alive, and what it waits for.
        """
        if loop.phase is Phase.RESETTING:
            return now_s - self._told_s >= _RESETTING_STATUS_S
        return loop.phase is not Phase.RUNNING

    def silent_s(self, loop: ControlLoop, now_s: float) -> float:
        """Time [s] since the last observation, or since one became due, when it is late; else 0. Call it again and again."""
        if not loop.takes_observations or loop.phase is Phase.WAITING:
            self._observed_s = now_s
        silent_s = now_s - self._observed_s
        return silent_s if silent_s > self.observation_timeout_s else 0.0

    def unrewarded_s(self, loop: ControlLoop, now_s: float) -> float:
        """Time [s] that a step has waited for its reward when that is late, else 0."""
        episode = loop.episode
        since_ns = None if episode is None or self.reward_timeout_s is None else episode.builder.waiting_since_ns
        if since_ns is None:
            self._unrewarded = None
            return 0.0
        if self._unrewarded is None or self._unrewarded[0] != since_ns:
            self._unrewarded = (since_ns, now_s)
        late_s = now_s - self._unrewarded[1]
        return late_s if late_s > self.reward_timeout_s else 0.0

    def back(self, loop: ControlLoop, observation: bool, now_s: float) -> Lack | None:
        """The lack that is over once the arm has held for a moment, else None. observation: whether one could be taken."""
        if not isinstance(loop.state, Holding) or now_s - self._held_s <= _HOLD_S:
            return None
        lack = loop.state.lack
        found = {Lack.OBSERVATION: observation, Lack.REWARD: self._rewarded_s > self._held_s, Lack.CLEARANCE: False}[lack]
        return lack if found else None
