# SPDX-License-Identifier: Apache-2.0
"""The twin's two arms, which their servos move. A hand can move a joint that has no torque."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from so101_description import JOINTS, joint_limits
from so101_sim.bus.plant import COUNTS_PER_RAD, Drive, Mounting, Plant, Shaft
from so101_sim.station.settings import ArmSettings, ServoSettings, StationError

_SERVO_MIDDLE = 2048  # counts
_STIFFNESS = 6.0  # of the leader's servos: share of the largest torque per rad
_LAG_S = 0.015


def odd_mountings(settings: ArmSettings, seed: int, arm: int) -> tuple[Mounting, ...]:
    """Mountings of an arm's servos: each reads another count in the middle of its joint. arm: 0 follower, 1 leader."""
    rng = np.random.default_rng([seed, 71, arm])
    spread = settings.zero_spread_counts
    mountings = []
    for low, high in (joint_limits()[joint] for joint in JOINTS):
        middle = _SERVO_MIDDLE + int(rng.integers(-spread, spread + 1))
        mountings.append(Mounting(round(middle - COUNTS_PER_RAD * (low + high) / 2)))
    return tuple(mountings)


class Hands:
    """Hands of a person on one arm: the joints they hold, and the angle [rad] they move each to."""

    def __init__(self, velocity_rad_s: float) -> None:
        self._velocity_rad_s = velocity_rad_s
        self._held: dict[int, float] = {}

    def hold(self, joints: Mapping[str, float]) -> None:
        """Take hold of joints, by name, and move each there [rad]. Beyond an end it pushes. Raises StationError."""
        for joint, angle in joints.items():
            if joint not in JOINTS:
                raise StationError(f"the arm has no joint '{joint}', only {', '.join(JOINTS)}")
            if not isinstance(angle, (int, float)) or not math.isfinite(angle):
                raise StationError(f"{joint} cannot be moved to {angle!r}, expected an angle in rad")
        self._held |= {JOINTS.index(joint): float(angle) for joint, angle in joints.items()}

    def release(self) -> None:
        """Let the whole arm go."""
        self._held = {}

    def moved(self, index: int, position_rad: float, duration_s: float) -> float | None:
        """Angle [rad] to which the hand has moved a joint from `position_rad` in `duration_s`; None where no hand holds it."""
        target = self._held.get(index)
        if target is None:
            return None
        reach = self._velocity_rad_s * duration_s
        return position_rad + min(max(target - position_rad, -reach), reach)


class FollowerArm:
    """The simulated arm, with the imperfections between a servo's set point and its joint: delay, backlash, dead band."""

    def __init__(self, plant: Plant, hands: Hands, settings: ServoSettings, step_s: float) -> None:
        """plant: the arm without these imperfections. step_s: the length of each `advance`."""
        self.hands = hands
        self._plant, self._settings = plant, settings
        self._coming: deque[list[Drive]] = deque()
        self._delay_steps = round(settings.delay_s / step_s)
        self._gears: list[float | None] = [None] * len(JOINTS)  # angle [rad] to which the output side of each gear is pulled
        self._by_hand: dict[int, float] = {}

    def advance(self, duration_s: float, drives: Sequence[Drive]) -> None:
        """Let time pass under these drives."""
        self._coming.append(list(drives))
        delayed = self._coming.popleft() if len(self._coming) > self._delay_steps else self._coming[0]
        shafts = self._plant.shafts()
        pulls = [self._pull(i, drive, shafts[i].position_rad, duration_s) for i, drive in enumerate(delayed)]
        self._plant.advance(duration_s, pulls)

    def _pull(self, index: int, drive: Drive, position_rad: float, duration_s: float) -> Drive:
        if drive.target_rad is None:
            self._gears[index] = None
            return self._carried(index, position_rad, duration_s)
        self._by_hand.pop(index, None)
        play = self._settings.backlash_rad / 2
        before = self._gears[index]
        gear = drive.target_rad if before is None else min(max(before, drive.target_rad - play), drive.target_rad + play)
        self._gears[index] = gear
        error, band = gear - position_rad, self._settings.dead_band_rad
        wanted = math.copysign(max(0.0, abs(error) - band), error)
        return Drive(position_rad + wanted, drive.torque)

    def _carried(self, index: int, position_rad: float, duration_s: float) -> Drive:
        """Drive of a limp joint under a hand, which acts as a strong servo: it moves the joint and then holds it there."""
        target = self.hands.moved(index, self._by_hand.get(index, position_rad), duration_s)
        if target is None:
            self._by_hand.pop(index, None)
            return Drive(None, 0.0)
        self._by_hand[index] = target
        return Drive(target, 1.0)

    def shafts(self) -> Sequence[Shaft]:
        """State of each joint now. A joint in a hand shows no torque, since a servo's current does not feel the hand."""
        return [
            Shaft(shaft.position_rad, shaft.velocity_rad_s, 0.0) if index in self._by_hand else shaft
            for index, shaft in enumerate(self._plant.shafts())
        ]


class LeaderArm:
    """An arm without mass. A hand is stronger than a servo; where neither acts, the gears' friction holds a joint."""

    def __init__(self, positions_rad: Sequence[float], hands: Hands) -> None:
        self.hands = hands
        self._limits = [joint_limits()[joint] for joint in JOINTS]
        self._positions = list(map(float, positions_rad))
        self._velocities = [0.0] * len(JOINTS)
        self._torques = [0.0] * len(JOINTS)

    def advance(self, duration_s: float, drives: Sequence[Drive]) -> None:
        """Let time pass under these drives."""
        share = 1.0 - math.exp(-duration_s / _LAG_S)
        for index, drive in enumerate(drives):
            before = self._positions[index]
            target = before if drive.target_rad is None else drive.target_rad
            held = self.hands.moved(index, before, duration_s)
            after = before + (target - before) * share * min(1.0, 4.0 * drive.torque) if held is None else held
            low, high = self._limits[index]
            self._positions[index] = after = min(max(after, low), high)
            self._velocities[index] = (after - before) / duration_s
            self._torques[index] = min(max((target - after) * _STIFFNESS, -drive.torque), drive.torque)

    def shafts(self) -> Sequence[Shaft]:
        """State of each joint now."""
        return [Shaft(*values) for values in zip(self._positions, self._velocities, self._torques, strict=True)]
