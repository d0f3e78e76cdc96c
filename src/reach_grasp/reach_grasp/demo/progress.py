# SPDX-License-Identifier: Apache-2.0
"""How far the demo is and how long it will still take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from reach_grasp.demo.episodes import Episode
from reach_grasp.demo.settings import DemoSettings

PHASES = ("demonstrations", "dataset", "classifier", "imitation", "training", "evaluation", "report")
# Seconds on two cores; only their ratios matter once something was measured.
_PER_DEMONSTRATION, _PER_STEP, _PER_EVALUATION = 3.0, 0.05, 0.7
_DATASET, _CLASSIFIER, _IMITATION, _REPORT = 15.0, 90.0, 45.0, 8.0


class Rate:
    """Counts per second over the last `window_s` seconds."""

    def __init__(self, window_s: float = 10.0) -> None:
        self.window_s = window_s
        self._points: deque[tuple[float, float]] = deque()

    def add(self, count: float, now: float | None = None) -> float | None:
        """The rate after one more reading of a counter; None while it cannot be known. A counter that falls begins anew."""
        now = time.monotonic() if now is None else now
        if self._points and count < self._points[-1][1]:
            self._points.clear()
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[0][0] > self.window_s:
            self._points.popleft()
        (then, before) = self._points[0]
        return (count - before) / (now - then) if now - then > 0.5 else None


class TimeLeft:
    """Scales what each phase usually takes with how fast this machine was so far."""

    def __init__(self, settings: DemoSettings) -> None:
        self.usual = {
            "demonstrations": settings.demonstrations * _PER_DEMONSTRATION,
            "dataset": _DATASET,
            "classifier": _CLASSIFIER if settings.learned_reward else 0.0,
            "imitation": _IMITATION,
            "training": settings.steps * _PER_STEP,
            "evaluation": settings.eval_episodes * _PER_EVALUATION,
            "report": _REPORT,
        }

    def seconds(self, phase: str, progress: float, spent: dict[str, float]) -> float:
        """Left when `phase` is done to a fraction `progress`. spent: seconds per phase so far."""
        at = PHASES.index(phase)
        done = sum(self.usual[name] for name in PHASES[:at]) + self.usual[phase] * progress
        # The usual times count as a minute of measurement, so that the first guesses do not jump.
        factor = (sum(spent.values()) + 60.0) / (done + 60.0)
        here = self.usual[phase] * (1.0 - progress) * factor
        if progress > 0.1 and spent.get(phase, 0.0) > 5.0:
            here = spent[phase] / progress * (1.0 - progress)
        return here + factor * sum(self.usual[name] for name in PHASES[at + 1 :])


def success_rate(episodes: Sequence[Episode], last: int = 20) -> float | None:
    """Of the last episodes; None when there are none."""
    recent = list(episodes)[-last:]
    return sum(episode.success for episode in recent) / len(recent) if recent else None


def intervention_rate(episodes: Iterable[Episode], last: int = 20) -> float | None:
    """The part of the steps of the last episodes that a person drove; None when there are none."""
    recent = list(episodes)[-last:]
    ticks = sum(episode.ticks for episode in recent)
    return sum(episode.interventions for episode in recent) / ticks if ticks else None
