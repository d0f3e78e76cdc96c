# SPDX-License-Identifier: Apache-2.0
"""The leader arm without ROS: read, let `Handover` decide, make the servos do it. Not for use from several threads at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from so101_driver import motors
from so101_driver.bus import Bus
from so101_driver.calibration import GRIPPER, Calibration
from so101_driver.connection import UNPLUGGED, Connection
from so101_driver.errors import BusError, NoAnswerError, PortLostError
from so101_driver.handover import Handover, HandoverConfig, Sight, State
from so101_driver.limits import Limits

_HEADROOM = 1.25  # a servo may be this much faster than its goals, to catch up
_GRIPPER_TORQUE = 0.5  # as LeRobot spares it
_INSIST_S = 1.0


@dataclass(frozen=True)
class Report:
    """One cycle. fresh: all joints were read. positions, velocities: (J,) rad, rad/s, at time_s on the steady clock."""

    state: State
    fresh: bool
    positions: np.ndarray
    velocities: np.ndarray
    time_s: float


class Leader:
    """The arm on a bus. `handover` says who drives; `connection` holds what was read."""

    def __init__(
        self,
        find: Callable[[], str],
        calibration: Calibration,
        config: HandoverConfig | None = None,
        *,
        reply_timeout_s: float = 0.004,
        retries: int = 1,
        budget_s: float = math.inf,
    ) -> None:
        """find: gives the arm's port, also after it was plugged in elsewhere. Raises SafetyError for impossible limits."""
        self.calibration, self.limits = calibration, Limits(calibration)
        timing = {"reply_timeout_s": reply_timeout_s, "retries": retries, "budget_s": budget_s}
        self.connection = Connection(find, self.limits, **timing)
        self.handover = Handover(self.limits.lower, self.limits.upper, config)
        self.cycles = self.incomplete = 0
        self._torque: dict[int, bool | None] = {}  # as each servo confirmed it, None: not known
        self._forget()

    def _forget(self) -> None:
        self._torque = dict.fromkeys(self.limits.servos)
        self._configured = False

    @property
    def unconfirmed(self) -> tuple[int, ...]:
        """Servos of which it is not known whether they have torque."""
        return tuple(servo for servo, torque in self._torque.items() if torque is None)

    def open(self, write_calibration: bool = False) -> None:
        """Open the port, check everything, let go. Raises a DriverError that says what is wrong."""

        def prepare(bus: Bus) -> None:
            for servo in self.limits.servos:
                bus.write(servo, "Torque_Enable", 0)
            if write_calibration:
                motors.store_calibration(bus, self.calibration)
            motors.check_calibration(bus, self.calibration)

        self.connection.open(prepare)

    def close(self) -> None:
        """Close the port; the servos stay as they are."""
        self.connection.close()

    def cycle(self, now_s: float, robot: np.ndarray | None = None, robot_age_s: float = 0.0) -> Report:
        """Read, decide, write. robot: (J,) rad, its joints as last heard. Never raises because of the bus."""
        connection = self.connection
        fresh = connection.look(now_s)
        self.cycles, self.incomplete = self.cycles + 1, self.incomplete + (not fresh)
        self._watch_torque(now_s)
        age_s = math.inf if connection.bus is None else time.monotonic() - connection.time_s
        sight = Sight(connection.positions, age_s, robot, robot_age_s, connection.turns.astray)
        goal = self.handover.step(now_s, sight)
        if connection.bus is None:
            self._forget()
        else:
            self._carry_out(connection.bus, now_s, goal)
        return Report(self.handover.state, fresh, connection.positions, connection.velocities, connection.time_s)

    def _watch_torque(self, now_s: float) -> None:
        """A supply that failed for a moment takes the torque: an arm that sinks is not one that a hand moves."""
        health = self.connection.health
        if limp := [
            str(servo) for servo, torque in self._torque.items() if torque and servo in health and not health[servo].torque
        ]:
            self._forget()
            self.handover.fail(now_s, f"servo {', '.join(limp)} has lost its torque; look after the leader's supply")

    def _carry_out(self, bus: Bus, now_s: float, goal: np.ndarray | None) -> None:
        try:
            if goal is not None and self._switch_on(bus, now_s, goal):
                bus.write_goals(self.limits.to_goals(goal))
            else:
                self._switch_off(bus)
        except PortLostError:
            self.connection.close()
            self._forget()

    def _switch_on(self, bus: Bus, now_s: float, goal: np.ndarray) -> bool:
        """Torque at a goal, in all joints or, when a servo does not take part, in none. Returns whether it is on."""
        if all(self._torque.values()):
            return True
        try:
            with bus.patiently():
                self._configure(bus)
                for servo, counts in self.limits.to_goals(goal).items():
                    bus.write(servo, "Goal_Position", counts)
                    self._torque[servo] = None
                    bus.write(servo, "Torque_Enable", 1)
                    self._torque[servo] = True
        except NoAnswerError as error:
            self.handover.fail(now_s, str(error))
            return False
        self.connection.health.clear()  # what was heard before says nothing about this torque
        return True

    def _configure(self, bus: Bus) -> None:
        if self._configured:
            return
        config = self.handover.config
        fastest = [config.follow_velocity_rad_s * _HEADROOM] * len(self.limits.joints)
        motors.configure(bus, self.calibration, self.limits.to_speeds(fastest))
        for joint, motor in self.calibration.items():
            share = min(config.torque, _GRIPPER_TORQUE) if joint == GRIPPER else config.torque
            bus.write(motor.id, "Torque_Limit", round(1000 * share))
        self._configured = True

    def _switch_off(self, bus: Bus) -> None:
        """Let every joint go that has not confirmed it yet. What fails is tried again in the next cycle."""
        for servo, torque in self._torque.items():
            if torque is False:
                continue
            self._torque[servo] = None
            try:
                with bus.patiently():
                    bus.write(servo, "Torque_Enable", 0)
                self._torque[servo] = False
            except NoAnswerError:
                self._configured = False  # it may have lost power, and its settings with it

    def let_go(self) -> None:
        """Let go for good: tries for a second. Raises BusError when a servo has not confirmed it then."""
        end_s = time.monotonic() + _INSIST_S
        try:
            while self.connection.bus is not None:
                self._switch_off(self.connection.bus)
                if not (left := [servo for servo, torque in self._torque.items() if torque is not False]):
                    return
                if time.monotonic() > end_s:
                    raise BusError(f"servo {', '.join(map(str, left))} did not let go; switch the leader's supply off")
        except PortLostError:
            self.connection.close()
        raise BusError(f"{UNPLUGGED}: it may still hold; switch the leader's supply off")
