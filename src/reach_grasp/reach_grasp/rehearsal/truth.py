# SPDX-License-Identifier: Apache-2.0
"""Compares each episode's verdict with the twin's truth. All times are on the system clock, in nanoseconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

GRACE_NS = 300_000_000
"""A verdict follows its picture, and a picture the world: truth up to this long after an episode's end still belongs to it."""
_KEPT_NS = 600_000_000_000


@dataclass(frozen=True)
class JudgedEpisode:
    """A finished episode: its verdict beside the truth.

    mode: demonstration, training or evaluation. said: the verdict, None where nobody judged. true: while the episode ran,
    the cube was held for as long as a success needs. held: the jaws held it at the end. duration_s: from first to last tick.
    """

    mode: str
    episode: int
    seed: int
    said: bool | None
    judge: str
    true: bool
    held: bool
    ticks: int
    interventions: int
    duration_s: float
    truths: int

    @property
    def false_success(self) -> bool:
        """The verdict was success while nothing was held."""
        return self.said is True and not self.true and not self.held

    @property
    def missed_success(self) -> bool:
        """The cube was held long enough and the verdict was no success."""
        return self.said is not True and self.true

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self)


class TruthTracker:
    """Feed it the truth, the beginning and the end of episodes in the order of time; `finished` gives each episode once."""

    def __init__(self) -> None:
        self._truths: deque[tuple[int, bool, bool]] = deque()  # time, held now, held long enough
        self._began: dict[int, int] = {}
        self._ended: list[tuple[int, dict[str, Any]]] = []

    def truth(self, time_ns: int, held: bool, success: bool) -> None:
        """Take the state of the world at one instant. held: the jaws hold the cube. success: for as long as a success takes."""
        self._truths.append((time_ns, held, success))
        while self._truths[0][0] < time_ns - _KEPT_NS:
            self._truths.popleft()

    def began(self, episode: int, time_ns: int) -> None:
        """Note when an episode ran; the first time counts."""
        self._began.setdefault(episode, time_ns)

    def ended(self, time_ns: int, **result: Any) -> None:
        """Note the end of an episode. result: the fields of JudgedEpisode that the actor knows."""
        self._ended.append((time_ns, result))

    def finished(self, now_ns: int) -> list[JudgedEpisode]:
        """The episodes that ended long enough ago for their truth to be here."""
        ready = [item for item in self._ended if now_ns >= item[0] + 2 * GRACE_NS]
        self._ended = [item for item in self._ended if now_ns < item[0] + 2 * GRACE_NS]
        return [self._judge(end_ns, result) for end_ns, result in ready]

    def _judge(self, end_ns: int, result: dict[str, Any]) -> JudgedEpisode:
        begin_ns = self._began.pop(result["episode"], end_ns)
        seen = [item for item in self._truths if begin_ns <= item[0] <= end_ns + GRACE_NS]
        near = [held for time_ns, held, _ in seen if abs(time_ns - end_ns) <= GRACE_NS]
        return JudgedEpisode(
            **result,
            true=any(success for _, _, success in seen),
            held=any(near),
            duration_s=(end_ns - begin_ns) * 1e-9,
            truths=len(seen),
        )


def truth_numbers(episodes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rates of wrong verdicts over episodes, each the dictionary of a JudgedEpisode; delays are not known in real time."""
    found = [JudgedEpisode(**record) for record in episodes]
    judged = [episode for episode in found if episode.said is not None]
    successes = [episode for episode in judged if episode.true]
    false, missed = sum(episode.false_success for episode in judged), sum(episode.missed_success for episode in judged)
    return {
        "judged_episodes": len(judged),
        "unjudged_episodes": len(found) - len(judged),
        "false_successes": false,
        "false_success_rate": false / len(judged) if judged else 0.0,
        "missed_successes": missed,
        "missed_success_rate": missed / len(successes) if successes else 0.0,
        "early_successes": sum(episode.said is True and episode.held and not episode.true for episode in judged),
        "delay_frames_mean": None,
        "delay_frames_max": None,
    }
