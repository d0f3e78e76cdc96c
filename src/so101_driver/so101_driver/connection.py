# SPDX-License-Identifier: Apache-2.0
"""An arm's bus that may be unplugged and come back, and what was last read of its joints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from so101_driver.bus import Bus, Cycle, Health
from so101_driver.errors import BusError, PortLostError
from so101_driver.limits import Limits
from so101_driver.turns import Turns

UNPLUGGED = "the arm was unplugged"
_RECONNECT_S = 0.5


class Connection:
    """Not for use from several threads at once.

    bus: None while there is none. health: what its servos said last, by id. positions, velocities: (J,) rad, rad/s, NaN
    before all joints were read, the oldest of them at time_s on the clock. turns: how positions go on over an encoder's seam.
    """

    def __init__(
        self,
        find: Callable[[], str],
        limits: Limits,
        *,
        reply_timeout_s: float = 0.004,
        retries: int = 1,
        budget_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """find: gives the arm's port, also after it was plugged in elsewhere. clock: gives time_s [s].

        budget_s: a look takes no longer; what has not come by then is missing in it.
        """
        self.limits = limits
        self.bus: Bus | None = None
        self.health: dict[int, Health] = {}
        self.positions = np.full(len(limits.joints), math.nan)
        self.velocities, self.time_s = self.positions.copy(), 0.0
        self.turns = Turns(limits)
        self._find, self._options = find, {"reply_timeout_s": reply_timeout_s, "retries": retries, "clock": clock}
        self._tried_s, self._budget_s = -math.inf, budget_s

    def open(self, prepare: Callable[[Bus], None]) -> None:
        """Open the port, see that all servos are there, prepare them. Raises a DriverError that says what is wrong."""
        bus = self._opened()
        try:
            with bus.patiently():
                bus.check()
                prepare(bus)
        except BaseException:
            bus.close()
            raise
        self.bus = bus

    def close(self) -> None:
        """Close the port; the servos go on as they are."""
        self.health.clear()
        if self.bus is not None:
            self.bus.close()
            self.bus = None

    def look(self, now_s: float) -> bool:
        """Read all joints and one servo's health; whether all joints are new.

        Never raises because of the bus: a port that is lost is closed and looked for now and then.
        """
        if self.bus is None:
            self._reconnect(now_s)
        if self.bus is None:
            return False
        try:
            return self.read()
        except PortLostError:
            self.close()
            return False

    def connected(self) -> Bus:
        """The bus. Raises PortLostError while there is none."""
        if self.bus is None:
            raise PortLostError(f"{UNPLUGGED}; plug it in again")
        return self.bus

    def read(self) -> bool:
        """As `look`, but raises PortLostError."""
        bus = self.connected()
        with bus.within(self._budget_s):
            cycle = bus.read_state()
            if (health := bus.read_health()) is not None:
                self.health[health.servo] = health
        self.take(cycle)
        return cycle.fresh

    def take(self, cycle: Cycle) -> None:
        """Take the samples of a cycle once every joint has been read."""
        samples = cycle.samples
        if len(samples) < len(self.limits.servos):
            return
        times_s = np.array([samples[servo].time_s for servo in self.limits.servos])
        readings = self.limits.to_rad({servo: sample.position for servo, sample in samples.items()})
        self.positions = self.turns.follow(readings, times_s)
        self.velocities = self.limits.to_velocity({servo: sample.velocity for servo, sample in samples.items()})
        self.time_s = float(times_s.min())

    def hear(self, bus: Bus) -> None:
        """Ask every servo for its health. Raises PortLostError."""
        for _ in range(len(bus.ids) * (1 + bus.retries)):
            if len(self.health) < len(bus.ids) and (health := bus.read_health()) is not None:
                self.health[health.servo] = health

    def _reconnect(self, now_s: float) -> None:
        if now_s - self._tried_s < _RECONNECT_S:
            return
        self._tried_s = now_s
        try:
            self.bus = self._opened()
        except BusError:
            return

    def _opened(self) -> Bus:
        bus = Bus(self._find(), self.limits.servos, **self._options)
        bus.open()
        return bus
