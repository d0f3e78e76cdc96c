# SPDX-License-Identifier: Apache-2.0
"""Rates of what a system does: counts per second, and success and help of the last episodes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from reach_grasp.running.episodes import Episode


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


def success_rate(episodes: Sequence[Episode], last: int = 20) -> float | None:
    """Share of successes (0 to 1) among the judged ones of the last episodes; None when none was judged."""
    judged = [episode for episode in list(episodes)[-last:] if episode.judged]
    return sum(episode.success for episode in judged) / len(judged) if judged else None


def intervention_rate(episodes: Iterable[Episode], last: int = 20) -> float | None:
    """The part of the steps of the last episodes that a person drove; None when there are none."""
    recent = list(episodes)[-last:]
    ticks = sum(episode.ticks for episode in recent)
    return sum(episode.interventions for episode in recent) / ticks if ticks else None
