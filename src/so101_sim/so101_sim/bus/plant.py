# SPDX-License-Identifier: Apache-2.0
"""What the servos move: an interface in joint angles, and a simple arm without mass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

COUNTS_PER_RAD = 4096 / (2 * math.pi)


@dataclass(frozen=True)
class Drive:
    """What a servo does to its joint. target_rad: where it pulls to, None when limp. torque: what it may use, 0 to 1."""

    target_rad: float | None
    torque: float


@dataclass(frozen=True)
class Shaft:
    """What a servo feels of its joint: rad, rad/s, and the torque it exerts as a share of its largest, -1 to 1."""

    position_rad: float
    velocity_rad_s: float
    torque: float


class Plant(Protocol):
    """Joints in the order of the servos."""

    def advance(self, duration_s: float, drives: Sequence[Drive]) -> None:
        """Let time pass under these drives."""

    def shafts(self) -> Sequence[Shaft]:
        """How things are now."""


@dataclass(frozen=True)
class Mounting:
    """How a servo sits on its joint. zero: what the encoder reads at 0 rad, before Homing_Offset."""

    zero: int = 2048
    counts_per_rad: float = COUNTS_PER_RAD

    def to_counts(self, angle_rad: float) -> float:
        """The encoder's reading, not yet wrapped to one turn."""
        return self.zero + angle_rad * self.counts_per_rad

    def to_rad(self, counts: float) -> float:
        """The joint's angle."""
        return (counts - self.zero) / self.counts_per_rad


class SimpleArm:
    """Joints without mass that follow their servo like a spring. An obstacle stops a joint; its servo then pushes.

    stiffness: share of the largest torque per rad between target and joint. lag_s: time to close most of a gap.
    """

    def __init__(self, positions_rad: Sequence[float], stiffness: float = 6.0, lag_s: float = 0.015) -> None:
        self._positions = list(map(float, positions_rad))
        self._velocities = [0.0] * len(self._positions)
        self._torques = [0.0] * len(self._positions)
        self._stiffness, self._lag_s = stiffness, lag_s
        self._ranges: dict[int, tuple[float, float]] = {}

    def obstruct(self, index: int, low_rad: float, high_rad: float) -> None:
        """From now on this joint cannot leave a range."""
        self._ranges[index] = (low_rad, high_rad)

    def clear(self, index: int) -> None:
        """Take the obstacle away."""
        self._ranges.pop(index, None)

    def push(self, index: int, position_rad: float) -> None:
        """A hand puts the joint there."""
        self._positions[index] = position_rad

    def advance(self, duration_s: float, drives: Sequence[Drive]) -> None:
        """Let time pass under these drives."""
        share = 1.0 - math.exp(-duration_s / self._lag_s)
        for index, drive in enumerate(drives):
            before = self._positions[index]
            target = before if drive.target_rad is None else drive.target_rad
            low, high = self._ranges.get(index, (-math.inf, math.inf))
            # With little torque it moves as if there were friction.
            moved = before + (target - before) * share * min(1.0, 4.0 * drive.torque)
            self._positions[index] = after = min(max(moved, low), high)
            self._velocities[index] = (after - before) / duration_s
            pull = (target - after) * self._stiffness
            self._torques[index] = min(max(pull, -drive.torque), drive.torque)

    def shafts(self) -> Sequence[Shaft]:
        """How things are now."""
        return [Shaft(*values) for values in zip(self._positions, self._velocities, self._torques, strict=True)]
