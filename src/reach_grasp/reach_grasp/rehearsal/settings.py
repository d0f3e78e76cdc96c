# SPDX-License-Identifier: Apache-2.0
"""The settings of a rehearsal."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from hilserl_core.task import TaskSpec
from reach_grasp.errors import CommandError
from reach_grasp.values import SEEDS

LIMITS = {
    "seed": SEEDS, "minutes": (0.05, 1e5), "demonstrations": (2, 10_000), "eval_episodes": (1, 100_000),
    "imitation_episodes": (1, 100_000),
}  # fmt: skip


@dataclass(frozen=True)
class RehearsalSettings:
    """Settings that determine a rehearsal; a run goes on only under the settings it began with."""

    kind: ClassVar[str] = "rehearsal"
    seed: int = 0
    minutes: float = 10.0  # of robot time in training
    demonstrations: int = 20
    eval_episodes: int = 100
    imitation_episodes: int = 30
    config: str = ""  # a parameter file beside the twin's station.yaml, '' for none

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                option = name.replace("_", "-")
                raise CommandError(f"--{option} is {getattr(self, name)}, allowed is {low} to {high}")

    @property
    def steps(self) -> int:
        """Steps of training."""
        return max(1, round(self.minutes * 60.0 * TaskSpec().fps))

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return dataclasses.asdict(self)
