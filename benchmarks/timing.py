# SPDX-License-Identifier: Apache-2.0
"""Timing two sides fairly: warmed up, in turns, the median of several rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

THREADS = 2


@dataclass(frozen=True)
class Timed:
    """One side of a comparison.

    call: what is timed. calls: how often in a row it is timed per round. before, after: run around each round, untimed, e.g.
    to stop a background thread that would slow the other side.
    """

    call: Callable[[], object]
    calls: int = 1
    warm_up: int = 1
    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None
    seconds: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        """Median seconds of one call."""
        return float(np.median(self.seconds))

    @property
    def spread_s(self) -> tuple[float, float]:
        """Fastest and slowest call in seconds."""
        return min(self.seconds), max(self.seconds)


def take_turns(sides: Mapping[str, Timed], rounds: int) -> None:
    """Time each side `rounds` times in alternating order; the seconds of each call are left in `Timed.seconds`."""
    for turn in range(rounds):
        order = list(sides.values())
        for side in order if turn % 2 == 0 else reversed(order):
            if side.before is not None:
                side.before()
            for _ in range(side.warm_up):
                side.call()
            for _ in range(side.calls):
                start = time.perf_counter()
                side.call()
                side.seconds.append(time.perf_counter() - start)
            if side.after is not None:
                side.after()


def percentile(values: list[float], percent: float) -> float:
    """A percentile by the nearest rank above, so that a p99 of few values is their maximum."""
    return float(np.percentile(np.asarray(values, np.float64), percent, method="higher"))
