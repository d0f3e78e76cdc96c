# SPDX-License-Identifier: Apache-2.0
"""Keeps simulated time beside the wall clock, and counts where it could not."""

from __future__ import annotations

from dataclasses import dataclass, field

_LATE_STEPS = 2.0  # a step that begins this many of its lengths after its time is late


@dataclass
class RealTime:
    """Says how many steps of the simulation are due. A backlog beyond `longest_s` is given up: time then stands still.

    Times are of a steady clock [s]. late: steps that began late. worst_s: by how much at most. given_up_s: not simulated.
    """

    step_s: float
    longest_s: float = 0.25
    steps: int = 0
    late: int = 0
    worst_s: float = 0.0
    given_up_s: float = 0.0
    _start_s: float | None = field(default=None, repr=False)

    def due(self, now_s: float) -> int:
        """How many steps to do now so that simulated time has come up with `now_s`."""
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
        """How far simulated time is behind the wall clock."""
        return now_s - (self._start_s or 0.0) - self.steps * self.step_s - self.given_up_s

    def next_s(self) -> float:
        """When the next step is due."""
        return (self._start_s or 0.0) + (self.steps + 1) * self.step_s + self.given_up_s

    def factor(self, now_s: float) -> float:
        """Simulated time by wall time since the start."""
        passed_s = now_s - (self._start_s if self._start_s is not None else now_s)
        return min(1.0, 1.0 - self.given_up_s / passed_s) if passed_s > 0 else 1.0
