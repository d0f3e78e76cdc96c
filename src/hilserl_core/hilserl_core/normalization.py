# SPDX-License-Identifier: Apache-2.0
"""Normalisation as LeRobot's preprocessor does it: images by ImageNet's mean and deviation, the state by its range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hilserl_core.errors import PolicyError
from hilserl_core.task import STATE_PARTS, TaskSpec

IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB in [0, 1]
IMAGE_STD = (0.229, 0.224, 0.225)

# No part of the state is ever stretched more than this: a joint that stands still in the demonstrations must not explode.
_MIN_WIDTH = {"joint_positions": 0.2, "joint_velocities": 1.0, "gripper_position": 0.05, "gripper_euler": 0.2}
# Where nothing is known yet, of parts whose range is not in the task specification.
_DEFAULT_HALF_WIDTH = {"joint_positions": np.pi / 2, "joint_velocities": 2.0, "gripper_euler": np.pi / 2}


@dataclass(frozen=True)
class Normalization:
    """The state's range, which becomes [-1, 1]. state_min, state_max: (S,) float32, task units."""

    state_min: np.ndarray
    state_max: np.ndarray

    def __post_init__(self) -> None:
        for name in ("state_min", "state_max"):
            value = np.array(getattr(self, name), np.float32)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if self.state_min.ndim != 1 or self.state_min.shape != self.state_max.shape:
            raise PolicyError(
                f"the state's range has shapes {self.state_min.shape} and {self.state_max.shape}, expected two equal (S,)"
            )
        if not (np.isfinite(self.state_min).all() and np.isfinite(self.state_max).all()):
            raise PolicyError("the state's range is not finite")
        if not (self.state_min < self.state_max).all():
            index = int(np.argmin(self.state_max - self.state_min))
            raise PolicyError(
                f"the state's range is empty at index {index}: {self.state_min[index]} to {self.state_max[index]}"
            )

    @classmethod
    def default(cls, task: TaskSpec) -> Normalization:
        """A range from the task specification alone, for a start without data."""
        low, high = [], []
        for part, size in _parts(task):
            if part == "gripper_position":
                low += list(task.workspace_min_m)
                high += list(task.workspace_max_m)
            else:
                low += [-_DEFAULT_HALF_WIDTH[part]] * size
                high += [_DEFAULT_HALF_WIDTH[part]] * size
        return cls(np.array(low), np.array(high))

    @classmethod
    def from_states(cls, states: np.ndarray, task: TaskSpec) -> Normalization:
        """The range of recorded states, (N, S), N > 0, widened about its centre where it is narrower than sensible."""
        states = np.asarray(states, np.float32)
        if states.ndim != 2 or states.shape[1] != task.state_size or not len(states) or not np.isfinite(states).all():
            raise PolicyError(f"a range needs finite states of shape (N, {task.state_size}), found {states.shape}")
        width = np.concatenate([np.full(size, _MIN_WIDTH[part]) for part, size in _parts(task)])
        low, high = states.min(0), states.max(0)
        centre, half = (low + high) / 2, np.maximum(high - low, width) / 2
        return cls(centre - half, centre + half)

    def apply(self, state: torch.Tensor) -> torch.Tensor:
        """State (..., S) in task units -> float32 in about [-1, 1]."""
        low, high = torch.tensor(self.state_min), torch.tensor(self.state_max)
        return 2 * (state.float() - low) / (high - low) - 1

    def statistics(self, task: TaskSpec) -> dict[str, dict[str, torch.Tensor]]:
        """LeRobot's dataset statistics by feature name; the action's range is [-1, 1], so its unnormaliser changes nothing."""
        image = {"mean": torch.tensor(IMAGE_MEAN).view(3, 1, 1), "std": torch.tensor(IMAGE_STD).view(3, 1, 1)}
        ones = torch.ones(task.action_size)
        return {
            **dict.fromkeys(task.image_keys, image),
            "observation.state": {"min": torch.tensor(self.state_min), "max": torch.tensor(self.state_max)},
            "action": {"min": -ones, "max": ones},
        }


def _parts(task: TaskSpec) -> list[tuple[str, int]]:
    return [(part, STATE_PARTS[part] or len(task.joints)) for part in task.state]
