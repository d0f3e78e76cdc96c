# SPDX-License-Identifier: Apache-2.0
"""Decides who drives: the leader follows the robot, or the person moves the leader freely. It has torque only to follow.

A hand takes over only once the leader has come to where the robot is. So a person who still holds the leader when an episode
is reset or the node starts does not drive by accident, and the robot never has to leap to a leader that is elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from hilserl_core.fields import described, tidy
from so101_driver.errors import SafetyError
from so101_driver.turns import PAST_SEAM

HELD = "a hand holds it; let go, and take hold again when the leader is where the robot is"
_YIELD_S = 1.0  # how long it gives way to a hand that may not drive yet
_LONGEST_S = 0.1  # a longer pause between two cycles counts as this one


class State(Enum):
    """What the leader does."""

    LIMP = "limp"  # no torque, nobody drives: there is nothing to follow, or no way to
    FOLLOWING = "following"  # its goals follow the robot
    FREE = "free"  # no torque, the person drives


@dataclass(frozen=True)
class HandoverConfig:
    """When leader and person take turns. Each field is a parameter `handover.<field>`."""

    follow_velocity_rad_s: float = described(1.0, "No joint follows the robot faster.", minimum=0.05, maximum=3.0)
    torque: float = described(0.5, "Share of its largest torque that a joint uses while it follows.", minimum=0.05, maximum=1.0)
    hold_rad: float = described(
        0.2, "A joint farther than this from its goal is in the person's hand.", minimum=0.02, maximum=1.0
    )
    hold_s: float = described(0.1, "For so long, then the person drives.", minimum=0.0, maximum=2.0)
    rest_rad: float = described(0.02, "A leader whose joints move less than this is at rest.", minimum=0.002, maximum=0.5)
    rest_s: float = described(
        2.0, "At rest for so long after it was moved, it follows again; 0: only when it is told to.", minimum=0.0, maximum=60.0
    )
    follower_timeout_s: float = described(
        0.5, "With joint_states of the robot older than this it lets go.", minimum=0.05, maximum=10.0
    )
    state_timeout_s: float = described(
        0.25, "With positions of its own older than this it lets go.", minimum=0.02, maximum=10.0
    )
    retry_s: float = described(0.5, "After a servo did not switch on it waits for so long.", minimum=0.05, maximum=10.0)

    def __post_init__(self) -> None:
        tidy(self, "handover", SafetyError)


@dataclass(frozen=True)
class Sight:
    """Inputs of one cycle. leader: (J,) rad, measured leader_age_s ago. robot: (J,) rad, None before it was heard.

    astray: leader joints past the seam of their encoders, from where their servos cannot take them to the robot.
    """

    leader: np.ndarray
    leader_age_s: float
    robot: np.ndarray | None
    robot_age_s: float = 0.0
    astray: tuple[str, ...] = ()


class Handover:
    """State machine of the leader; call it once per cycle. The leader begins limp, and follows as soon as it can.

    reason: why it is limp, or not yet to be taken hold of; empty otherwise. refuses: while it is set, as while an episode is
    reset or the arm is stopped, no hand is a grip.
    """

    def __init__(self, lower: np.ndarray, upper: np.ndarray, config: HandoverConfig | None = None) -> None:
        """lower, upper: (J,) rad, where the leader's goals may be."""
        self.config = config or HandoverConfig()
        self.state, self.reason = State.LIMP, "it has just begun"
        self.take_overs, self.refuses = 0, False
        self._lower, self._upper = lower, upper
        self._asked: State | None = None
        self._goal = np.zeros_like(lower)
        self._last_s: float | None = None
        self._off_s: float | None = None  # since when a joint has been away from its goal
        self._arrived = self._yielded = False  # the leader has reached the robot; a hand kept it from that
        self._before: np.ndarray | None = None  # the leader's joints in the cycle before
        self._anchor, self._still_s, self._moved = self._goal, 0.0, False
        self._barred_s, self._failure = -math.inf, ""

    def take_over(self) -> bool:
        """The person wants to drive, from the next cycle on. False while it is limp."""
        return self._ask(State.FREE)

    def hand_back(self) -> bool:
        """Follow again from the next cycle on, as at an episode's reset. False while it is limp: it will as soon as it can."""
        return self._ask(State.FOLLOWING)

    def _ask(self, state: State) -> bool:
        self._asked = None if self.state is State.LIMP else state
        return self._asked is not None

    def fail(self, now_s: float, why: str) -> None:
        """A servo did not switch on: limp for a while."""
        self.state, self.reason = State.LIMP, why
        self._barred_s, self._failure = now_s + self.config.retry_s, why

    def step(self, now_s: float, sight: Sight) -> np.ndarray | None:
        """The goal (J,) rad of this cycle, None for no torque. now_s: steady clock."""
        elapsed_s = 0.0 if self._last_s is None else min(max(0.0, now_s - self._last_s), _LONGEST_S)
        self._last_s = now_s
        asked, self._asked = self._asked, None
        self.reason = self._lacking(now_s, sight)
        self._before = sight.leader
        if self.reason:
            self.state = State.LIMP
        elif self.state is State.LIMP:
            self._follow(sight.leader, arrived=False)
        elif asked is State.FREE:
            self._let_drive(now_s, sight.leader, moved=False)
        elif self.state is State.FOLLOWING:
            self._arrived = self._arrived and asked is None and not self.refuses
            if self._held(now_s, sight.leader):
                self._feel(now_s, sight.leader)
        elif asked is State.FOLLOWING or self._rested(now_s, sight.leader):
            self._follow(sight.leader, arrived=asked is None)
        if self.state is State.FOLLOWING and sight.astray:
            self.state, self.reason = State.LIMP, f"{', '.join(sight.astray)} {PAST_SEAM}"
        return self._approach(sight, elapsed_s) if self.state is State.FOLLOWING else None

    def _lacking(self, now_s: float, sight: Sight) -> str:
        """Why it cannot be driven and cannot follow; empty when it can."""
        before = self._before
        if not (sight.leader_age_s <= self.config.state_timeout_s and np.isfinite(sight.leader).all()):
            return "the leader's joints are not known"
        if before is not None and np.abs(sight.leader - before).max() > math.pi:
            return "a joint of the leader has leapt"
        if sight.robot is None:
            return "no joint_states of the robot yet"
        if sight.robot_age_s > self.config.follower_timeout_s:
            return f"no joint_states of the robot for {self.config.follower_timeout_s:g} s"
        return self._failure if now_s < self._barred_s else ""

    def _follow(self, leader: np.ndarray, arrived: bool) -> None:
        self.state, self._off_s, self._arrived = State.FOLLOWING, None, arrived
        self._goal = leader.copy()

    def _feel(self, now_s: float, leader: np.ndarray) -> None:
        """Act on a hand: the person drives, or has not let go yet since the leader was told to follow."""
        if self._arrived:
            self._let_drive(now_s, leader, moved=True)
        else:
            self.fail(now_s, HELD)
            self._barred_s, self._yielded = now_s + _YIELD_S, True

    def _let_drive(self, now_s: float, leader: np.ndarray, moved: bool) -> None:
        self.state, self._yielded = State.FREE, False
        self.take_overs += 1
        self._anchor, self._still_s, self._moved = leader, now_s, moved

    def _held(self, now_s: float, leader: np.ndarray) -> bool:
        """Whether a hand has, for long enough, kept a joint away from the goal of the previous cycle.

        Where that goal lies beyond the limits, the servo pulls to the limit; a joint in between is still on its way.
        """
        inside = np.clip(self._goal, self._lower, self._upper)
        on_its_way = np.clip(leader, np.minimum(self._goal, inside), np.maximum(self._goal, inside))
        if np.abs(leader - on_its_way).max() <= self.config.hold_rad:
            self._off_s = None
            return False
        self._off_s = now_s if self._off_s is None else self._off_s
        return now_s - self._off_s >= self.config.hold_s

    def _rested(self, now_s: float, leader: np.ndarray) -> bool:
        """Whether it was moved and has been still since. Without having been moved the person may still be on the way."""
        if np.abs(leader - self._anchor).max() > self.config.rest_rad:
            self._anchor, self._still_s, self._moved = leader, now_s, True
        return 0.0 < self.config.rest_s <= now_s - self._still_s and self._moved

    def _approach(self, sight: Sight, elapsed_s: float) -> np.ndarray:
        """The next goal, one step towards the robot's joints, too short to look like a hand that holds it back."""
        robot = np.clip(sight.robot, self._lower, self._upper)
        if np.abs(sight.leader - robot).max() <= self.config.hold_rad and not self.refuses:
            self._arrived, self._yielded = True, False
        self.reason = HELD if self._yielded else ""
        reach = min(self.config.follow_velocity_rad_s * elapsed_s, self.config.hold_rad / 2)
        self._goal = self._goal + np.clip(robot - self._goal, -reach, reach)
        return np.clip(self._goal, self._lower, self._upper)
