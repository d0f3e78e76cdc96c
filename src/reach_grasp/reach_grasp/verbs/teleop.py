# SPDX-License-Identifier: Apache-2.0
"""reach-grasp teleop: a person moves the arm, on the display until Ctrl-C."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.systems import SYSTEMS, teleop_source
from reach_grasp.verbs.system import ShowSystem

if TYPE_CHECKING:
    from reach_grasp.running.display import Snapshot
    from reach_grasp.running.monitor import Monitor

LOG = Path("outputs/teleop.log")


class Teleop(ShowSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp teleop.launch.py`."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["teleop"])

    def run(self, options: argparse.Namespace) -> int:
        """Show who drives until Ctrl-C, or until a node ends for good."""
        from reach_grasp.process import check_alive
        from reach_grasp.running.scene import STARTING, Scene

        given = self.given(options)
        source = teleop_source(given["teleop"])
        arm = "the simulated arm" if given["sim"] == "true" else "the arm"
        scene = Scene(f"reach-grasp teleop  {arm}", (STARTING, "driving"), LOG)

        def look(process: subprocess.Popen[bytes], monitor: Monitor) -> Snapshot:
            check_alive(process, LOG)
            return scene.teleoperation(monitor, source)

        self.follow(options, given, LOG, look, lambda monitor: "nothing is recorded by teleop")
        return 0
