# SPDX-License-Identifier: Apache-2.0
"""Single episodes, as the actor tells how each ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

MODES = ("demonstration", "training", "evaluation")
EVALUATION = MODES.index("evaluation")
_RERECORD = 2  # hilserl_interfaces/EpisodeResult


class Result(Protocol):
    """The fields of hilserl_interfaces/EpisodeResult that count."""

    run_id: str
    episode: int
    mode: int
    seed: int
    end: int
    success: bool
    judge: str
    ticks: int
    interventions: int
    policy_version: int
    episode_return: float


@dataclass(frozen=True)
class Episode:
    """A finished episode. number: within its mode, from 0. end_step: actions taken in this mode when it ended.

    judged: whether anybody said what it was; if not, success says nothing.
    """

    mode: str
    number: int
    success: bool
    ticks: int
    interventions: int
    end_step: int
    seed: int
    policy_version: int
    reward: float
    judged: bool = True

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self)


class EpisodeTracker:
    """Feed every result; each episode is told once. One that is to be repeated counts as unjudged, in an evaluation not at all.

    known: episodes of the run that were told before; numbers and steps go on after them.
    """

    def __init__(self, known: Iterable[Episode] = ()) -> None:
        self._heard: set[tuple[str, int]] = set()
        self._counts, self._steps = dict.fromkeys(MODES, 0), dict.fromkeys(MODES, 0)
        for episode in known:
            self._counts[episode.mode], self._steps[episode.mode] = episode.number + 1, episode.end_step

    def feed(self, result: Result) -> Episode | None:
        """The episode, unless it was told before or an evaluation repeats its world."""
        # An evaluation that begins anew is another run, and repeats the same worlds.
        evaluates, again = result.mode == EVALUATION, result.end == _RERECORD
        key = (MODES[EVALUATION], result.seed) if evaluates else (result.run_id, result.episode)
        if result.mode >= len(MODES) or (evaluates and again) or key in self._heard:
            return None
        self._heard.add(key)
        mode = MODES[result.mode]
        number = self._counts[mode]
        self._counts[mode] += 1
        self._steps[mode] += result.ticks
        return Episode(
            mode=mode,
            number=number,
            success=bool(result.success),
            ticks=int(result.ticks),
            interventions=int(result.interventions),
            end_step=self._steps[mode],
            seed=int(result.seed),
            policy_version=int(result.policy_version),
            reward=float(result.episode_return),
            judged=bool(result.judge) and not again,
        )
