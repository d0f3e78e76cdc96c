# SPDX-License-Identifier: Apache-2.0
"""The simulated world: advances by ticks, draws its cameras and knows whether the cube is grasped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np

from hilserl_core.kinematics import IkOptions, Kinematics
from hilserl_core.task import TaskSpec
from so101_description import urdf_path
from so101_sim import gl, scene
from so101_sim.config import WorldConfig, WorldError


@dataclass(frozen=True)
class Grasp:
    """What the jaws do to the cube at one instant.

    forces_n: normal forces of the fixed and of the moving jaw on the cube. penetration_m: of the deeper jaw. opposed: the jaws
    press against each other. pinched: the cube is held between the jaws now.
    """

    forces_n: tuple[float, float]
    penetration_m: float
    opposed: bool
    pinched: bool


class World:
    """Arm, table, cube and cameras. The same seed and the same targets give the same world, images included."""

    def __init__(
        self,
        config: WorldConfig | None = None,
        task: TaskSpec | None = None,
        urdf: Path | None = None,
        furnish: Callable[[mujoco.MjSpec], None] | None = None,
    ) -> None:
        """Build the model; furnish: adds more to look at. Raises WorldError when the start pose is out of reach."""
        self.config, self.task = config or WorldConfig(), task or TaskSpec()
        urdf = urdf or urdf_path()
        self.model = scene.build(urdf, self.task.joints, self.config, furnish=furnish)
        self.data = mujoco.MjData(self.model)
        self.kinematics = Kinematics(urdf, self.task.joints, replace(IkOptions(), max_step_rad=3.0, max_iterations=60))
        self.ticks = 0
        self._held = 0
        self._substeps = round(self.task.tick_s / scene.TIMESTEP_S)
        self._qpos = np.array([self.model.joint(name).qposadr[0] for name in self.task.joints])
        self._qvel = np.array([self.model.joint(name).dofadr[0] for name in self.task.joints])
        self._cube_qpos = self.model.joint("cube").qposadr[0]
        self._cube_qvel = self.model.joint("cube").dofadr[0]
        self._cube = self.model.geom("cube").id
        self._cube_body = self.model.body("cube").id
        self._jaws = {self.model.geom(name).id: side for side, names in enumerate(scene.JAWS) for name in names}
        self._gripper_body = self.model.body("gripper_link").id
        self._nominal = _Nominal(self.model)
        self._renderers: dict[tuple[int, int, bool], mujoco.Renderer] = {}
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[scene.SHOWN] = 1
        self.reset(0)

    def reset(self, seed: int) -> None:
        """A new world drawn from the seed: places, colours, light, cameras, the cube's size, mass and friction."""
        config, rng = self.config, np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        start = np.array(config.start_m) + rng.uniform(-1.0, 1.0, 3) * np.array(config.start_spread_m)
        joints = self._start_joints(start, rng.uniform(*config.start_gripper_rad))
        self.data.qpos[self._qpos] = joints
        self.data.ctrl[:] = joints
        half = rng.uniform(*config.cube_size_m) / 2
        x, y = rng.uniform(*config.cube_x_m), rng.uniform(*config.cube_y_m)
        yaw = rng.uniform(*config.cube_yaw_rad)
        pose = (x, y, half, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        self.data.qpos[self._cube_qpos : self._cube_qpos + 7] = pose
        self._set_cube(half, rng.uniform(*config.cube_mass_kg), rng.uniform(*config.friction))
        self._vary_looks(rng)
        mujoco.mj_forward(self.model, self.data)
        self._advance(joints)  # the servos take up the load
        self.ticks = self._held = 0
        self.data.time = 0.0

    def step(self, joint_targets: np.ndarray) -> None:
        """One tick: targets (J,) rad are ramped to linearly. Raises WorldError unless they are finite."""
        targets = np.asarray(joint_targets, float)
        if targets.shape != (len(self.task.joints),) or not np.isfinite(targets).all():
            raise WorldError(f"joint targets are {targets.tolist()}, expected {len(self.task.joints)} finite numbers")
        self._advance(targets)
        self._count()

    def end_tick(self) -> None:
        """The same where something else moves the arm: a tick of its time has passed."""
        mujoco.mj_forward(self.model, self.data)
        self._count()

    def _count(self) -> None:
        self.ticks += 1
        self._held = self._held + 1 if self.grasp().pinched else 0

    def _advance(self, targets: np.ndarray) -> None:
        before = self.data.ctrl.copy()
        for index in range(self._substeps):
            self.data.ctrl[:] = before + (targets - before) * ((index + 1) / self._substeps)
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)  # contacts, forces and frames of this instant

    def put_arm(self, joints: np.ndarray) -> None:
        """Put the arm's joints (J,) rad somewhere, at rest; its servos pull to there."""
        self.data.qpos[self._qpos], self.data.qvel[self._qvel] = joints, 0.0
        self.data.ctrl[:] = joints

    def put_cube(self, position: np.ndarray, quaternion: np.ndarray) -> None:
        """Put the cube's centre (3,) m somewhere, turned by a quaternion w x y z (4,), at rest."""
        self.data.qpos[self._cube_qpos : self._cube_qpos + 7] = (*position, *quaternion)
        self.data.qvel[self._cube_qvel : self._cube_qvel + 6] = 0.0

    def look(self) -> None:
        """Work out where everything is that cameras see, after something was put elsewhere."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    @property
    def cube_half_m(self) -> float:
        """Half the cube's edge."""
        return float(self.model.geom_size[self._cube, 0])

    @property
    def joint_positions(self) -> np.ndarray:
        """(J,) rad."""
        return self.data.qpos[self._qpos]

    @property
    def joint_velocities(self) -> np.ndarray:
        """(J,) rad/s."""
        return self.data.qvel[self._qvel]

    @property
    def joint_efforts(self) -> np.ndarray:
        """(J,) N·m, of the servos."""
        return self.data.actuator_force.copy()

    @property
    def cube_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) m and orientation quaternion x y z w (4,) of the cube in the base frame."""
        pose = self.data.qpos[self._cube_qpos : self._cube_qpos + 7]
        return pose[:3].copy(), pose[[4, 5, 6, 3]]

    @property
    def success(self) -> bool:
        """The cube has been pinched for `success_ticks` ticks in a row."""
        return self._held >= self.config.success_ticks

    @property
    def failed(self) -> bool:
        """The cube has left the area in which it can be grasped."""
        position = self.cube_pose[0]
        low, high = np.array(self.config.cube_area_min_m), np.array(self.config.cube_area_max_m)
        return bool(position[2] < 0.0 or (position[:2] < low).any() or (position[:2] > high).any())

    def grasp(self) -> Grasp:
        """Both jaws on the cube, pressing against each other along the gripper's opening, and not sunk into it.

        A jaw is its pad and the body behind it: a cube between one's pad and the other's body comes along when it is lifted.

        They do so when their normal forces oppose each other, or all that they do, friction included, within its cone. The
        first alone misses a cube held across its corners, where a contact's normal may be that of either face; the second alone
        one that is held and pressed onto the table.
        """
        normal, whole, depth = np.zeros((2, 3)), np.zeros((2, 3)), 0.0
        wrench = np.zeros(6)
        for index, (first, second) in enumerate(self.data.contact.geom):
            other = second if first == self._cube else first
            if self._cube not in (first, second) or other not in self._jaws:
                continue
            mujoco.mj_contactForce(self.model, self.data, index, wrench)
            contact, jaw = self.data.contact[index], self._jaws[other]
            # The rows are the normal, from the first geom to the second, and two tangents; the force acts on the second.
            axes = contact.frame.reshape(3, 3) * (1 if second == self._cube else -1)
            normal[jaw] += axes[0] * wrench[0]
            whole[jaw] += wrench[:3] @ axes
            depth = max(depth, -contact.dist)
        sizes = np.linalg.norm(normal, axis=1)
        opposed = bool((sizes >= self.config.min_force_n).all()) and (self._oppose(normal, 0.8) or self._oppose(whole, 0.7))
        pinched = opposed and depth <= self.config.max_penetration_m
        return Grasp((float(sizes[0]), float(sizes[1])), float(depth), opposed, pinched)

    def _oppose(self, forces: np.ndarray, cosine: float) -> bool:
        """Whether forces (2, 3) of the fixed and the moving jaw point at each other, at so small an angle to the opening."""
        opening = self.data.xmat[self._gripper_body][::3]  # from the fixed to the moving jaw
        along, sizes = forces @ opening, np.linalg.norm(forces, axis=1)
        return bool(along[0] > cosine * sizes[0] and along[1] < -cosine * sizes[1])

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        """What a camera sees, (height, width, 3) uint8 RGB.

        Raises WorldError for an unknown camera, GlError when nothing here can draw.
        """
        if camera not in scene.CAMERAS:
            raise WorldError(f"there is no camera '{camera}' in the simulation, it has {', '.join(scene.CAMERAS)}")
        film = camera == "front"  # for people: with shadows
        renderer = self._renderers.get((width, height, film))
        if renderer is None:
            if not self._renderers:
                gl.choose()
            self.model.vis.quality.offsamples = 4 if film and self.config.smooth else 0
            renderer = mujoco.Renderer(self.model, height, width, max_geom=200)
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                renderer.scene.flags[flag] = film
            self._renderers[width, height, film] = renderer
        renderer.update_scene(self.data, camera, self._option)
        return renderer.render()

    def close(self) -> None:
        """Free the drawing contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _start_joints(self, position: np.ndarray, gripper: float) -> np.ndarray:
        seed = np.array([0.0, -0.3, 0.3, 1.55, self.task.wrist_roll_rad, gripper])
        result = self.kinematics.inverse(position, seed, self.task.wrist_roll_rad, gripper)
        if not result.ok:
            raise WorldError(f"world.start_m: the gripper cannot reach {np.round(position, 3).tolist()}")
        return result.joints

    def _set_cube(self, half: float, mass: float, friction: float) -> None:
        model = self.model
        model.geom_size[self._cube] = half
        model.geom_rbound[self._cube] = half * np.sqrt(3.0)
        model.geom_aabb[self._cube, 3:] = half
        model.geom_friction[self._cube, 0] = friction
        model.body_mass[self._cube_body] = mass
        model.body_inertia[self._cube_body] = mass * (2 * half) ** 2 / 6
        data = mujoco.MjData(model)
        mujoco.mj_setConst(model, data)

    def _vary_looks(self, rng: np.random.Generator) -> None:
        config, model, nominal = self.config, self.model, self._nominal
        model.geom_rgba[:, :3] = nominal.rgba[:, :3]
        for name in ("table", "cube"):
            index = model.geom(name).id
            shift = rng.uniform(-1.0, 1.0, 3) * config.colour_spread
            model.geom_rgba[index, :3] = np.clip(nominal.rgba[index, :3] + shift, 0.0, 1.0)
        model.light_diffuse[:] = nominal.diffuse * rng.uniform(*config.brightness)
        shift = np.append(rng.uniform(-1.0, 1.0, 2) * config.light_shift_m, 0.0)
        model.light_pos[:] = nominal.light + shift
        model.light_dir[:] = nominal.direction - shift
        model.light_dir /= np.linalg.norm(model.light_dir, axis=1, keepdims=True)
        for index in range(model.ncam):
            model.cam_pos[index] = nominal.camera[index] + rng.uniform(-1.0, 1.0, 3) * config.camera_shift_m
            turn = np.zeros(4)
            mujoco.mju_euler2Quat(turn, rng.uniform(-1.0, 1.0, 3) * config.camera_turn_rad, "xyz")
            mujoco.mju_mulQuat(model.cam_quat[index], nominal.turn[index], turn)


class _Nominal:
    """What the looks vary around."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.rgba = model.geom_rgba.copy()
        self.diffuse = model.light_diffuse.copy()
        self.light, self.direction = model.light_pos.copy(), model.light_dir.copy()
        self.camera, self.turn = model.cam_pos.copy(), model.cam_quat.copy()
