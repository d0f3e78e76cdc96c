# SPDX-License-Identifier: Apache-2.0
"""When the person's turn has come: an observation is complete, and it is known to which episode it belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LATE_TICKS = 50


@dataclass(frozen=True)
class Running:
    """The newest status of a running episode. stamp_ns: of the observation it was published for."""

    run_id: str
    episode: int  # within the run
    mode: int
    number: int  # finished episodes of this mode
    stamp_ns: int


class Turns:
    """Collects the parts of observations by stamp and decides which can be answered.

    In lockstep the observation with stamp s is answered when the status says that the episode runs at s (its first
    observation) or at s minus one tick (it goes on); so an answer depends on the run and never on what arrived first. By the
    wall clock the newest complete observation is answered whenever an episode runs.
    """

    def __init__(self, parts: tuple[str, ...], tick_ns: int, lockstep: bool) -> None:
        self.parts, self.tick_ns, self.lockstep = parts, tick_ns, lockstep
        self.answered_ns = -1
        self._running: Running | None = None
        self._waiting: dict[int, dict[str, Any]] = {}
        self._newest: dict[str, Any] = {}

    def status(self, running: Running | None) -> None:
        """What the actor is doing; None while no episode runs."""
        self._running = running

    def add(self, part: str, stamp_ns: int, value: Any) -> None:
        """A part of an observation has arrived. A stamp from long before the last answer: the simulation was started anew."""
        if stamp_ns < self.answered_ns - _LATE_TICKS * self.tick_ns:
            self.answered_ns, self._waiting = -1, {}
        if not self.lockstep:
            self._newest[part] = value
            if part == self.parts[0] and len(self._newest) == len(self.parts):
                self._waiting = {stamp_ns: dict(self._newest)}
        elif stamp_ns > self.answered_ns:
            self._waiting.setdefault(stamp_ns, {})[part] = value

    def take(self) -> tuple[int, dict[str, Any], Running] | None:
        """The observation to answer now as (stamp, part -> value, episode), once; None when there is none."""
        if self._running is None or not self._waiting:
            return None
        stamp = max(self._waiting)
        if len(self._waiting[stamp]) < len(self.parts) or stamp <= self.answered_ns:
            return None
        if self.lockstep and self._running.stamp_ns not in (stamp, stamp - self.tick_ns):
            return None
        parts = self._waiting[stamp]
        self._waiting = {}
        self.answered_ns = stamp
        return stamp, parts, self._running
