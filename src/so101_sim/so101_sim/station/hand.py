# SPDX-License-Identifier: Apache-2.0
"""A scripted person beside the station: knows what a person sees, and has hands for the leader, the cube and the keys."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from hilserl_core.action import Controller
from hilserl_core.fields import described, tidy
from hilserl_core.kinematics import Kinematics
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from so101_sim.config import WorldConfig
from so101_sim.operator import Attempt, OperatorConfig, ScriptedOperator, Stage
from so101_sim.station.settings import StationError

_NEAR_RAD = 0.15  # a leader that is so near to the robot has come to it
_PATIENCE_S = 8.0  # if the leader never comes, the person goes on after this time
_AGAIN_S = 3.0  # a key press without effect is repeated after this time
_SHARPENING = 0.35  # share of a new look in what the person believes
_MOVED_M = 0.03  # a cube so far from where it was believed has been moved
_STILL_M = 0.004  # a leader's gripper that moved less than this between two looks stands still
_HOLDING_RAD = (0.03, 0.32)  # jaws around the cube, across its faces (0.13) or across its corners (0.27)
_GLANCE_S = 0.35  # jaws that ease their grip for so long make nobody think that the cube is lost
_SAG = 0.2  # share of a new look in the believed offset of the robot from the leader
_MOST_SAG_M = 0.02
_WORLD = WorldConfig()


class Phase(Enum):
    """Situations that the person reads from the status on the screen."""

    SET_OUT = "set out"  # the robot is reset: time to put the cube back
    READY = "ready"  # the robot waits for the person to be ready
    ACTING = "acting"  # an episode runs, or waits for the person's first motion
    VERDICT = "verdict"  # the system waits for success or failure
    APART = "apart"  # nothing that concerns the person


@dataclass(frozen=True)
class HandConfig:
    """Behaviour of the person: parameters `hand.<field>`. Pairs are lowest and highest. All values are assumptions."""

    cube_x_m: tuple[float, ...] = described(_WORLD.cube_x_m, "Where the cube is put, x in the base frame.")
    cube_y_m: tuple[float, ...] = described(_WORLD.cube_y_m, "Where the cube is put, y in the base frame.")
    cube_yaw_rad: tuple[float, ...] = described(_WORLD.cube_yaw_rad, "How the cube is turned about the vertical.")
    reset_s: float = described(1.5, "How long it takes to put the cube back.", minimum=0.0, maximum=60.0)
    judge_s: float = described(0.4, "Time the cube must look held before the person says success.", minimum=0.0, maximum=10.0)
    overrule_s: float = described(
        0.6, "In training: how long the person leaves success to the judge before saying it; negative: never.", maximum=60.0
    )
    judges: bool = described(True, "In an evaluation the person says success as soon as they see it; false: only when asked.")
    ready_key: str = described("KEY_F5", "Key that says: ready.")
    success_key: str = described("KEY_F9", "Key that says: success.")
    failure_key: str = described("KEY_F10", "Key that says: failure.")

    def __post_init__(self) -> None:
        tidy(self, "hand", StationError)
        for name, value in vars(self).items():
            if isinstance(value, tuple) and (len(value) != 2 or value[0] > value[1]):
                raise StationError(f"hand.{name} is {list(value)}, expected the lowest and the highest value")


@dataclass(frozen=True)
class Status:
    """The status on the screen. episode: run and number. number: earlier episodes of its mode. success: already reached."""

    phase: Phase
    mode: Mode
    episode: tuple[str, int]
    number: int
    success: bool = False


@dataclass(frozen=True)
class Look:
    """A view of the table, late. cube: position (3,) m and quaternion x y z w (4,), imprecise. arm: robot's joints (6,) rad."""

    cube: tuple[np.ndarray, np.ndarray]
    arm: np.ndarray


class Hands(Protocol):
    """Actions that a person's hands can do; `channel.RemoteHands` does them."""

    def feel(self) -> Mapping[str, Mapping[str, float]]:
        """Joints of both arms [rad], by arm and name."""

    def hold(self, arm: str, joints: Mapping[str, float]) -> object:
        """Take joints of an arm and move each there [rad]."""

    def release(self, arm: str) -> None:
        """Let go of an arm."""

    def place_cube(self, x: float, y: float, yaw: float) -> None:
        """Put the cube on the table [m, m, rad]."""

    def press(self, key: str) -> None:
        """Press a key."""


class Eyes:
    """The person's belief about the table: single looks are imprecise, so it averages them."""

    def __init__(self, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        self.cube: tuple[np.ndarray, np.ndarray] | None = None
        self.arm = np.zeros(len(kinematics.joints))
        self._grippers: deque[float] = deque(maxlen=4)

    def take(self, look: Look) -> None:
        """Take another look into account."""
        position, turn = look.cube
        if self.cube is not None and np.linalg.norm(position - self.cube[0]) < _MOVED_M:
            before, turned = self.cube
            position = before + _SHARPENING * (position - before)
            turn = turned + _SHARPENING * (turn * np.sign(turn @ turned or 1.0) - turned)
            turn = turn / np.linalg.norm(turn)
        self.cube, self.arm = (position, turn), look.arm
        self._grippers.append(float(look.arm[-1]))

    def held(self) -> bool:
        """Whether the cube looks held: the jaws stand still around it, as far apart as it is wide."""
        grippers = list(self._grippers)
        if self.cube is None or len(grippers) < 4 or not _HOLDING_RAD[0] < grippers[-1] < _HOLDING_RAD[1]:
            return False
        pose = self._kinematics.forward(self.arm)
        between = pose.position + 0.0125 * pose.rotation[:, 0]
        steady = max(grippers) - min(grippers) < 0.012
        return steady and float(np.linalg.norm(self.cube[0] - between)) < 0.022


class Hand:
    """The scripted person. Call `step` about ten times a second. The same seed and the same looks give the same behaviour."""

    def __init__(
        self, config: HandConfig, person: OperatorConfig, task: TaskSpec, kinematics: Kinematics, hands: Hands, seed: int = 0
    ) -> None:
        self.config, self.task = config, task
        self.eyes = Eyes(kinematics)
        self.operator = ScriptedOperator(person, task, kinematics, seed)
        self._kinematics, self._hands = kinematics, hands
        self._controller = Controller(task, kinematics)
        self._rng = np.random.default_rng([seed, 75])
        self._phase = Phase.APART
        self._episode: tuple[str, int] | None = None
        self._begin_round(0.0)

    def _begin_round(self, now_s: float) -> None:
        self._since_s, self._placed_s, self._pressed_s = now_s, None, -math.inf
        self._holds = False
        self._begun = False
        self._verdict = ""
        self._believed = False  # the person believes that the cube is held
        self._held_s: float | None = None
        self._seen_held_s = -math.inf
        self._ticks = 0
        self._sag = np.zeros(3)
        self._reached: deque[np.ndarray] = deque(maxlen=3)  # positions (3,) m of the leader's gripper in the last looks

    def step(self, now_s: float, status: Status, look: Look | None) -> None:
        """Look, then act as the status demands. Raises the errors of the hands."""
        if look is not None:
            self.eyes.take(look)
        setting_out = status.phase in (Phase.SET_OUT, Phase.READY)
        new = status.episode != self._episode if status.phase is Phase.ACTING else setting_out and self._begun
        if new or (setting_out and self._phase not in (Phase.SET_OUT, Phase.READY)):
            self._let_go()
            self._begin_round(now_s)
        self._phase = status.phase
        if setting_out:
            self._set_out(now_s, status)
        elif self.eyes.cube is None or status.phase is Phase.APART:
            self._let_go()
        elif status.phase is Phase.VERDICT:
            self._judge_at_the_end(now_s)
        else:
            self._attend(now_s, status)

    # Between episodes -------------------------------------------------------------------------------------------------

    def _set_out(self, now_s: float, status: Status) -> None:
        self._let_go()
        if self._placed_s is None and now_s - self._since_s >= self.config.reset_s:
            self._place()
            self._placed_s = now_s
        elif status.phase is Phase.READY and self._placed_s is not None and now_s - self._pressed_s > _AGAIN_S:
            watches = status.mode is Mode.EVALUATION  # nobody will take the leader
            if not watches and now_s - self._placed_s < _PATIENCE_S and not self._leader_has_come():
                return
            self._press(now_s, self.config.ready_key)

    def _place(self) -> None:
        config = self.config
        gripper = self._kinematics.forward(self.eyes.arm).position
        for _ in range(100):
            x, y = self._rng.uniform(*config.cube_x_m), self._rng.uniform(*config.cube_y_m)
            if gripper[2] > 0.08 or math.hypot(x - gripper[0], y - gripper[1]) > 0.05:
                break
        self._hands.place_cube(float(x), float(y), float(self._rng.uniform(*config.cube_yaw_rad)))

    def _leader(self) -> np.ndarray:
        felt = self._hands.feel()["leader"]
        return np.array([felt[joint] for joint in self.task.joints])

    def _leader_has_come(self) -> bool:
        return bool(np.abs(self._leader() - self.eyes.arm).max() < _NEAR_RAD)

    # In an episode ----------------------------------------------------------------------------------------------------

    def _attend(self, now_s: float, status: Status) -> None:
        operator = self.operator
        if not self._begun:
            self._begun, self._episode, self._since_s = True, status.episode, now_s
            operator.begin(status.mode, status.number)
        self._watch(now_s)
        self._ticks += 1
        if status.mode is Mode.DEMONSTRATION:
            self._demonstrate(now_s)
        elif status.mode is Mode.TRAINING:
            self._help(now_s, status)
        elif self.config.judges and self._believed and not self._verdict:
            self._say(now_s, "success")

    def _watch(self, now_s: float) -> None:
        if self.eyes.held():
            self._seen_held_s = now_s
            self._held_s = now_s if self._held_s is None else self._held_s
        elif now_s - self._seen_held_s > _GLANCE_S:
            self._held_s = None
        self._believed |= self._held_s is not None and now_s - self._held_s >= self.config.judge_s

    def _demonstrate(self, now_s: float) -> None:
        operator, releases = self.operator, self.operator.attempt is Attempt.RELEASE
        if self._verdict == "failure" or (self._verdict and not releases):
            return  # both hands keep still until the episode is over
        if not self._holds and not (self._leader_has_come() or now_s - self._since_s > _PATIENCE_S):
            return
        if self._believed and not self._verdict:
            self._say(now_s, "success")
            if not releases:
                return
        self._drive()
        if self._held_s is not None:
            return  # nobody calls a cube in the jaws a failure, nor a success before they are sure
        if self._verdict or operator.gives_up(self.eyes.cube):
            self._say(now_s, "failure")

    def _help(self, now_s: float, status: Status) -> None:
        operator, config = self.operator, self.config
        if self._verdict or status.success:
            self._let_go()
            return
        self._drive()
        overdue = self._held_s is not None and 0.0 <= config.overrule_s <= now_s - self._held_s - config.judge_s
        if self._believed and overdue:
            self._say(now_s, "success")
        elif self._held_s is None and operator.gives_up(self.eyes.cube):
            self._say(now_s, "failure")

    def _drive(self) -> None:
        """Move the leader as the scripted operator would move the robot; keep hands off where the operator would."""
        leader = self._leader()
        joints = leader.copy() if self._holds or self.operator.mode is Mode.DEMONSTRATION else self.eyes.arm.copy()
        if self.operator.stage is Stage.CLOSE:
            joints[-1] = self.eyes.arm[-1]  # only the robot's jaws show whether they closed on something
        self._compare(leader)
        position, turn = self.eyes.cube
        aim = position - np.append(self._sag[:2], 0.0)
        active, action = self.operator.act(joints, (aim, turn), self._believed)
        if not active:
            if self.operator.mode is not Mode.DEMONSTRATION:
                self._let_go()  # in a demonstration the hand stays where it is
            return
        if not self._holds:
            self._holds = True
            self._controller.latch(leader)
        targets = self._controller.command(action, leader).joints
        self._hands.hold("leader", dict(zip(self.task.joints, targets.tolist(), strict=True)))

    def _compare(self, leader: np.ndarray) -> None:
        """Measure, while both stand still, how far the robot is off the leader; `_drive` then allows for it."""
        reached = self._kinematics.forward(leader).position
        self._reached.append(reached)
        if len(self._reached) == 3 and max(np.linalg.norm(before - reached) for before in self._reached) < _STILL_M:
            seen = self._kinematics.forward(self.eyes.arm).position - reached
            self._sag = np.clip(self._sag + _SAG * (seen - self._sag), -_MOST_SAG_M, _MOST_SAG_M)

    def _judge_at_the_end(self, now_s: float) -> None:
        self._watch(now_s)
        if self._phase is Phase.VERDICT and now_s - self._pressed_s > _AGAIN_S:
            self._press(now_s, self.config.success_key if self._held_s is not None else self.config.failure_key)

    def _say(self, now_s: float, verdict: str) -> None:
        self._verdict = verdict
        self._press(now_s, self.config.success_key if verdict == "success" else self.config.failure_key)
        if self.operator.mode is not Mode.DEMONSTRATION:
            self._let_go()

    def _press(self, now_s: float, key: str) -> None:
        self._pressed_s = now_s
        self._hands.press(key)

    def _let_go(self) -> None:
        if self._holds:
            self._holds = False
            self._hands.release("leader")
