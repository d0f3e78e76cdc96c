# SPDX-License-Identifier: Apache-2.0
"""Listens beside the station's own commands, and compares what they say with the twin's truth."""

from __future__ import annotations

import time

from hilserl_interfaces.msg import EpisodeResult, EpisodeStatus, Reward
from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from reach_grasp.rehearsal.truth import JudgedEpisode, TruthTracker
from reach_grasp.running.episodes import MODES
from reach_grasp.running.monitor import Monitor

TRUTH = "twin/truth"


class Watch(Monitor):
    """A Monitor that also hears the twin's truth; `judged` gives each finished episode once."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain)
        self._truths = TruthTracker()
        self.learner_given_up = 0.0
        create = self._node.create_subscription
        create(Reward, TRUTH, self._on_twin, qos.reliable(100))
        create(EpisodeResult, "episode/result", self._on_end, qos.EPISODE_RESULT)

    def judged(self, over: bool = False) -> list[JudgedEpisode]:
        """The episodes whose truth is known since the last call. over: nothing more is to come."""
        with self._lock:
            return self._truths.finished(2**63 if over else time.time_ns())

    def _on_episode(self, message: EpisodeStatus) -> None:
        super()._on_episode(message)
        if message.phase == EpisodeStatus.RUNNING:
            with self._lock:
                self._truths.began(message.episode, to_ns(message.header.stamp))

    def _on_twin(self, message: Reward) -> None:
        with self._lock:
            self._truths.truth(to_ns(message.header.stamp), message.probability >= 0.5, message.success)

    def _on_end(self, message: EpisodeResult) -> None:
        with self._lock:
            self._truths.ended(
                to_ns(message.header.stamp),
                mode=MODES[message.mode],
                episode=message.episode,
                seed=int(message.seed),
                said=message.success if message.judge else None,
                judge=message.judge,
                ticks=message.ticks,
                interventions=message.interventions,
            )
