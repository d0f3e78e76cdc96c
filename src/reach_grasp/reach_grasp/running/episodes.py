# SPDX-License-Identifier: Apache-2.0
"""Single episodes: of an evaluation as the actor tells them, else recovered from the running totals in its status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

MODES = ("demonstration", "training", "evaluation")
EVALUATION = MODES.index("evaluation")
_RERECORD = 2  # hilserl_interfaces/EpisodeResult


class Status(Protocol):
    """The fields of hilserl_interfaces/EpisodeStatus that count."""

    mode: int
    episode: int
    index: int
    episodes_done: int
    successes: int
    steps: int
    interventions: int
    seed: int
    policy_version: int
    episode_return: float


class Result(Protocol):
    """The fields of hilserl_interfaces/EpisodeResult that count."""

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


class EvaluationTracker:
    """Feed every result of an evaluation. An actor that begins anew repeats the same worlds: each counts once."""

    def __init__(self) -> None:
        self._seeds: set[int] = set()
        self._steps = 0

    def feed(self, result: Result) -> Episode | None:
        """The episode, unless it was told before or is to be repeated."""
        if result.mode != EVALUATION or result.end == _RERECORD or result.seed in self._seeds:
            return None
        number = len(self._seeds)
        self._seeds.add(result.seed)
        self._steps += result.ticks
        return Episode(
            mode=MODES[EVALUATION],
            number=number,
            success=bool(result.success),
            ticks=int(result.ticks),
            interventions=int(result.interventions),
            end_step=self._steps,
            seed=int(result.seed),
            policy_version=int(result.policy_version),
            reward=float(result.episode_return),
            judged=bool(result.judge),
        )


class EpisodeTracker:
    """Feed every status but those of an evaluation; totals make each episode exact as long as one status per episode arrives.

    known: episodes of the run that need not be told again. What ended unheard is told in equal parts, so sums stay right.
    """

    def __init__(self, known: Iterable[Episode] = ()) -> None:
        self._totals: dict[int, tuple[int, int, int, int]] = dict.fromkeys(range(len(MODES)), (0, 0, 0, 0))
        for episode in known:
            mode = MODES.index(episode.mode)
            done, successes, _, interventions = self._totals[mode]
            helped = episode.interventions if episode.mode == "training" else 0
            self._totals[mode] = (done + 1, successes + episode.success, episode.end_step, interventions + helped)
        self._last: Status | None = None

    def feed(self, status: Status) -> list[Episode]:
        """The episodes that ended since the last status, usually none or one."""
        last, self._last = self._last, status
        found: list[Episode] = []
        if last is not None and last.mode != status.mode:
            found += self._closing(last)
        totals = (status.episodes_done, status.successes, status.steps, status.interventions)
        before = self._totals[status.mode]
        count = status.episodes_done - before[0]
        if count > 0:
            found += self._split(status, last if last is not None else status, before, count)
            self._totals[status.mode] = totals
        return found

    def _split(self, status: Status, last: Status, before: tuple[int, int, int, int], count: int) -> list[Episode]:
        successes = status.successes - before[1]
        ticks = status.steps - before[2]
        # The actor counts interventions in training only; a demonstration is one from start to end.
        driven = {"demonstration": ticks, "training": status.interventions - before[3]}
        interventions = driven.get(MODES[status.mode], 0)
        return [
            Episode(
                mode=MODES[status.mode],
                number=before[0] + i,
                success=i < successes,
                ticks=ticks * (i + 1) // count - ticks * i // count,
                interventions=interventions * (i + 1) // count - interventions * i // count,
                end_step=before[2] + ticks * (i + 1) // count,
                seed=int(last.seed),
                policy_version=int(last.policy_version),
                reward=max(float(last.episode_return), 1.0 if i < successes else 0.0),
            )
            for i in range(count)
        ]

    def _closing(self, last: Status) -> list[Episode]:
        """The last episode of a mode: the status after it belongs to the next mode already. Modes end with a success."""
        before = self._totals[last.mode]
        if last.mode != MODES.index("demonstration"):
            return []
        ticks = max(last.steps - before[2], last.index + 1)
        number, steps = before[0], before[2] + ticks
        return [Episode(MODES[last.mode], number, True, ticks, ticks, steps, int(last.seed), int(last.policy_version), 1.0)]
