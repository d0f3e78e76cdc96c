# SPDX-License-Identifier: Apache-2.0
"""Where each joint may go: by the URDF in radians, and with a calibration in counts of its servo too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from so101_description import JOINTS, joint_limits
from so101_driver.calibration import Calibration, Conversion
from so101_driver.errors import SafetyError
from so101_driver.registers import COUNTS


class JointLimits:
    """Limits of all joints in their order, as the URDF has them. lower, upper: (J,) rad."""

    def __init__(self) -> None:
        self.joints = JOINTS
        limits = joint_limits()
        self.lower, self.upper = np.array([limits[joint] for joint in JOINTS]).T

    def to_goals(self, angles: Sequence[float]) -> dict[int, int]:
        """No goals: the servos are not ours."""
        return {}


class Limits(JointLimits):
    """What calibration and URDF both allow, and the way from angles to goals of servos.

    servos: ids, in the order of the joints. lowest, highest: counts by servo. middle, turn: (J,) rad,
    the middle of each calibrated range and a whole turn of its encoder.
    """

    def __init__(self, calibration: Calibration) -> None:
        """Raises SafetyError when calibration and URDF leave a joint no room."""
        super().__init__()
        self.servos = tuple(calibration[joint].id for joint in JOINTS)
        self._conversions = [Conversion.of(joint, calibration[joint]) for joint in JOINTS]
        self.lowest: dict[int, int] = {}
        self.highest: dict[int, int] = {}
        limits, bounds = joint_limits(), []
        for joint, servo, conversion in zip(JOINTS, self.servos, self._conversions, strict=True):
            motor = calibration[joint]
            ends = sorted(conversion.to_counts(angle) for angle in limits[joint])
            low, high = max(motor.range_min, math.ceil(ends[0] - 1e-6)), min(motor.range_max, math.floor(ends[1] + 1e-6))
            if low >= high:
                raise SafetyError(
                    f"{joint} may go from {motor.range_min} to {motor.range_max} by its calibration and from {ends[0]:.0f} to "
                    f"{ends[1]:.0f} by its description, which leaves nothing; calibrate the arm again"
                )
            self.lowest[servo], self.highest[servo] = low, high
            bounds.append(sorted((conversion.to_rad(low), conversion.to_rad(high))))
        self.lower, self.upper = np.array(bounds).T
        middles = [(calibration[joint].range_min + calibration[joint].range_max) / 2 for joint in JOINTS]
        self.middle = np.array([c.to_rad(middle) for c, middle in zip(self._conversions, middles, strict=True)])
        self.turn = np.array([COUNTS / abs(c.counts_per_rad) for c in self._conversions])

    def to_rad(self, counts: Mapping[int, int]) -> np.ndarray:
        """Angles (J,) rad of servo positions, which count one turn: each within half a turn of the middle of its range."""
        angles = np.array([c.to_rad(counts[servo]) for servo, c in zip(self.servos, self._conversions, strict=True)])
        return self.in_one_turn(angles)

    def in_one_turn(self, angles: np.ndarray) -> np.ndarray:
        """Angles (J,) rad as the servos count them: within half a turn of the middle of each range."""
        return angles - self.turn * np.round((angles - self.middle) / self.turn)

    def to_velocity(self, counts_per_s: Mapping[int, int]) -> np.ndarray:
        """Velocities (J,) rad/s of servo velocities."""
        return np.array(
            [counts_per_s[servo] / c.counts_per_rad for servo, c in zip(self.servos, self._conversions, strict=True)]
        )

    def to_speeds(self, velocities: Sequence[float]) -> dict[int, int]:
        """Counts/s of the servos for velocities (J,) rad/s, not below 1: 0 is no limit to a servo."""
        pairs = zip(self._conversions, velocities, strict=True)
        speeds = (max(1, round(abs(value * c.counts_per_rad))) for c, value in pairs)
        return dict(zip(self.servos, speeds, strict=True))

    def to_goals(self, angles: Sequence[float]) -> dict[int, int]:
        """Goal positions of the servos for angles (J,) rad. Whatever the angles, they lie within the limits."""
        inside = np.clip(angles, self.lower, self.upper).tolist()
        counts = (round(c.to_counts(angle)) for c, angle in zip(self._conversions, inside, strict=True))
        return {
            servo: min(max(value, self.lowest[servo]), self.highest[servo])
            for servo, value in zip(self.servos, counts, strict=True)
        }
