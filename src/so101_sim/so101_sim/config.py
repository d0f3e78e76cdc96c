# SPDX-License-Identifier: Apache-2.0
"""What varies in the simulated world, and when a cube counts as grasped. Each field is a parameter `world.<field>`."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_core.fields import described, tidy


class WorldError(ValueError):
    """A world that cannot be built as asked."""


@dataclass(frozen=True)
class WorldConfig:
    """Ranges that a seed draws from, and limits. Pairs are lowest and highest."""

    cube_x_m: tuple[float, ...] = described((0.165, 0.285), "Where the cube is put, x in the base frame.")
    cube_y_m: tuple[float, ...] = described((-0.10, 0.10), "Where the cube is put, y in the base frame.")
    cube_yaw_rad: tuple[float, ...] = described((-0.7854, 0.7854), "How the cube is turned about the vertical.")
    cube_size_m: tuple[float, ...] = described((0.024, 0.026), "Edge of the cube.", minimum=0.01, maximum=0.05)
    cube_mass_kg: tuple[float, ...] = described((0.017, 0.023), "Mass of the cube.", minimum=0.001, maximum=1.0)
    friction: tuple[float, ...] = described((0.9, 1.1), "Sliding friction of the cube.", minimum=0.05, maximum=3.0)
    start_m: tuple[float, ...] = described((0.225, 0.0, 0.10), "Where the gripper starts, base frame.")
    start_spread_m: tuple[float, ...] = described((0.02, 0.03, 0.015), "How far the start varies to either side.", minimum=0.0)
    start_gripper_rad: tuple[float, ...] = described((0.25, 0.55), "How far the gripper is open at the start.")
    brightness: tuple[float, ...] = described((0.85, 1.15), "Factor on the light.", minimum=0.0, maximum=3.0)
    light_shift_m: float = described(0.15, "How far the light moves sideways.", minimum=0.0, maximum=1.0)
    colour_spread: float = described(0.03, "How far colours vary, of 0 to 1.", minimum=0.0, maximum=0.5)
    camera_shift_m: float = described(0.001, "How far the cameras are off their place.", minimum=0.0, maximum=0.05)
    camera_turn_rad: float = described(0.01, "How far the cameras are turned.", minimum=0.0, maximum=0.5)
    wrist_fovy_deg: float = described(80.0, "Vertical field of view of the wrist camera.", minimum=10.0, maximum=150.0)
    front_fovy_deg: float = described(42.0, "Vertical field of view of the front camera.", minimum=10.0, maximum=150.0)
    smooth: bool = described(False, "Smooth edges in images of the front camera, for films; twice as slow.")
    success_ticks: int = described(3, "The cube must be pinched this many ticks in a row.", minimum=1, maximum=100)
    min_force_n: float = described(0.3, "Each jaw must press on the cube at least this much.", minimum=0.0, maximum=20.0)
    max_penetration_m: float = described(
        0.0015, "A jaw that is deeper in the cube does not grasp it.", minimum=0.0, maximum=0.02
    )
    cube_area_min_m: tuple[float, ...] = described((0.10, -0.17), "A cube out of this area, x and y, ends the episode.")
    cube_area_max_m: tuple[float, ...] = described((0.36, 0.17), "A cube out of this area, x and y, ends the episode.")

    def __post_init__(self) -> None:
        tidy(self, "world", WorldError)
        lengths = {"start_m": 3, "start_spread_m": 3}
        for name, value in vars(self).items():
            if isinstance(value, tuple) and len(value) != lengths.get(name, 2):
                raise WorldError(f"world.{name} has {len(value)} values, expected {lengths.get(name, 2)}")
            pair = isinstance(value, tuple) and name not in lengths and not name.startswith("cube_area")
            if pair and value[0] > value[1]:
                raise WorldError(f"world.{name} is {list(value)}, the lowest comes first")


FIXED = WorldConfig(
    cube_size_m=(0.025, 0.025),
    cube_mass_kg=(0.020, 0.020),
    friction=(1.0, 1.0),
    brightness=(1.0, 1.0),
    light_shift_m=0.0,
    colour_spread=0.0,
    camera_shift_m=0.0,
    camera_turn_rad=0.0,
)
"""Only the places of cube and gripper vary."""
