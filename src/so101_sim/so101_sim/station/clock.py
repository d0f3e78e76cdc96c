# SPDX-License-Identifier: Apache-2.0
"""Keeps simulated time in step with the wall clock, and counts where that failed."""

from __future__ import annotations

from dataclasses import dataclass, field

_LATE_STEPS = 2.0  # a step is late when it begins this many step lengths after its time


@dataclass
class RealTime:
    """Says how many steps of the simulation are due. A backlog beyond `longest_s` is given up: simulated time falls behind.

    Times are on a steady clock [s]. late: number of late steps. worst_s: largest delay. given_up_s: time never simulated.
    """

    step_s: float
    longest_s: float = 0.25
    steps: int = 0
    late: int = 0
    worst_s: float = 0.0
    given_up_s: float = 0.0
    _start_s: float | None = field(default=None, repr=False)

    def due(self, now_s: float) -> int:
        """Number of steps to do now, so that simulated time catches up with `now_s`."""
        if self._start_s is None:
            self._start_s = now_s
        behind_s = self.behind_s(now_s)
        if behind_s > self.longest_s:
            self.given_up_s += behind_s - self.longest_s
            behind_s = self.longest_s
        count = int(behind_s / self.step_s + 1e-6)
        if count:
            lateness_s = behind_s - self.step_s
            self.worst_s = max(self.worst_s, lateness_s)
            self.late += max(0, int(lateness_s / self.step_s - _LATE_STEPS + 1 + 1e-6))
        self.steps += count
        return count

    def behind_s(self, now_s: float) -> float:
        """Time [s] by which simulated time is behind the wall clock."""
        return now_s - (self._start_s or 0.0) - self.steps * self.step_s - self.given_up_s

    def next_s(self) -> float:
        """Time [s] at which the next step is due."""
        return (self._start_s or 0.0) + (self.steps + 1) * self.step_s + self.given_up_s

    def factor(self, now_s: float) -> float:
        """Simulated time divided by wall time since the start."""
        passed_s = now_s - (self._start_s if self._start_s is not None else now_s)
        return min(1.0, 1.0 - self.given_up_s / passed_s) if passed_s > 0 else 1.0
