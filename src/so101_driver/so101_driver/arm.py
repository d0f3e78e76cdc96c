# SPDX-License-Identifier: Apache-2.0
"""What goes into a safety decision and what comes out: the arm's state, a command, the decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np


@dataclass(frozen=True)
class Command:
    """What somebody wants: a position [rad] for each joint by name, and how old that wish is [s]."""

    joints: Sequence[str]
    positions: Sequence[float]
    age_s: float = 0.0


@dataclass(frozen=True)
class ArmState:
    """What the bus says. positions: (J,) rad, the oldest read age_s ago. The rest by joint, as last heard, empty if never.

    loads: -1 to 1. temperatures: °C. voltages: V. overloaded: joints whose servo has cut its torque because of load.
    """

    positions: np.ndarray
    age_s: float = 0.0
    loads: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    voltages: Mapping[str, float] = field(default_factory=dict)
    overloaded: frozenset[str] = frozenset()


class Mode(Enum):
    """What the arm does."""

    FOLLOW = "follow"  # the newest command
    HOLD = "hold"  # where it is, until there is a good command
    STOPPED = "stopped"  # until it is reset


@dataclass(frozen=True)
class Decision:
    """What to write now. goals: counts by servo of ours, None for nothing. positions: the same as angles (J,) rad.

    refused: why the command was not taken. reasons: why the arm does not simply follow. clipped: joints asked for too much.
    """

    goals: Mapping[int, int] | None
    positions: np.ndarray
    mode: Mode
    refused: str = ""
    reasons: tuple[str, ...] = ()
    clipped: tuple[str, ...] = ()
