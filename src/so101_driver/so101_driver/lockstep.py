# SPDX-License-Identifier: Apache-2.0
"""The follower in lockstep with a simulation: each command is carried out for one tick of simulated time, then all wait."""

from __future__ import annotations

from collections.abc import Callable

from so101_driver.arm import Command
from so101_driver.errors import PortLostError
from so101_driver.follower import Follower, Report

_NS = 1e-9


class Lockstep:
    """Simulated time, and what happens in it. stamp_ns: of the newest observation, 0 before the first."""

    def __init__(self, tick_ns: int, rate_hz: float) -> None:
        self.stamp_ns = 0
        self.now_s = 0.0
        self._tick_ns = tick_ns
        self._cycles = max(1, round(tick_ns * _NS * rate_hz))
        self._heard = 0  # how often the clock said this stamp
        self._report: Report | None = None

    def clock(self) -> float:
        """Simulated time [s]: the follower's clock."""
        return self.now_s

    def command(self, stamp_ns: int, command: Command, follower: Follower, each: Callable[[Report], None]) -> Report | None:
        """Carry out what answers the newest observation, for one tick; anything else is no answer, and None.

        each: hears of every cycle. The report is the next observation's, whose stamp `stamp_ns` then is.
        """
        if stamp_ns != self.stamp_ns or self._report is None:
            return None
        for index in range(self._cycles):
            self.now_s = (stamp_ns + self._tick_ns * (index + 1) / self._cycles) * _NS
            self._report = follower.cycle(self.now_s, command if index == 0 else None)
            each(self._report)
        self._hear(stamp_ns + self._tick_ns, 0)
        return self._report

    def time(self, stamp_ns: int, follower: Follower) -> Report | None:
        """The clock has spoken: what to publish for that stamp, None for nothing.

        A stamp that the follower has not made itself is a reset of the world. One that comes again means that somebody
        missed it. Raises PortLostError.
        """
        if stamp_ns == self.stamp_ns:
            self._heard += 1
            return self._report if self._heard > 1 else None
        self._hear(stamp_ns, 1)
        self.now_s = stamp_ns * _NS
        follower.connection.turns.forget()  # the joints were put elsewhere
        try:
            self._report = follower.look()
        except PortLostError:
            self._report = None
            raise
        return self._report

    def _hear(self, stamp_ns: int, times: int) -> None:
        self.stamp_ns, self._heard = stamp_ns, times
