# SPDX-License-Identifier: Apache-2.0
"""Things that lie about on the twin's table: seen by the cameras, out of the gripper's way, and none of them red."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import mujoco
import numpy as np

from so101_sim import scene

_RING_M = (0.22, 0.34)  # distance from the middle of the cube's area: outside the workspace
_MIDDLE_M = (0.225, 0.0)
_BASE_X_M = 0.10  # nothing lies beside the arm's base
_HUES = (0.08, 0.92)  # the cube's red is at 0 and 1


def furnish(count: int, seed: int) -> Callable[[mujoco.MjSpec], None]:
    """Make a function that adds `count` things to a scene; the same seed gives the same things."""

    def add(spec: mujoco.MjSpec) -> None:
        rng = np.random.default_rng([seed, 72])
        for number in range(count):
            _add_thing(spec, f"thing_{number}", rng)

    return add


def _add_thing(spec: mujoco.MjSpec, name: str, rng: np.random.Generator) -> None:
    while True:
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(*_RING_M)
        x, y = _MIDDLE_M[0] + distance * np.cos(angle), _MIDDLE_M[1] + distance * np.sin(angle)
        if x > _BASE_X_M:
            break
    round_one = rng.uniform() < 0.5
    size = rng.uniform((0.012, 0.012, 0.008), (0.035, 0.035, 0.030))
    colour = colorsys.hsv_to_rgb(rng.uniform(*_HUES), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.95))
    spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CYLINDER if round_one else mujoco.mjtGeom.mjGEOM_BOX,
        size=(size[0], size[2], 0.0) if round_one else size,
        pos=(x, y, size[2]),
        euler=(0.0, 0.0, float(rng.uniform(-90.0, 90.0))),
        rgba=(*colour, 1.0),
        group=scene.SHOWN,
        contype=0,
        conaffinity=0,
    )
