# SPDX-License-Identifier: Apache-2.0
"""Moves an arm of the twin as a person does to calibrate it: every joint into its middle, then each from end to end.

Run it beside `reach-grasp calibrate`, in another terminal: python -m so101_sim.station.calibrating FOLDER ARM
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from so101_description import JOINTS, joint_limits
from so101_sim.station.channel import RemoteHands
from so101_sim.station.settings import StationError

_BEYOND_RAD = 0.12  # how far a hand pushes against an end
_NEAR_RAD = 0.05
_STILL_RAD = 0.003
_LONGEST_S = 20.0  # longest time for one movement
# The other joints stand so that the arm meets neither the table nor itself while one joint is moved from end to end.
_ASIDE = {
    "shoulder_lift": {"elbow_flex": -1.5, "wrist_flex": 0.0},
    "elbow_flex": {"shoulder_lift": -1.0, "wrist_flex": 0.0},
    "wrist_flex": {"shoulder_lift": -1.0, "elbow_flex": 0.0},
}


class Hands(Protocol):
    """Hands that move the arm, such as `channel.RemoteHands`."""

    def feel(self) -> Mapping[str, Mapping[str, float]]:
        """Joints of both arms [rad], by arm and name."""

    def hold(self, arm: str, joints: Mapping[str, float]) -> object:
        """Take joints of an arm and move each there [rad]."""


def middles() -> dict[str, float]:
    """Middle of each joint [rad]; 0 for the wrist's roll, which has no ends to feel."""
    return {joint: 0.0 if joint == "wrist_roll" else sum(joint_limits()[joint]) / 2 for joint in JOINTS}


def sweep() -> Iterator[dict[str, float]]:
    """Poses, one after another, that bring each joint to both its ends."""
    rest = middles()
    for joint in JOINTS:
        carried = rest | _ASIDE.get(joint, {})
        low, high = joint_limits()[joint]
        yield carried
        yield carried | {joint: low - _BEYOND_RAD}
        yield carried  # stops on the way: between two readings a joint must not seem to turn the shorter way round
        yield carried | {joint: high + _BEYOND_RAD}
        yield carried
    yield rest


def move(
    hands: Hands,
    arm: str,
    pose: Mapping[str, float],
    moment: Callable[[], object] = lambda: time.sleep(0.02),
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Move an arm into a pose, and wait until it is there or goes no farther. moment: called to wait a little.

    Raises StationError when it does not come to rest.
    """
    hands.hold(arm, pose)
    end_s, before = clock() + _LONGEST_S, dict(hands.feel()[arm])
    still = 0
    while still < 5:
        moment()
        found = dict(hands.feel()[arm])
        moved = max(abs(found[joint] - before[joint]) for joint in pose)
        near = all(abs(found[joint] - angle) < _NEAR_RAD + _BEYOND_RAD for joint, angle in pose.items())
        still, before = (still + 1 if moved < _STILL_RAD and near else 0), found
        if clock() > end_s:
            raise StationError(f"the {arm} cannot be moved to {dict(pose)}: it is at {found}; does it still have torque?")


def main() -> None:
    """Move an arm of a running twin as calibration asks, while `reach-grasp calibrate` runs in another terminal."""
    parser = argparse.ArgumentParser(prog="python -m so101_sim.station.calibrating", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="Folder of the twin.")
    parser.add_argument("arm", choices=("follower", "leader"))
    options = parser.parse_args()
    try:
        with contextlib.closing(RemoteHands(options.folder / "hand")) as hands:
            input(f"When calibrate has let the {options.arm} go, press Enter here: ")
            move(hands, options.arm, middles())
            input("Every joint is in its middle. Press Enter at calibrate, then here: ")
            for pose in sweep():
                move(hands, options.arm, pose)
            input("Every joint was at both its ends. Press Enter at calibrate, agree, then press Enter here: ")
    except (OSError, StationError) as error:
        parser.error(f"{error}; is a twin running in {options.folder}, and has calibrate let the {options.arm} go?")


if __name__ == "__main__":
    main()
