# SPDX-License-Identifier: Apache-2.0
"""The task specification: the one definition of crop, resize, state layout, units and action space."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

STATE_PARTS: dict[str, int | None] = {
    "joint_positions": None,  # one per joint, rad
    "joint_velocities": None,  # one per joint, rad/s
    "gripper_position": 3,  # gripper frame in the base frame, m
    "gripper_euler": 3,  # gripper frame in the base frame, extrinsic xyz, rad
}
ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "gripper")


class TaskError(ValueError):
    """A task specification that contradicts itself, or one that differs from another."""


def _described(default: Any, text: str, **limits: Any) -> Any:
    """A field whose metadata becomes its ROS parameter descriptor; see `hilserl_ros.parameters`."""
    return field(default=default, metadata={"text": text, **limits})


@dataclass(frozen=True)
class TaskSpec:
    """What every node and every file must agree on. Each field is the ROS parameter `task.<field>`."""

    name: str = _described("reach_and_grasp_red_cube", "Name of the task, as datasets call it.")
    fps: float = _described(10.0, "Control rate in Hz: one observation and one action per tick.", minimum=1.0, maximum=60.0)
    max_episode_s: float = _described(10.0, "An episode times out after this long.", minimum=0.1, maximum=600.0)
    joints: tuple[str, ...] = _described(
        ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"),
        "Joint names in the order of the state; the gripper is last.",
    )
    cameras: tuple[str, ...] = _described(("wrist",), "Cameras the policy sees, by topic prefix.")
    camera_sizes: tuple[int, ...] = _described(
        (640, 480), "Width and height in pixels each camera must deliver, two per camera."
    )
    crops: tuple[int, ...] = _described((0, 80, 480, 480), "Crop top, left, height, width in pixels, four per camera.")
    rotations_deg: tuple[int, ...] = _described(
        (0,), "Clockwise rotation of each camera image before the crop: 0, 90, 180 or 270."
    )
    image_size: int = _described(128, "Side in pixels of the square image the network sees.", minimum=16, maximum=1024)
    state: tuple[str, ...] = _described(tuple(STATE_PARTS), f"Parts of the state vector, of: {', '.join(STATE_PARTS)}.")
    action_scale_m: float = _described(0.02, "Metres the target pose moves per unit of dx, dy, dz.", minimum=0.001, maximum=0.2)
    gripper_step_rad: float = _described(0.15, "Radians the gripper target moves per unit.", minimum=0.001, maximum=2.0)
    workspace_min_m: tuple[float, ...] = _described(
        (0.10, -0.15, 0.008), "Lower bounds x y z of the gripper frame, base frame; the fingers end up to 6.4 mm lower."
    )
    workspace_max_m: tuple[float, ...] = _described((0.35, 0.15, 0.25), "Upper bounds x y z of the gripper frame, base frame.")
    gripper_min_rad: float = _described(-0.17, "Most closed gripper target.", minimum=-0.2, maximum=1.8)
    gripper_max_rad: float = _described(0.75, "Most open gripper target.", minimum=-0.2, maximum=1.8)
    wrist_roll_rad: float = _described(1.5612, "The wrist roll that the controller holds.", minimum=-2.75, maximum=2.85)
    reset_joints_rad: tuple[float, ...] = _described(
        (-0.007, -1.8298, 1.6938, 0.7695, 1.5612, 0.0759),
        "Joint positions of the reset pose, in the order of `joints`.",
    )
    success_reward: float = _described(1.0, "Reward of a debounced success.", minimum=0.0, maximum=1000.0)
    terminate_on_success: bool = _described(True, "Whether success ends the episode and stops bootstrapping.")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, list):
                object.__setattr__(self, item.name, tuple(value))
        self._check()

    def _check(self) -> None:
        count = len(self.cameras)
        expected = {"camera_sizes": 2 * count, "crops": 4 * count, "rotations_deg": count, "workspace_min_m": 3,
                    "workspace_max_m": 3, "reset_joints_rad": len(self.joints)}  # fmt: skip
        for name, length in expected.items():
            if len(getattr(self, name)) != length:
                raise TaskError(f"task.{name} has {len(getattr(self, name))} values, expected {length}")
        for names in ("joints", "cameras", "state"):
            if len(set(getattr(self, names))) != len(getattr(self, names)):
                raise TaskError(f"task.{names} names something twice: {list(getattr(self, names))}")
        unknown = [part for part in self.state if part not in STATE_PARTS]
        if unknown or not self.state:
            raise TaskError(f"task.state has unknown or no parts {unknown}, allowed: {list(STATE_PARTS)}")
        if not self.cameras:
            raise TaskError("task.cameras is empty, expected at least one camera")
        for index, camera in enumerate(self.cameras):
            width, height = self.camera_sizes[2 * index : 2 * index + 2]
            rotation = self.rotations_deg[index]
            if rotation not in (0, 90, 180, 270):
                raise TaskError(f"task.rotations_deg of {camera} is {rotation}, allowed: 0, 90, 180, 270")
            if rotation in (90, 270):
                width, height = height, width
            top, left, crop_height, crop_width = self.crops[4 * index : 4 * index + 4]
            if (
                min(top, left) < 0
                or min(crop_height, crop_width) < 1
                or top + crop_height > height
                or left + crop_width > width
            ):
                raise TaskError(
                    f"task.crops of {camera} is {[top, left, crop_height, crop_width]}, which leaves the {width}x{height} image"
                )
        if any(low >= high for low, high in zip(self.workspace_min_m, self.workspace_max_m, strict=True)):
            raise TaskError(f"task.workspace_min_m {self.workspace_min_m} is not below workspace_max_m {self.workspace_max_m}")
        if self.gripper_min_rad >= self.gripper_max_rad:
            raise TaskError(f"task.gripper_min_rad {self.gripper_min_rad} is not below gripper_max_rad {self.gripper_max_rad}")

    @property
    def tick_s(self) -> float:
        """Duration of one tick in seconds."""
        return 1.0 / self.fps

    @property
    def max_ticks(self) -> int:
        """Actions in an episode before it times out."""
        return max(1, round(self.max_episode_s * self.fps))

    @property
    def state_size(self) -> int:
        """Length of the state vector."""
        return sum(STATE_PARTS[part] or len(self.joints) for part in self.state)

    @property
    def action_size(self) -> int:
        """Length of the action vector."""
        return len(ACTION_NAMES)

    @property
    def image_keys(self) -> tuple[str, ...]:
        """LeRobot feature names of the cameras, in their order."""
        return tuple(f"observation.images.{camera}" for camera in self.cameras)

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return {
            item.name: list(value) if isinstance(value := getattr(self, item.name), tuple) else value
            for item in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TaskSpec:
        """The inverse of `as_dict`. Raises TaskError on an unknown field."""
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise TaskError(f"the task specification has unknown fields {unknown}")
        return cls(**values)

    def digest(self) -> str:
        """Sixteen hexadecimal digits that differ where two specifications differ."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: TaskSpec) -> list[str]:
        """One readable line per field in which the other specification differs."""
        mine, theirs = self.as_dict(), other.as_dict()
        return [f"task.{key}: {mine[key]} here, {theirs[key]} there" for key in mine if mine[key] != theirs[key]]
