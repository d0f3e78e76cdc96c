# SPDX-License-Identifier: Apache-2.0
"""Where the arm's description lies."""

from pathlib import Path

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""The joints of the arm, the gripper last."""


def urdf_path() -> Path:
    """The URDF of the follower arm, in the source tree and when installed alike."""
    return Path(__file__).resolve().parent / "urdf" / "so101.urdf"
