# SPDX-License-Identifier: Apache-2.0
"""The follower arm without ROS: from its port to a hundred decisions a second. Not for use from several threads at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from so101_driver import motors
from so101_driver.arm import ArmState, Command, Decision
from so101_driver.bus import Bus
from so101_driver.calibration import Calibration
from so101_driver.connection import UNPLUGGED, Connection
from so101_driver.errors import BusError, NoAnswerError, PortLostError
from so101_driver.estop import EmergencyStop
from so101_driver.limits import Limits
from so101_driver.registers import OVERLOAD
from so101_driver.safety import Safety
from so101_driver.safety_config import SafetyConfig
from so101_driver.turns import PAST_SEAM

_HEADROOM = 1.25  # a servo may be this much faster than its goals, to catch up


@dataclass(frozen=True)
class Report:
    """One cycle. fresh: all joints were read. positions, velocities: (J,) rad, rad/s, at time_s on the follower's clock.

    loads: (J,) shares of the largest torque, -1 to 1, of which a cycle reads one. decision: None where none was made.
    """

    decision: Decision | None
    fresh: bool
    positions: np.ndarray
    velocities: np.ndarray
    loads: np.ndarray
    time_s: float


@dataclass(frozen=True)
class _Homing:
    begin: np.ndarray
    end: np.ndarray
    begun_s: float
    duration_s: float

    def at(self, now_s: float) -> np.ndarray:
        """Evenly, with a gentle start and end."""
        share = min(max((now_s - self.begun_s) / self.duration_s, 0.0), 1.0)
        return self.begin + (self.end - self.begin) * (1.0 - math.cos(math.pi * share)) / 2.0


class Follower:
    """The arm on a bus. `safety` says whether it may move; `connection` holds what was read."""

    def __init__(
        self,
        find: Callable[[], str],
        calibration: Calibration,
        config: SafetyConfig | None = None,
        *,
        estop: EmergencyStop | None = None,
        reply_timeout_s: float = 0.004,
        retries: int = 1,
        budget_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """find: gives the arm's port, also after it was plugged in elsewhere. clock: that of `cycle`'s now_s.

        estop: a person's stop, which lives longer than this object. reply_timeout_s, retries: as of a Bus. budget_s: of
        reading in one cycle.

        Raises SafetyError for impossible limits.
        """
        self.calibration, self.limits = calibration, Limits(calibration)
        self.safety = Safety(self.limits, config, estop)
        timing = {"reply_timeout_s": reply_timeout_s, "retries": retries, "budget_s": budget_s}
        self.connection = Connection(find, self.limits, **timing, clock=clock)
        self._joints = dict(zip(self.limits.servos, self.limits.joints, strict=True))
        self._homing: _Homing | None = None

    def open(self, write_calibration: bool = False) -> None:
        """Open the port and check everything. The arm stays as it is, limp or stiff.

        write_calibration: into the servos first, which makes them limp. Raises a DriverError that says what is wrong.
        """

        def prepare(bus: Bus) -> None:
            motors.check_supply(bus, self.safety.config.voltage_min_v, self.safety.config.voltage_max_v)
            if write_calibration:
                motors.store_calibration(bus, self.calibration)
            motors.check_calibration(bus, self.calibration)

        self.connection.open(prepare)

    def close(self) -> None:
        """Close the port; the servos go on holding or hanging."""
        self.safety.stop("closed")
        self.connection.close()

    def switch_on(self, clear: bool = False) -> None:
        """Torque from where the arm is, without a jump: the consent to go on after a fault.

        clear: a person's word that ends an emergency stop too, once the servos hold. Raises SafetyError while one is latched,
        or where a joint is far out of its limits, BusError when a servo does not take part; the arm stays stopped then.
        """
        estop = self.safety.estop
        if not clear:
            estop.check()
        bus = self.connection.connected()
        with bus.patiently():
            self._switch_on(bus)
        if clear and estop.reason is not None:
            estop.clear()

    def _switch_on(self, bus: Bus) -> None:
        self.connection.health.clear()  # what the servos said while they were limp
        motors.configure(bus, self.calibration, self.limits.to_speeds(self.safety.fastest * _HEADROOM))
        cycle = bus.read_state()
        if not cycle.fresh:
            raise NoAnswerError(
                f"servo {', '.join(map(str, cycle.missing))} does not say where it is; check its cable and supply"
            )
        self.connection.take(cycle)
        positions = self.connection.positions
        self._homing = None
        self.safety.reset(positions)
        try:
            for servo, goal in self.limits.to_goals(positions).items():
                bus.write(servo, "Goal_Position", goal)
                bus.write(servo, "Torque_Enable", 1)
            self.connection.hear(bus)
        except BusError:
            self.safety.stop("a servo could not be switched on")
            raise

    def switch_off(self) -> None:
        """Let go: the arm sinks. Raises BusError when a servo did not confirm it, after all were told."""
        self.safety.stop("switched off")
        bus = self.connection.connected()
        with bus.patiently():
            silent = motors.let_go(bus)
        if silent:
            names = ", ".join(map(str, silent))
            raise NoAnswerError(f"servo {names} did not confirm that it let go; check its cable and supply")

    def home(self, now_s: float, positions: np.ndarray, velocity_rad_s: float) -> float:
        """Go to positions (J,) rad, no joint faster than this on average; what others command is ignored meanwhile.

        Returns how many seconds it takes. Raises BusError while the arm is stopped or its joints are unknown.
        """
        if self.safety.stopped is not None or not np.isfinite(self.connection.positions).all():
            raise BusError(f"the arm cannot go home: {self.safety.stopped or 'its joints are not known'}")
        end = np.clip(positions, self.limits.lower, self.limits.upper)
        duration_s = max(float(np.abs(end - self.connection.positions).max()) / velocity_rad_s, 0.1)
        self._homing = _Homing(self.connection.positions.copy(), end, now_s, duration_s)
        return duration_s

    @property
    def homing(self) -> bool:
        """On its way home."""
        return self._homing is not None

    def cycle(self, now_s: float, command: Command | None = None) -> Report:
        """Read, decide, write. Never raises because of the bus: a port that is lost stops the arm and is looked for."""
        fresh = self.connection.look(now_s)
        if self.connection.bus is None:
            self.safety.stop(UNPLUGGED)
        if limp := [str(servo) for servo, item in self.connection.health.items() if not item.torque]:
            self.safety.stop(f"servo {', '.join(limp)} has lost its torque; look after its supply")
        if self.connection.turns.astray:
            self.safety.stop(f"{', '.join(self.connection.turns.astray)} {PAST_SEAM}")
        decision = self.safety.step(now_s, self._state(now_s), self._homeward(now_s) or command)
        if decision.refused:
            self._homing = None
        if self.connection.bus is not None and decision.goals is not None:
            try:
                self.connection.bus.write_goals(decision.goals)
            except PortLostError:
                self.safety.stop(UNPLUGGED)
                self.connection.close()
        return self._report(decision, fresh)

    def look(self) -> Report:
        """Read only. Raises PortLostError."""
        return self._report(None, self.connection.read())

    def _report(self, decision: Decision | None, fresh: bool) -> Report:
        connection = self.connection
        return Report(decision, fresh, connection.positions, connection.velocities, self._loads(), connection.time_s)

    def _loads(self) -> np.ndarray:
        """(J,) as last heard, NaN where never."""
        heard = (self.connection.health.get(servo) for servo in self.limits.servos)
        return np.array([math.nan if item is None else item.load for item in heard])

    def _state(self, now_s: float) -> ArmState:
        health = {self._joints[servo]: item for servo, item in self.connection.health.items()}
        return ArmState(
            self.limits.in_one_turn(self.connection.positions),  # as its servos count: that is where they hold
            max(0.0, now_s - self.connection.time_s),
            {joint: item.load for joint, item in health.items()},
            {joint: item.temperature_c for joint, item in health.items()},
            {joint: item.voltage_v for joint, item in health.items()},
            frozenset(joint for joint, item in health.items() if item.status & OVERLOAD),
        )

    def _homeward(self, now_s: float) -> Command | None:
        homing = self._homing
        if homing is None:
            return None
        if now_s > homing.begun_s + homing.duration_s:
            self._homing = None
        return Command(self.limits.joints, homing.at(now_s).tolist())
