# SPDX-License-Identifier: Apache-2.0
"""What the user asks of the demo."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from hilserl_core.task import TaskSpec
from reach_grasp.errors import CommandError
from reach_grasp.values import SEEDS

REWARDS = ("classifier", "simulation")
DRIVERS = ("none", "bus")
LIMITS = {"seed": SEEDS, "minutes": (0.05, 1e5), "demonstrations": (1, 10_000), "eval_episodes": (1, 100_000)}


@dataclass(frozen=True)
class DemoSettings:
    """What determines the result of a demo; a run goes on only under the settings it began with."""

    kind: ClassVar[str] = "demo"
    seed: int = 0
    minutes: float = 10.0  # of robot time in training
    demonstrations: int = 20
    eval_episodes: int = 100
    config: str = ""  # a parameter file, '' for none
    reward: str = "classifier"  # or the simulation's own, for comparison
    driver: str = "none"  # or the real arm's, on an emulated bus

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                option = name.replace("_", "-")
                raise CommandError(f"--{option} is {getattr(self, name)}, allowed is {low} to {high}")

        if self.reward not in REWARDS:
            raise CommandError(f"--reward is {self.reward!r}, allowed is one of {', '.join(REWARDS)}")
        if self.driver not in DRIVERS:
            raise CommandError(f"--driver is {self.driver!r}, allowed is one of {', '.join(DRIVERS)}")

    @property
    def learned_reward(self) -> bool:
        """Whether a classifier says in training what success is."""
        return self.reward == "classifier"

    @property
    def steps(self) -> int:
        """Steps of training."""
        return max(1, round(self.minutes * 60.0 * TaskSpec().fps))

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return dataclasses.asdict(self)
