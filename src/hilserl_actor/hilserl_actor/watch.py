# SPDX-License-Identifier: Apache-2.0
"""Notices what does not come, and when it is back. Times are of the steady clock [s], which nobody sets."""

from __future__ import annotations

from hilserl_actor.control_loop import ControlLoop
from hilserl_actor.phases import Holding, Lack, Phase

_RESETTING_STATUS_S = 1.0  # so often the status is repeated while a reset is under way
_HOLD_S = 1.0  # at least, before an episode begins again


class Watch:
    """Knows when an observation and a reward came last, and since when the arm holds."""

    def __init__(self, observation_timeout_s: float, reward_timeout_s: float | None, now_s: float) -> None:
        """reward_timeout_s: None where no step waits for a reward that comes later."""
        self.observation_timeout_s, self.reward_timeout_s = observation_timeout_s, reward_timeout_s
        self._observed_s = self._rewarded_s = self._held_s = self._told_s = now_s
        self._unrewarded: tuple[int, float] | None = None  # stamp whose reward is waited for, and since when

    def observed(self, now_s: float) -> None:
        """An observation was taken, or none was due until now."""
        self._observed_s = now_s

    def rewarded(self, now_s: float) -> None:
        """A reward has come."""
        self._rewarded_s = now_s

    def holds(self, now_s: float) -> None:
        """The arm begins to hold."""
        self._held_s = now_s

    def told(self, now_s: float) -> None:
        """A status was published."""
        self._told_s = now_s

    def status_due(self, loop: ControlLoop, now_s: float) -> bool:
        """Whether a status has to be published although nothing has happened: always, but while observations bring it.

        A reset may not be able to begin for as long as anything; who listens must still hear that the actor is there, and why.
        """
        if loop.phase is Phase.RESETTING:
            return now_s - self._told_s >= _RESETTING_STATUS_S
        return loop.phase is not Phase.RUNNING

    def silent_s(self, loop: ControlLoop, now_s: float) -> float:
        """For how long an observation that is due has not come, 0 within its time."""
        due = loop.takes_observations and loop.phase is not Phase.WAITING
        silent_s = now_s - self._observed_s
        return silent_s if due and silent_s > self.observation_timeout_s else 0.0

    def unrewarded_s(self, loop: ControlLoop, now_s: float) -> float:
        """For how long a step has waited for its reward, 0 within its time."""
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
        """What the arm held for, when that is back and it has held for a moment. observation: whether one could be taken."""
        if not isinstance(loop.state, Holding) or now_s - self._held_s <= _HOLD_S:
            return None
        lack = loop.state.lack
        found = {Lack.OBSERVATION: observation, Lack.REWARD: self._rewarded_s > self._held_s, Lack.CLEARANCE: False}[lack]
        return lack if found else None
