# SPDX-License-Identifier: Apache-2.0
"""Observations and steps, in the RLDS convention: an episode of N actions is N + 1 steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from hilserl_core.task import TaskSpec


class StepError(ValueError):
    """A step that does not fit the task specification."""


class Mode(IntEnum):
    """Who drives, and what the steps are used for."""

    DEMONSTRATION = 0
    TRAINING = 1
    EVALUATION = 2


@dataclass(frozen=True)
class Observation:
    """What the policy sees at one instant.

    stamp_ns: time of the observation [ns]. state: shape (S,), float32, task units.
    images: camera name -> shape (image_size, image_size, 3), uint8 RGB.
    """

    stamp_ns: int
    state: np.ndarray
    images: dict[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """One observation, the action taken in it and the reward that followed.

    state: (S,) float32. images: camera -> (H, W, 3) uint8. action: (A,) float32 in [-1, 1], None in the last step of an
    episode. reward: None in the last step, and where none came in time.
    """

    run_id: str
    sequence: int
    episode: int
    index: int
    mode: Mode
    stamp_ns: int
    is_first: bool
    is_last: bool
    is_terminal: bool
    state: np.ndarray
    images: dict[str, np.ndarray]
    action: np.ndarray | None
    reward: float | None
    intervention: bool
    success: bool
    policy_version: int

    @property
    def completes_demonstration(self) -> bool:
        """Whether this step ends a demonstration that succeeded: only those are counted and imitated."""
        return self.mode == Mode.DEMONSTRATION and self.is_last and self.success


def check_step(step: Step, task: TaskSpec) -> None:
    """Raise StepError unless sizes, types and values fit the task.

    Checked: sequence from 1, flags that contradict each other, shapes, finite numbers, action in [-1, 1].
    """
    where = f"step {step.sequence} of run '{step.run_id}'"
    if step.sequence < 1:
        raise StepError(f"{where}: sequence numbers start at 1")
    if step.is_first != (step.index == 0):
        raise StepError(f"{where}: is_first is {step.is_first} at index {step.index}")
    if step.is_terminal and not step.is_last:
        raise StepError(f"{where}: is_terminal without is_last")
    if step.state.shape != (task.state_size,):
        raise StepError(f"{where}: state has shape {step.state.shape}, expected ({task.state_size},)")
    if not np.isfinite(step.state).all():
        raise StepError(f"{where}: state is not finite")
    if set(step.images) != set(task.cameras):
        raise StepError(f"{where}: images of {sorted(step.images)}, expected {sorted(task.cameras)}")
    for camera, image in step.images.items():
        if image.shape != (task.image_size, task.image_size, 3) or image.dtype != np.uint8:
            expected = (task.image_size, task.image_size, 3)
            raise StepError(f"{where}: image of {camera} is {image.dtype} {image.shape}, expected uint8 {expected}")
    if step.is_last:
        if step.action is not None:
            raise StepError(f"{where}: the last step of an episode has no action")
        return
    if step.action is None or step.action.shape != (task.action_size,):
        found = None if step.action is None else step.action.shape
        raise StepError(f"{where}: action has shape {found}, expected ({task.action_size},)")
    if not np.isfinite(step.action).all() or np.abs(step.action).max() > 1.0 + 1e-6:
        raise StepError(f"{where}: action {step.action.tolist()} leaves [-1, 1]")
    if step.reward is not None and not np.isfinite(step.reward):
        raise StepError(f"{where}: reward is {step.reward}")
