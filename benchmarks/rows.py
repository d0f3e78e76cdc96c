# SPDX-License-Identifier: Apache-2.0
"""One row of the benchmark table: two figures, their ratio and whether the target is met."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Better(Enum):
    """Which way a figure improves."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True)
class Target:
    """What a row must reach. kind: "ratio" (ours against LeRobot), "at_most" or "at_least" (ours, in the row's unit)."""

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in ("ratio", "at_most", "at_least"):
            raise ValueError(f"a target's kind is '{self.kind}', allowed: ratio, at_most, at_least")

    def __str__(self) -> str:
        return {"ratio": "ratio ≥ {:g}", "at_most": "≤ {:g}", "at_least": "≥ {:g}"}[self.kind].format(self.value)


@dataclass(frozen=True)
class Row:
    """A measured comparison. `lerobot` is None where LeRobot has no counterpart, `ours` is None when it was not measured.

    `conditions` holds what a reader needs to repeat the figure; `note` says in words what it does and does not show.
    """

    name: str
    ours: float | None
    lerobot: float | None
    unit: str
    better: Better = Better.LOWER
    target: Target | None = None
    note: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for side in (self.ours, self.lerobot):
            if side is not None and not (math.isfinite(side) and side > 0):
                raise ValueError(f"row '{self.name}': {side} {self.unit} is not a positive figure")

    @property
    def ratio(self) -> float | None:
        """How many times better we are: above 1 where we win. None without both figures."""
        if self.ours is None or self.lerobot is None:
            return None
        return self.lerobot / self.ours if self.better is Better.LOWER else self.ours / self.lerobot

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None for a row without one, False for one that was not measured."""
        if self.target is None:
            return None
        figure = self.ratio if self.target.kind == "ratio" else self.ours
        if figure is None:
            return False
        return figure <= self.target.value if self.target.kind == "at_most" else figure >= self.target.value

    def as_dict(self) -> dict[str, Any]:
        """The row as bench.json holds it."""
        return {
            "name": self.name,
            "ours": self.ours,
            "lerobot": self.lerobot,
            "ratio": self.ratio,
            "unit": self.unit,
            "target": None if self.target is None else str(self.target),
            "met": self.met,
            "note": self.note,
            "conditions": self.conditions,
        }
