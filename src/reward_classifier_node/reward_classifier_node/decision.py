# SPDX-License-Identifier: Apache-2.0
"""From a stream of probabilities to success: several frames in a row, hysteresis, and a gate on what the gripper feels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from reward_classifier_node.errors import ClassifierError


class Gripper(NamedTuple):
    """What the gripper's joint reports: position [rad], speed [rad/s], effort in the unit of `joint_states`."""

    position: float
    speed: float = 0.0
    effort: float = 0.0


@dataclass(frozen=True)
class Gate:
    """When a gripper is closed on something. Raises ClassifierError.

    min_rad, max_rad: lowest and highest position of its joint that can hold something. min_effort: it presses at least so much,
    in the unit of `joint_states`; max_speed: and moves at most so fast [rad/s]; both in whatever direction, 0 does not ask.
    """

    min_rad: float
    max_rad: float
    min_effort: float = 0.0
    max_speed: float = 0.0

    def __post_init__(self) -> None:
        if self.min_rad >= self.max_rad:
            raise ClassifierError(f"the gate is {[self.min_rad, self.max_rad]} rad, expected the lowest first")

    def holds(self, gripper: Gripper) -> bool:
        """Whether it is closed on something."""
        still = not self.max_speed or abs(gripper.speed) <= self.max_speed
        return self.min_rad <= gripper.position <= self.max_rad and abs(gripper.effort) >= self.min_effort and still


@dataclass(frozen=True)
class Rule:
    """When frames count as a success.

    threshold: a frame shows it when its probability is above this. debounce: so many frames in a row begin a success.
    hysteresis: a success goes on while the probability is above (1 - hysteresis) * threshold. gate: what the gripper
    has to feel besides; None for no gate. Raises ClassifierError.
    """

    threshold: float
    debounce: int = 3
    hysteresis: float = 0.3
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ClassifierError(f"the threshold is {self.threshold}, expected a probability from 0 to 1")
        if self.debounce < 1:
            raise ClassifierError(f"debounce is {self.debounce}, expected at least 1 frame")
        if not 0.0 <= self.hysteresis <= 1.0:
            raise ClassifierError(f"hysteresis is {self.hysteresis}, expected a share from 0 to 1")

    @property
    def lower_threshold(self) -> float:
        """A success ends at this probability or below."""
        return (1.0 - self.hysteresis) * self.threshold


class Judge:
    """Judges frame after frame; only their sequence counts, never when they arrive."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.success = False
        self._row = 0  # frames in a row that show a success

    def restart(self) -> None:
        """Forget all frames: the next one follows none."""
        self.success, self._row = False, 0

    def judge(self, probability: float, gripper: Gripper | None = None) -> bool:
        """Whether this frame, the next one, is a success. gripper: needed where the rule has a gate.

        A probability that is not finite shows no success. Raises ClassifierError for a gate without gripper.
        """
        rule = self.rule
        held = True
        if rule.gate is not None:
            if gripper is None:
                raise ClassifierError("the gate asks what the gripper reports, and that was not given")
            held = rule.gate.holds(gripper)
        self._row = self._row + 1 if held and probability > rule.threshold else 0
        goes_on = self.success and held and probability > rule.lower_threshold
        self.success = goes_on or self._row >= rule.debounce
        return self.success


def decide(
    probabilities: np.ndarray, rule: Rule, episodes: np.ndarray | None = None, grippers: np.ndarray | None = None
) -> np.ndarray:
    """Success of recorded frames, (N,) bool, from probabilities (N,) in the order of time.

    episodes: (N,) what each frame belongs to; every change begins anew. One episode where it is None. grippers: (N, 3) of
    Gripper's fields, needed where the rule has a gate. Raises ClassifierError when the lengths differ.
    """
    for name, values in (("episodes", episodes), ("gripper readings", grippers)):
        if values is not None and len(values) != len(probabilities):
            raise ClassifierError(f"there are {len(probabilities)} probabilities and {len(values)} {name}, expected one each")
    judge, success = Judge(rule), np.zeros(len(probabilities), bool)
    for row, probability in enumerate(probabilities):
        if row and episodes is not None and episodes[row] != episodes[row - 1]:
            judge.restart()
        success[row] = judge.judge(float(probability), None if grippers is None else Gripper(*map(float, grippers[row])))
    return success
