# SPDX-License-Identifier: Apache-2.0
"""The move back to the reset pose: interpolated, because an abrupt return overloads the motors."""

from __future__ import annotations

import numpy as np

FAR_RAD = 0.3
"""Largest distance [rad] of a joint from the pose that an arm holds: more means that it is stopped, limp or blocked."""


def is_far(joints: np.ndarray, pose: np.ndarray) -> bool:
    """Whether the measured joints (J,) rad are far from a pose (J,) rad; the gripper, which may hold something, is left out."""
    return float(np.abs(joints - pose)[:-1].max()) > FAR_RAD


def reset_goal(home: np.ndarray, variation_rad: float, seed: int) -> np.ndarray:
    """The reset pose (J,) rad of an episode: `home`, each joint but the last (the gripper) changed by up to `variation_rad`.

    Uniform, and the same for the same seed.
    """
    change = np.random.default_rng(seed).uniform(-variation_rad, variation_rad, len(home))
    change[-1] = 0.0
    return np.asarray(home, float) + change


class ResetMotion:
    """Joint targets from `start` to `goal`, both (J,) rad, over `duration_s`, with zero speed at both ends."""

    def __init__(self, start: np.ndarray, goal: np.ndarray, duration_s: float) -> None:
        self.start = np.asarray(start, float)
        self.goal = np.asarray(goal, float)
        self.duration_s = duration_s

    def joints(self, elapsed_s: float) -> np.ndarray:
        """Targets (J,) rad after `elapsed_s`: the minimum-jerk profile of Flash and Hogan (1985)."""
        t = float(np.clip(elapsed_s / self.duration_s, 0.0, 1.0))
        return self.start + (self.goal - self.start) * (10 * t**3 - 15 * t**4 + 6 * t**5)

    def done(self, elapsed_s: float) -> bool:
        """Whether the goal has been commanded."""
        return elapsed_s >= self.duration_s
