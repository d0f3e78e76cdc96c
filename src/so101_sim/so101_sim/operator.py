# SPDX-License-Identifier: Apache-2.0
"""A scripted person: shows the task, and takes over in training when the policy needs help. Imprecise, as people are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from hilserl_core.fields import described, tidy
from hilserl_core.kinematics import Kinematics
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec

_PAN_AXIS_X_M = 0.0388353  # the arm turns about the vertical through this point of the base frame


class OperatorError(ValueError):
    """Settings of the person that contradict themselves."""


@dataclass(frozen=True)
class OperatorConfig:
    """How the person moves and when they take over: parameters `person.<field>`. Pairs are lowest and highest."""

    speed: tuple[float, ...] = described(
        (0.30, 0.60), "Largest action while moving, drawn per episode.", minimum=0.05, maximum=1.0
    )
    noise: float = described(
        0.25, "Standard deviation of the noise on each action, as a share of the speed.", minimum=0.0, maximum=1.0
    )
    noise_memory: float = described(0.6, "Share of the noise that stays from tick to tick.", minimum=0.0, maximum=0.99)
    overshoot_m: float = described(0.010, "How far beside the cube the first aim is at most.", minimum=0.0, maximum=0.05)
    pause_probability: float = described(0.03, "Probability of a pause to begin, per tick.", minimum=0.0, maximum=1.0)
    pause_ticks: tuple[int, ...] = described((1, 4), "Length of a pause.", minimum=0, maximum=100)
    clearance_m: tuple[float, ...] = described((0.003, 0.006), "Room between cube and fixed jaw when descending.", minimum=0.0)
    hover_m: tuple[float, ...] = described((0.045, 0.060), "Height from which to descend.", minimum=0.03, maximum=0.2)
    grasp_height_m: tuple[float, ...] = described((0.009, 0.014), "Height of the gripper frame when closing.", minimum=0.0)
    open_rad: tuple[float, ...] = described((0.50, 0.65), "How far the gripper opens.", minimum=0.2, maximum=0.75)
    take_over_probability: float = described(
        0.5, "Probability to help in the first training episode.", minimum=0.0, maximum=1.0
    )
    take_over_episodes: int = described(40, "Training episodes over which that falls to zero.", minimum=0, maximum=100_000)
    take_over_ticks: int = described(30, "Help begins at a random tick below this one.", minimum=1, maximum=1000)
    stuck_ticks: int = described(
        30, "Ticks without progress after which the person helps anyway; 0: never.", minimum=0, maximum=1000
    )
    progress_m: float = described(0.005, "Coming this much closer to the grasp is progress.", minimum=0.0, maximum=0.1)
    failures_every: int = described(
        0, "Every so many demonstrations show what is no success, one kind after another; 0: none.", minimum=0, maximum=1000
    )
    show_motion: float = described(
        0.5, "Demonstrations that go on after success: how fast the person moves about with the cube, as a share of the speed.",
        minimum=0.0, maximum=2.0,
    )  # fmt: skip
    failure_ticks: int = described(60, "Length of a demonstration of failure.", minimum=1, maximum=1000)

    area_min_m: tuple[float, ...] = described((0.10, -0.17), "A cube out of this area, x and y, is given up.")
    area_max_m: tuple[float, ...] = described((0.36, 0.17), "A cube out of this area, x and y, is given up.")

    def __post_init__(self) -> None:
        tidy(self, "person", OperatorError)
        for name, value in vars(self).items():
            area = name.startswith("area")
            if isinstance(value, tuple) and (len(value) != 2 or (value[0] > value[1] and not area)):
                raise OperatorError(f"person.{name} is {list(value)}, expected the lowest and the highest value")


class Attempt(Enum):
    """What a demonstration shows: success, or what a classifier of success must not take for it."""

    GRASP = "grasp"
    BESIDE = "beside"  # the jaws close well beside the cube
    NEARLY = "nearly"  # or just so
    HOVER = "hover"  # or above it
    PUSH = "push"  # the closed gripper pushes the cube away
    RELEASE = "release"  # grasped, held, and let go again


_FAILURES = (Attempt.NEARLY, Attempt.RELEASE, Attempt.HOVER, Attempt.PUSH, Attempt.BESIDE)
_MISS_M = {Attempt.BESIDE: (0.03, 0.06), Attempt.NEARLY: (0.008, 0.03)}
_RELEASE_TICKS = (5, 15)
_SHOW_TICKS = 6  # in one direction


class Stage(Enum):
    """What the person is about to do."""

    APPROACH = "approach"  # open, and move above the cube
    DESCEND = "descend"
    CLOSE = "close"  # until the cube is held


class ScriptedOperator:
    """Sees joints and cube, answers with an action of the policy's action space. The same seed gives the same person."""

    def __init__(self, config: OperatorConfig, task: TaskSpec, kinematics: Kinematics, seed: int = 0) -> None:
        self.config, self.task, self.kinematics, self.seed = config, task, kinematics, seed
        self.begin(Mode.EVALUATION, 0)

    def begin(self, mode: Mode, number: int) -> None:
        """A new episode, the `number`-th of its mode counted from 0. In evaluation the person never acts."""
        config, self.mode, self.number = self.config, mode, number
        self._rng = rng = np.random.default_rng([self.seed, int(mode), number])
        self.active = mode is Mode.DEMONSTRATION
        share = max(0.0, 1.0 - number / config.take_over_episodes) if config.take_over_episodes else 0.0
        helps = rng.uniform() < config.take_over_probability * share
        tick = int(rng.integers(config.take_over_ticks))
        self._take_over_tick = tick if mode is Mode.TRAINING and helps else None
        self._tick = 0
        self._best, self._best_tick = np.inf, 0
        self._noise = np.zeros(self.task.action_size)
        every = config.failures_every if mode is Mode.DEMONSTRATION else 0
        fails = every and number % every == every - 1
        self.attempt = _FAILURES[number // every % len(_FAILURES)] if fails else Attempt.GRASP
        self._done = False  # the cube has been grasped
        self._held = 0
        self._drift = np.zeros(3)
        self._release_tick = int(rng.integers(*_RELEASE_TICKS)) if self.attempt is Attempt.RELEASE else None
        self._miss = np.zeros(3)  # from the cube to where the person believes it
        if self.attempt in _MISS_M:
            direction, distance = rng.uniform(-np.pi, np.pi), rng.uniform(*_MISS_M[self.attempt])
            self._miss[:2] = distance * np.cos(direction), distance * np.sin(direction)
        self._draw()

    def _draw(self) -> None:
        """How this grasp will be done."""
        config, rng = self.config, self._rng
        self.stage = Stage.APPROACH
        self._speed = rng.uniform(*config.speed)
        self._clearance = rng.uniform(*config.clearance_m)
        self._hover = rng.uniform(*config.hover_m)
        self._height = rng.uniform(*config.grasp_height_m)
        self._open = rng.uniform(*config.open_rad)
        if self.attempt is Attempt.HOVER:
            self._height, self._hover = rng.uniform(0.036, 0.060), rng.uniform(0.060, 0.090)
        self._aim = rng.uniform(-1.0, 1.0, 2) * config.overshoot_m
        self._pause = 0
        self._closing = 0

    def act(self, joints: np.ndarray, cube: tuple[np.ndarray, np.ndarray], success: bool = False) -> tuple[bool, np.ndarray]:
        """One tick. joints: (J,) rad measured. cube: position (3,) m and quaternion x y z w. success: already achieved.

        Returns whether the person drives, and the action, (A,) float32 in [-1, 1] (zeros while hands are off).
        """
        pose = self.kinematics.forward(joints)
        goal = self._goal(pose.position, pose.rotation, (cube[0] + self._miss, cube[1]))
        if not self.active and self.mode is Mode.TRAINING and self._wants_to_help(pose.position, goal):
            self.active = True
            self._draw()
        self._tick += 1
        if success:
            self.active, self._done = False, True
        self._held += self._done
        if self._release_tick is not None and self._held > self._release_tick:
            return True, np.array([0.0, 0.0, 0.0, self._speed], np.float32)
        if self._held > 1 and self.mode is Mode.DEMONSTRATION:
            return True, self._show()
        if not self.active:
            return False, np.zeros(self.task.action_size, np.float32)
        if self.attempt is Attempt.PUSH:
            return True, self._push(pose.position, cube[0])
        return True, self._drive(pose.position, float(joints[-1]), goal)

    def gives_up(self, cube: tuple[np.ndarray, np.ndarray]) -> bool:
        """Whether the cube is where nobody can grasp it, or failure has been shown. In evaluation nobody interferes."""
        place = cube[0]
        inside = (place[:2] >= self.config.area_min_m).all() and (place[:2] <= self.config.area_max_m).all() and place[2] >= 0.0
        shown = self.attempt is not Attempt.GRASP and not self._done and self._tick >= self.config.failure_ticks
        return self.mode is not Mode.EVALUATION and (shown or not inside)

    def _wants_to_help(self, position: np.ndarray, goal: np.ndarray) -> bool:
        distance = float(np.linalg.norm(goal - position))
        if distance < self._best - self.config.progress_m:
            self._best, self._best_tick = distance, self._tick
        stuck = bool(self.config.stuck_ticks) and self._tick - self._best_tick >= self.config.stuck_ticks
        return stuck or self._tick == self._take_over_tick

    def _goal(self, position: np.ndarray, rotation: np.ndarray, cube: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Where the gripper frame, which lies on the fixed jaw, has to be so that the cube is between the jaws."""
        centre, (x, y, z, w) = cube
        azimuth = np.arctan2(centre[1], centre[0] - _PAN_AXIS_X_M) - np.arctan2(position[1], position[0] - _PAN_AXIS_X_M)
        opening = np.arctan2(rotation[1, 0], rotation[0, 0]) + azimuth  # direction from the fixed to the moving jaw, once there
        yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        half = max(float(centre[2]), 0.01)  # of a cube that lies on the table
        reach = half * (abs(np.cos(yaw - opening)) + abs(np.sin(yaw - opening))) + self._clearance
        return np.array([centre[0] - reach * np.cos(opening), centre[1] - reach * np.sin(opening), self._height])

    def _drive(self, position: np.ndarray, gripper: float, goal: np.ndarray) -> np.ndarray:
        config = self.config
        if self._pause == 0 and self._rng.uniform() < config.pause_probability:
            self._pause = int(self._rng.integers(config.pause_ticks[0], config.pause_ticks[1] + 1))
        fresh = self._rng.normal(0.0, config.noise * self._speed, self.task.action_size)
        memory = config.noise_memory
        self._noise = memory * self._noise + np.sqrt(1.0 - memory**2) * fresh
        if self._pause > 0:
            self._pause -= 1
            return np.zeros(self.task.action_size, np.float32)
        beside = float(np.linalg.norm(goal[:2] - position[:2]))
        self._change_stage(beside, position, gripper, goal)
        target, grip, steadiness = goal.copy(), 0.0, 1.0
        if self.stage is Stage.APPROACH:
            self._aim *= 0.8  # the aim improves on the way
            target[:2] += self._aim
            target[2] = self._hover
            if position[2] < 0.035 and beside > 0.012:
                target[:2] = position[:2]  # first up: do not sweep the cube away
            grip = (self._open - gripper) / self.task.gripper_step_rad
        elif self.stage is Stage.DESCEND:
            steadiness = 0.5
            if beside > 0.005:
                target[2] = max(position[2], goal[2])
        else:
            target, grip, steadiness = position, -1.0, 0.0
        move = 0.7 * (target - position) / self.task.action_scale_m
        size = float(np.abs(move).max())
        action = np.append(
            move * min(1.0, self._speed / size) if size > 0 else move, np.clip(grip, -1.5 * self._speed, 1.5 * self._speed)
        )
        action[:3] += steadiness * self._noise[:3]
        action[3] += 0.5 * self._noise[3]
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _show(self) -> np.ndarray:
        """About with the cube, held fast and rather upwards, so that success is seen in more than one place."""
        if self._held % _SHOW_TICKS == 2:
            drift = self._rng.uniform((-1.0, -1.0, -0.3), (1.0, 1.0, 1.0))
            self._drift = drift * self.config.show_motion * self._speed
        return np.append(self._drift, -self._speed).astype(np.float32)

    def _push(self, position: np.ndarray, cube: np.ndarray) -> np.ndarray:
        """Closed jaws, low, to the cube and on."""
        gap = cube[:2] - position[:2]
        move = np.append(gap / max(0.03, np.linalg.norm(gap)) * self._speed, (0.012 - position[2]) / 0.02 * self._speed)
        action = np.append(move + self._rng.normal(0.0, self.config.noise * self._speed, 3), -self._speed)
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _change_stage(self, beside: float, position: np.ndarray, gripper: float, goal: np.ndarray) -> None:
        if self.stage is Stage.APPROACH:
            if beside < 0.005 and position[2] < self._hover + 0.02 and gripper > self._open - 0.1:
                self.stage = Stage.DESCEND
        elif self.stage is Stage.DESCEND:
            if beside > 0.015:
                self.stage = Stage.APPROACH
            elif beside < 0.004 and abs(position[2] - goal[2]) < 0.004:
                self.stage, self._closing = Stage.CLOSE, 0
        else:
            self._closing += 1
            if gripper < 0.0 or self._closing > 30:  # missed it: again
                self._draw()
