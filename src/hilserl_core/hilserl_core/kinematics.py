# SPDX-License-Identifier: Apache-2.0
"""Forward and inverse kinematics of the arm, from its URDF (MuJoCo, mink)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mink
import mujoco
import numpy as np
import qpsolvers


class KinematicsError(ValueError):
    """A robot description that lacks a joint or the frame to control."""


@dataclass(frozen=True)
class GripperPose:
    """Pose of the gripper frame in the base frame.

    position: (3,) m. euler: (3,) rad, roll pitch yaw about the fixed x, y, z axes. rotation: (3, 3).
    """

    position: np.ndarray
    euler: np.ndarray
    rotation: np.ndarray


@dataclass(frozen=True)
class IkResult:
    """Joints for a target.

    joints: (J,) rad. position_error_m: distance left to the target. tilt_rad: angle between the approach direction and
    straight down. ok: False when the target is out of reach; joints are then the seed, within the joint limits.
    """

    joints: np.ndarray
    position_error_m: float
    tilt_rad: float
    ok: bool


@dataclass(frozen=True)
class IkOptions:
    """How the inverse kinematics weighs and stops.

    The gripper should point down, but far out and high up the arm cannot: the weight of the tilt, in metres of position error
    that one radian counts as much as, falls from `tilt_cost_low` at a target height of `low_m` to `tilt_cost_high` at `high_m`.
    """

    frame: str = "gripper_frame_link"
    approach_axis: tuple[float, float, float] = (0.0, 0.0, -1.0)  # of the frame
    max_step_rad: float = 0.5  # no arm joint moves further than this from the seed in one call
    tolerance_m: float = 0.003  # a larger error left over means out of reach
    converged_step_rad: float = 2e-3
    trust_rad: float = 0.2  # of one iteration: the arm is close to linear within it
    max_iterations: int = 10
    tilt_cost_low: float = 0.006
    tilt_cost_high: float = 0.002
    low_m: float = 0.04
    high_m: float = 0.09
    roll_cost: float = 0.02
    damping: float = 1e-6


class Kinematics:
    """The arm without its environment. Not thread-safe: calls share buffers, but nothing is remembered between them."""

    def __init__(self, urdf: Path | str, joints: Sequence[str], options: IkOptions | None = None) -> None:
        """Read the URDF. `joints` names the order of all joint vectors: the arm's joints, the gripper last.

        Raises KinematicsError when the URDF has no such joint or frame, FileNotFoundError when there is no such file.
        """
        urdf = Path(urdf)
        if not urdf.is_file():
            raise FileNotFoundError(f"the robot description {urdf} does not exist")
        self.options = options or IkOptions()
        self.joints = tuple(joints)
        spec = mujoco.MjSpec.from_file(str(urdf))
        for geom in list(spec.geoms):
            spec.delete(geom)
        model = spec.compile()
        named = {model.joint(index).name: index for index in range(model.njnt)}
        if set(named) != set(self.joints):
            raise KinematicsError(f"{urdf} has the joints {sorted(named)}, expected {sorted(self.joints)}")
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, self.options.frame) < 0:
            raise KinematicsError(f"{urdf} has no link '{self.options.frame}'")
        self._model = model
        self._data = mujoco.MjData(model)
        self._body = model.body(self.options.frame).id
        self._order = np.array([model.jnt_qposadr[named[name]] for name in self.joints])
        limits = np.array([model.jnt_range[named[name]] for name in self.joints])
        self.lower, self.upper = limits[:, 0].copy(), limits[:, 1].copy()  # (J,) rad
        self._configuration = mink.Configuration(model)
        self._position = mink.FrameTask(self.options.frame, "body", position_cost=1.0, orientation_cost=0.0)
        self._approach = mink.AxisAlignTask(self.options.frame, "body", axis=self.options.approach_axis, cost=1.0)
        self._approach.set_target((0.0, 0.0, -1.0))
        roll = np.zeros(model.nv)
        roll[self._order[-2]] = self.options.roll_cost
        self._posture = mink.PostureTask(model, cost=roll)
        self._box = _Box(model.nv, self.options.trust_rad)

    def forward(self, joints_rad: np.ndarray) -> GripperPose:
        """Pose of the gripper frame for joints (J,) rad."""
        self._data.qpos[self._order] = joints_rad
        mujoco.mj_kinematics(self._model, self._data)
        rotation = self._data.xmat[self._body].reshape(3, 3).copy()
        return GripperPose(self._data.xpos[self._body].copy(), euler_of(rotation), rotation)

    def tilt(self, rotation: np.ndarray) -> float:
        """Angle [rad] between the approach direction and straight down, for a gripper rotation (3, 3)."""
        return float(np.arccos(np.clip(-(rotation @ np.array(self.options.approach_axis))[2], -1.0, 1.0)))

    def inverse(
        self, target_position: np.ndarray, seed_joints: np.ndarray, wrist_roll_rad: float, gripper_rad: float
    ) -> IkResult:
        """Joints that bring the gripper frame to a position (3,) m, pointing down as far as it can.

        seed_joints: (J,) rad, measured. wrist_roll_rad, gripper_rad: those joints' targets. Never raises: with a target out of
        reach, or anything not finite, `ok` is False and the joints are the seed. Joints stay within their limits, and the
        arm's within `max_step_rad` of the seed.
        """
        seed_given = np.array(seed_joints, dtype=float)
        target = np.asarray(target_position, dtype=float)
        wanted = (*target.ravel(), *seed_given.ravel(), wrist_roll_rad, gripper_rad)
        if target.shape != (3,) or seed_given.shape != self.lower.shape or not np.all(np.isfinite(wanted)):
            return IkResult(seed_given, float("inf"), float("nan"), False)
        seed = np.clip(seed_given, self.lower, self.upper)
        if np.abs(target).max() > 10.0:  # metres: nonsense, and it would overflow below
            return self._refused(seed, target)
        joints = seed.copy()
        joints[-1] = np.clip(gripper_rad, self.lower[-1], self.upper[-1])
        lowest = np.maximum(self.lower, seed - self.options.max_step_rad)
        highest = np.minimum(self.upper, seed + self.options.max_step_rad)
        lowest[-1] = highest[-1] = joints[-1]
        roll = float(np.clip(wrist_roll_rad, self.lower[-2], self.upper[-2]))
        try:
            joints = np.clip(self._solve(joints, target, roll, lowest, highest), lowest, highest)
        except (mink.MinkError, ValueError, ArithmeticError):
            return self._refused(seed, target)
        pose = self.forward(joints)
        error = float(np.linalg.norm(pose.position - target))
        if not error <= self.options.tolerance_m:
            return self._refused(seed, target)
        return IkResult(joints, error, self.tilt(pose.rotation), True)

    def _refused(self, seed: np.ndarray, target: np.ndarray) -> IkResult:
        pose = self.forward(seed)
        return IkResult(seed, float(np.linalg.norm(pose.position - target)), self.tilt(pose.rotation), False)

    def _solve(
        self, joints: np.ndarray, target: np.ndarray, roll: float, lowest: np.ndarray, highest: np.ndarray
    ) -> np.ndarray:
        """Gauss-Newton steps, each a small quadratic program with the joint box as its only constraint."""
        options, order = self.options, self._order
        height = np.clip((target[2] - options.low_m) / (options.high_m - options.low_m), 0.0, 1.0)
        self._approach.set_cost(options.tilt_cost_low + height * (options.tilt_cost_high - options.tilt_cost_low))
        self._position.set_target(mink.SE3.from_translation(target))
        q = np.empty(self._model.nq)
        q[order] = joints
        posture = q.copy()
        posture[order[-2]] = roll
        self._posture.set_target(posture)
        self._box.lower[order], self._box.upper[order] = lowest, highest
        tasks = [self._position, self._approach, self._posture]
        for _ in range(options.max_iterations):
            self._configuration.update(q)
            problem = mink.build_ik(self._configuration, tasks, 1.0, options.damping, limits=[self._box])
            solution = qpsolvers.solve_problem(problem, solver="daqp")
            if not solution.found or solution.x is None:
                raise mink.NoSolutionFound("daqp")
            q = q + solution.x
            if np.abs(solution.x).max() < options.converged_step_rad:
                break
        return q[order]


class _Box(mink.Limit):
    """Joint positions stay between two vectors (nv,)."""

    def __init__(self, size: int, trust_rad: float) -> None:
        self.trust_rad = trust_rad
        self.lower = np.zeros(size)
        self.upper = np.zeros(size)
        self._rows = np.vstack([np.eye(size), -np.eye(size)])

    def compute_qp_inequalities(self, configuration: mink.Configuration, dt: float) -> mink.Constraint:
        del dt
        room = np.concatenate([self.upper - configuration.q, configuration.q - self.lower])
        return mink.Constraint(G=self._rows, h=np.clip(room, 0.0, self.trust_rad))


def euler_of(rotation: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (3,) rad about the fixed x, y, z axes (extrinsic xyz) of a rotation matrix (3, 3)."""
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    pitch = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    return np.array([roll, pitch, yaw])
