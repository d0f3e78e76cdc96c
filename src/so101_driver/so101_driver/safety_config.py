# SPDX-License-Identifier: Apache-2.0
"""How far the arm may be trusted: the limits that `Safety` keeps, each a parameter `safety.<field>`."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_core.fields import described, tidy
from so101_driver.errors import SafetyError


@dataclass(frozen=True)
class CommandLimits:
    """Limits on what is commanded, whoever has the servos. Each field is a parameter `safety.<field>`."""

    command_timeout_s: float = described(0.25, "A command older than this is refused.", minimum=0.01, maximum=10.0)
    watchdog_s: float = described(0.25, "Without a command for this long the arm holds.", minimum=0.02, maximum=10.0)
    ramp_s: float = described(
        0.1,
        "A command's target is approached evenly over this time, or over that between commands if it is shorter.",
        minimum=0.0,
        maximum=1.0,
    )
    max_velocity_rad_s: float = described(2.0, "No joint of the arm is told to move faster.", minimum=0.05, maximum=6.0)
    gripper_velocity_rad_s: float = described(4.0, "The gripper is not told to move faster.", minimum=0.05, maximum=6.0)
    max_step_rad: float = described(0.08, "No goal is farther than this from the one before.", minimum=0.001, maximum=0.5)
    start_slack_rad: float = described(
        0.1, "A joint farther outside its limits than this cannot be switched on.", minimum=0.0, maximum=0.5
    )
    state_timeout_s: float = described(0.1, "With positions older than this no goals are written.", minimum=0.01, maximum=1.0)
    lost_s: float = described(
        1.0,
        "A servo silent, or a driver that stood still, for this long stops the arm until consent.",
        minimum=0.1,
        maximum=60.0,
    )

    def __post_init__(self) -> None:
        tidy(self, "safety", SafetyError)
        if self.state_timeout_s > self.lost_s:
            raise SafetyError("safety.state_timeout_s must not be above lost_s")


@dataclass(frozen=True)
class SafetyConfig(CommandLimits):
    """With those of servos on a bus of ours."""

    hot_c: float = described(60.0, "At this temperature of a servo the arm holds.", minimum=30.0, maximum=69.0)
    cool_c: float = described(55.0, "Below this one it goes on.", minimum=20.0, maximum=69.0)
    voltage_min_v: float = described(4.5, "With less at a servo the arm holds.", minimum=4.0, maximum=12.0)
    voltage_max_v: float = described(7.9, "With more at a servo the arm holds.", minimum=5.0, maximum=14.0)
    gripper_load: float = described(
        0.4, "Share of the largest torque that is too much for the gripper for long.", minimum=0.05, maximum=1.0
    )
    gripper_load_s: float = described(1.0, "For how long it may be.", minimum=0.05, maximum=10.0)
    gripper_relief_s: float = described(0.3, "Then the gripper rests for this long.", minimum=0.0, maximum=5.0)
    gripper_hold_rad: float = described(
        0.03, "After that it presses as if its goal were this far inside.", minimum=0.0, maximum=0.3
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cool_c > self.hot_c or self.voltage_min_v > self.voltage_max_v:
            raise SafetyError("safety.cool_c must not be above hot_c, voltage_min_v not above voltage_max_v")
