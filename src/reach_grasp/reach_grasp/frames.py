# SPDX-License-Identifier: Apache-2.0
"""Transforms of the joints of a URDF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from geometry_msgs.msg import TransformStamped
from scipy.spatial.transform import Rotation

_FIXED, _TURNING = "fixed", ("revolute", "continuous")


class _Joint(NamedTuple):
    """A joint of a URDF. place: (3,) m and turn: of the child's frame in the parent's at position 0. axis: (3,), length 1."""

    name: str
    kind: str
    parent: str
    child: str
    place: np.ndarray
    turn: Rotation
    axis: np.ndarray


class Frames:
    """Where each link of a robot is in its parent's frame, as the URDF defines it (wiki.ros.org/urdf/XML/joint)."""

    def __init__(self, urdf: str) -> None:
        """urdf: its text. Raises ValueError for a joint that neither turns nor is fixed."""
        joints = [_joint(element) for element in ElementTree.fromstring(urdf).findall("joint")]
        for joint in joints:
            if joint.kind != _FIXED and joint.kind not in _TURNING:
                raise ValueError(f"joint {joint.name} of the robot description is {joint.kind}; it must be fixed or revolute")
        self._turning = [joint for joint in joints if joint.kind in _TURNING]
        self.fixed = [_transform(joint, joint.turn) for joint in joints if joint.kind == _FIXED]
        """Transforms that never change, without a stamp."""

    def at(self, positions: Mapping[str, float]) -> list[TransformStamped]:
        """Transforms of the joints whose positions [rad] are given and finite, without a stamp; other names are let pass."""
        moved = (joint for joint in self._turning if np.isfinite(positions.get(joint.name, np.nan)))
        return [_transform(joint, joint.turn * Rotation.from_rotvec(joint.axis * positions[joint.name])) for joint in moved]


def _joint(element: ElementTree.Element) -> _Joint:
    origin, axis = element.find("origin"), element.find("axis")
    along = _numbers(axis, "xyz", "1 0 0")
    return _Joint(
        element.get("name", ""),
        element.get("type", ""),
        element.find("parent").get("link", ""),
        element.find("child").get("link", ""),
        _numbers(origin, "xyz"),
        Rotation.from_euler("xyz", _numbers(origin, "rpy")),  # about fixed axes
        along / np.linalg.norm(along),
    )


def _numbers(element: ElementTree.Element | None, name: str, default: str = "0 0 0") -> np.ndarray:
    """(3,) numbers of an attribute."""
    text = default if element is None else element.get(name, default)
    return np.array([float(word) for word in text.split()])


def _transform(joint: _Joint, turn: Rotation) -> TransformStamped:
    message = TransformStamped(child_frame_id=joint.child)
    message.header.frame_id = joint.parent
    place, rotation = message.transform.translation, message.transform.rotation
    place.x, place.y, place.z = joint.place.tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = turn.as_quat().tolist()
    return message
