# SPDX-License-Identifier: Apache-2.0
"""Builds the MuJoCo model: the arm from its URDF, a table, a cube, cameras and servos that can grasp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from so101_sim.config import WorldConfig

TIMESTEP_S = 0.005
FRICTION = (1.0, 0.005, 0.0001)
# Default contacts let the pads sink more than 5 mm into the cube; these keep them within 0.6 mm.
SOLREF = (0.01, 1.0)
SOLIMP = (0.99, 0.999, 0.001, 0.5, 2.0)
KP, KV = 998.22, 2.731  # of the servos [N·m/rad], [N·m·s/rad]
ARM_TORQUE, GRIPPER_TORQUE = 3.35, 1.0  # [N·m]
DAMPING, FRICTION_LOSS, ARMATURE = 0.60, 0.052, 0.028

JAWS = (("fixed_pad", "fixed_jaw_collision"), ("moving_pad", "moving_jaw_collision"))  # what can hold: each jaw with its pad
CAMERAS = ("wrist", "front")
CUBE_COLOUR = (0.80, 0.09, 0.07)
TABLE_COLOUR = (0.66, 0.64, 0.60)
SHOWN = 1  # geom group of what cameras see; group 0 holds the collision shapes of the arm
_TABLE, _ARM = 1, 2  # bits of contacts: everything touches table and cube, parts of the arm do not touch one another
_OPTICAL_TO_MUJOCO = (0.0, 1.0, 0.0, 0.0)  # z forward, y down -> z backward, y up


def build(
    urdf: Path,
    joints: tuple[str, ...],
    config: WorldConfig,
    largest: tuple[int, int] = (1920, 1080),
    furnish: Callable[[mujoco.MjSpec], None] | None = None,
) -> mujoco.MjModel:
    """The model. joints: names in the order of the actuators. largest: width, height of an image. furnish: adds more."""
    spec = mujoco.MjSpec.from_file(str(urdf))
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = largest
    spec.visual.quality.shadowsize = 1024
    spec.visual.quality.offsamples = 4
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 20.0
    spec.stat.extent, spec.stat.center = 0.5, (0.2, 0.0, 0.05)
    spec.visual.headlight.ambient = (0.38, 0.38, 0.38)
    spec.visual.headlight.diffuse = (0.22, 0.22, 0.22)
    spec.visual.headlight.specular = (0.05, 0.05, 0.05)
    _add_surroundings(spec)
    _add_cube(spec)
    if furnish is not None:
        furnish(spec)
    for geom in spec.geoms:
        _set_contact(geom)
    for name in joints:
        joint = spec.joint(name)
        joint.damping = np.array([DAMPING, 0.0, 0.0]) if np.ndim(joint.damping) else DAMPING
        joint.frictionloss, joint.armature = FRICTION_LOSS, ARMATURE
        _add_servo(spec, name, GRIPPER_TORQUE if name == joints[-1] else ARM_TORQUE)
    for camera, fovy in (("wrist", config.wrist_fovy_deg), ("front", config.front_fovy_deg)):
        body = spec.body(f"{camera}_camera_optical_frame")
        body.add_camera(name=camera, pos=(0.0, 0.0, 0.0), quat=_OPTICAL_TO_MUJOCO, fovy=fovy)
    return spec.compile()


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=(0.42, 0.46, 0.52),
        rgb2=(0.16, 0.18, 0.21),
        width=64,
        height=384,
    )
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=(0.30, 0.40, 0.02),
        pos=(0.22, 0.0, -0.02),
        rgba=(*TABLE_COLOUR, 1.0),
        group=SHOWN,
    )
    world.add_light(
        name="lamp",
        pos=(0.35, -0.35, 1.1),
        dir=(-0.15, 0.35, -1.0),
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        diffuse=(0.55, 0.55, 0.55),
        specular=(0.12, 0.12, 0.12),
        castshadow=True,
    )


def _add_cube(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="cube", pos=(0.225, 0.0, 0.0125))
    body.add_freejoint(name="cube")
    body.add_geom(
        name="cube",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=(0.0125, 0.0125, 0.0125),
        mass=0.020,
        rgba=(*CUBE_COLOUR, 1.0),
        group=SHOWN,
        priority=1,
    )


def _set_contact(geom: mujoco.MjsGeom) -> None:
    if geom.name in ("table", "cube"):
        geom.contype, geom.conaffinity = _TABLE, _TABLE | _ARM
    elif geom.contype:
        geom.contype, geom.conaffinity = _ARM, 0
    geom.condim = 4
    geom.friction = FRICTION
    geom.solref, geom.solimp = SOLREF, SOLIMP


def _add_servo(spec: mujoco.MjSpec, joint: str, torque: float) -> None:
    gain, bias = np.zeros(10), np.zeros(10)
    gain[0], bias[1], bias[2] = KP, -KP, -KV
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        gainprm=gain,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        biasprm=bias,
        forcelimited=True,
        forcerange=(-torque, torque),
    )
