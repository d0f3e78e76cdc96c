# SPDX-License-Identifier: Apache-2.0
"""What rviz shows beside the arm: a few lines on reward and episode, and the way of the gripper frame."""

from __future__ import annotations

from collections import deque

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from hilserl_core.step import Mode
from hilserl_interfaces.msg import EpisodeStatus, Reward

BASE_FRAME = "base_link"
WHITE = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
SUCCESS = ColorRGBA(r=0.3, g=1.0, b=0.3, a=1.0)
POLICY = ColorRGBA(r=0.3, g=0.6, b=1.0, a=1.0)
PERSON = ColorRGBA(r=1.0, g=0.6, b=0.1, a=1.0)
_SPACING_NS = 40_000_000  # 25 points a second draw a smooth line
_SILENT_S = 2.0
_PLACE_M = (0.15, 0.0, 0.36)  # above the workspace


class Trail:
    """The newest positions of the gripper frame, with who drove: `points` of stamp [ns], (3,) m, and whether a person did."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.points: deque[tuple[int, np.ndarray, bool]] = deque()
        self._episode: tuple[str, int] | None = None

    def belong(self, status: EpisodeStatus) -> None:
        """Begin a new trail with a new episode."""
        if self._episode != (status.run_id, status.episode):
            self._episode = (status.run_id, status.episode)
            self.points.clear()

    def due(self, stamp_ns: int) -> bool:
        """Whether a position of this instant would be kept. Time that has gone back begins a new trail."""
        if self.points and stamp_ns < self.points[-1][0]:
            self.points.clear()
        return not self.points or stamp_ns - self.points[-1][0] >= _SPACING_NS

    def add(self, stamp_ns: int, position: np.ndarray, person: bool) -> None:
        """The position (3,) m at an instant; what is older than `seconds` goes."""
        self.points.append((stamp_ns, position, person))
        while stamp_ns - self.points[0][0] > self.seconds * 1e9:
            self.points.popleft()

    def marker(self) -> Marker:
        """A line, blue where the policy drove and orange where a person did; without two points, that there is none."""
        marker = _marker("trail", Marker.LINE_STRIP)
        if len(self.points) < 2:
            marker.action = Marker.DELETE
            return marker
        marker.scale.x = 0.004  # width
        marker.points = [Point(x=float(x), y=float(y), z=float(z)) for _, (x, y, z), _ in self.points]
        marker.colors = [PERSON if person else POLICY for *_, person in self.points]
        return marker


def words(status: EpisodeStatus | None, reward: Reward | None, reward_age_s: float) -> str:
    """What is known, in up to three lines of ASCII, which is all rviz can write. reward_age_s: since the reward came."""
    lines = []
    if status is not None:
        lines.append(f"{Mode(status.mode).name.lower()}, episode {status.episode}, step {status.index}")
        if status.phase != EpisodeStatus.RUNNING:
            lines[0] += f": {_PHASES.get(status.phase, 'unknown')} {status.text}".rstrip()
    if reward is None:
        lines.append("no reward yet")
    elif reward_age_s > _SILENT_S:
        lines.append(f"no reward for {reward_age_s:.0f} s")
    else:
        lines.append(f"success {100 * reward.probability:.0f} %, reward {reward.reward:g}")
    if status is not None:
        lines[-1] += f", return {status.episode_return:g}"
        lines.append(f"policy {status.policy_version}" + (", a person drives" if status.intervention else ""))
    return "\n".join(lines)


_PHASES = {getattr(EpisodeStatus, name): name.lower() for name in ("IDLE", "RESETTING", "PAUSED", "WAITING", "DONE", "HOLDING")}


def text_marker(text: str, success: bool, height_m: float) -> Marker:
    """Text that stands above the workspace and faces the viewer, green after a success."""
    marker = _marker("reward", Marker.TEXT_VIEW_FACING)
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = _PLACE_M
    marker.scale.z = height_m
    marker.color = SUCCESS if success else WHITE
    marker.text = text
    return marker


def _marker(name: str, kind: int) -> Marker:
    """One that replaces the last of its name. Its stamp is 0: rviz takes the newest transform and waits for none."""
    marker = Marker(ns=name, type=kind)
    marker.header.frame_id = BASE_FRAME
    return marker
