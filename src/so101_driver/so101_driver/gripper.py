# SPDX-License-Identifier: Apache-2.0
"""Keeps the gripper's servo from burning: after too much load for too long it presses less, until it is told to let go."""

from __future__ import annotations

import math

from so101_driver.arm import ArmState
from so101_driver.calibration import GRIPPER
from so101_driver.safety_config import SafetyConfig

EASED = "the gripper is eased: it was loaded too long"
"""Nothing is wrong: whoever holds an object for more than a moment is told so."""


class GripperGuard:
    """Remembers since when the gripper has been loaded, and since when it is eased."""

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._loaded_s: float | None = None
        self._eased_s: float | None = None
        self._side = 0.0  # in which direction it pressed

    def ease(self, now_s: float, goal: float, target: float, state: ArmState) -> tuple[float, str]:
        """The goal [rad] that may be written instead of `goal`, and why it is another one. target: where it is to go."""
        measured, config = float(state.positions[-1]), self._config
        self._watch(now_s, goal - measured, state)
        if self._eased_s is None:
            return goal, ""
        ahead = (target - measured) * self._side
        if ahead <= config.gripper_hold_rad:  # it is told to let go, or has arrived
            self._eased_s = None
            return goal, ""
        resting = now_s - self._eased_s < config.gripper_relief_s
        allowed = measured + self._side * (0.0 if resting else config.gripper_hold_rad)
        limited = min(goal, allowed) if self._side > 0 else max(goal, allowed)
        return limited, EASED

    def _watch(self, now_s: float, gap: float, state: ArmState) -> None:
        config = self._config
        if abs(state.loads.get(GRIPPER, 0.0)) < config.gripper_load:
            self._loaded_s = None
        elif self._loaded_s is None:
            self._loaded_s = now_s
        too_long = self._loaded_s is not None and now_s - self._loaded_s >= config.gripper_load_s
        if too_long or (GRIPPER in state.overloaded and self._eased_s is None):
            self._eased_s, self._loaded_s = now_s, None
            self._side = self._side if gap == 0.0 else math.copysign(1.0, gap)
