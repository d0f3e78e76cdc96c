# SPDX-License-Identifier: Apache-2.0
"""What each key, button and axis means. A mapping is a parameter table, so a mapping file is a ROS parameter file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hilserl_core.fields import described, tidy
from so101_driver.errors import MappingError

MOTIONS = ("x", "y", "z", "gripper")
"""In the order of the task's action."""
EVENTS = ("success", "failure", "rerecord", "stop", "pause", "resume", "ready")
"""Kinds of EpisodeEvent."""
ESTOP = "estop"
"""The press that stops the arm."""
PRESSES = (*EVENTS, ESTOP)
"""Controls that count once for each press."""


class Term(NamedTuple):
    """A key, or an axis in the direction of its sign."""

    name: str
    sign: float


def terms(text: str) -> tuple[Term, ...]:
    """Those of a field: names with a sign, the plus may be left out."""
    return tuple(Term(word.lstrip("+-"), -1.0 if word.startswith("-") else 1.0) for word in text.split())


@dataclass(frozen=True)
class Mapping:
    """Each field is a parameter `mapping.<field>`. Controls are named as the kernel does; defaults are for an Xbox pad."""

    x: str = described("-ABS_Y", "Forward; a sign is the direction, and several terms add up.")
    y: str = described("-ABS_X", "To the left.")
    z: str = described("-ABS_RY", "Up.")
    gripper: str = described("+ABS_Z -ABS_RZ", "Open.")
    hold: str = described(
        "BTN_TR", "The person drives while one of these is held; empty: while anything is pressed that moves the arm."
    )
    success: str = described("BTN_A", "The episode has succeeded.")
    failure: str = described("BTN_B", "The episode has failed.")
    rerecord: str = described("BTN_X", "The episode is to be repeated.")
    stop: str = described("BTN_MODE", "End the run.")
    pause: str = described("BTN_SELECT", "Hold; the episode ends without a verdict.")
    resume: str = described("BTN_START", "Go on with a new episode.")
    ready: str = described("BTN_THUMBR", "The cube is back and the hand away: the episode may begin.")
    estop: str = described("BTN_Y", "Emergency stop of the arm, which 'reach-grasp estop --clear' ends.")
    triggers: str = described("ABS_Z ABS_RZ", "Axes that rest at one end, not in the middle.")
    dead_zone: float = described(0.1, "Share of an axis about its rest that does nothing.", minimum=0.0, maximum=0.9)
    scale: tuple[float, ...] = described(
        (1.0, 1.0, 1.0, 1.0), "Action at full deflection: x, y, z, gripper.", minimum=0.0, maximum=1.0
    )

    def __post_init__(self) -> None:
        tidy(self, "mapping", MappingError)
        if len(self.scale) != len(MOTIONS):
            raise MappingError(f"mapping.scale has {len(self.scale)} values, expected {len(MOTIONS)}: {', '.join(MOTIONS)}")
        taken: dict[Term, str] = {}
        for field in (*MOTIONS, "hold", *PRESSES):
            for term in terms(getattr(self, field)):
                if term in taken:
                    raise MappingError(
                        f"mapping.{field} and mapping.{taken[term]} both name {term.name}; choose another for one"
                    )
                taken[term] = field

    @property
    def names(self) -> dict[str, str]:
        """Every control that is named, and a field that names it."""
        fields = (*MOTIONS, "hold", *PRESSES)
        return {term.name: field for field in fields for term in terms(getattr(self, field))}
