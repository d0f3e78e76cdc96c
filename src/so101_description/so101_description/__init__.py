# SPDX-License-Identifier: Apache-2.0
"""Where the arm's description lies, and the limits of its joints."""

from pathlib import Path
from xml.etree import ElementTree

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""The joints of the arm, the gripper last."""


def urdf_path() -> Path:
    """The URDF of the follower arm, in the source tree and when installed alike."""
    return Path(__file__).resolve().parent / "urdf" / "so101.urdf"


def joint_limits() -> dict[str, tuple[float, float]]:
    """Lowest and highest position of every joint [rad], from the URDF."""
    joints = {joint.get("name"): joint.find("limit") for joint in ElementTree.parse(urdf_path()).iter("joint")}
    return {name: (float(joints[name].get("lower")), float(joints[name].get("upper"))) for name in JOINTS}
