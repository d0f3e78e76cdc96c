# SPDX-License-Identifier: Apache-2.0
"""reach-grasp record: take demonstrations until there are enough, and say where the bags are."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.systems import SYSTEMS
from reach_grasp.verbs.system import ShowSystem

if TYPE_CHECKING:
    from reach_grasp.running.display import Snapshot
    from reach_grasp.running.monitor import Monitor


class Record(ShowSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp record.launch.py`, which go on until they are stopped."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["record"])

    def run(self, options: argparse.Namespace) -> int:
        """Record until the demonstrations are taken and everything is on disk."""
        from reach_grasp.running.monitor import all_recorded, check_running, unrecorded
        from reach_grasp.running.scene import STARTING, Scene

        given = self.given(options)
        folder, wanted = Path(given["run"]).expanduser(), int(given["demonstrations"])
        log, bags = folder / "record.log", folder / "bags"
        stages = (STARTING, "demonstrations", "closing the bags")
        scene = Scene(f"reach-grasp record  {folder}", stages, log, self.ticks(given))

        def look(process: subprocess.Popen[bytes], monitor: Monitor) -> Snapshot | None:
            if all_recorded(monitor.episode, bags):
                return None
            check_running(process, monitor, log)
            if (status := monitor.episode) is None:
                return scene.snapshot(monitor, STARTING, "the nodes", 0.0)
            taken = f"{status.successes} of {wanted}, {status.episodes_done - status.successes} failures"
            if status.successes >= wanted:
                return scene.snapshot(monitor, stages[2], taken, 1.0, unrecorded(status, bags))
            return scene.snapshot(monitor, stages[1], taken, status.successes / wanted)

        def kept(monitor: Monitor) -> str:
            status = monitor.episode
            if status is None:
                return "nothing was recorded yet"
            failures = status.episodes_done - status.successes
            return f"{status.successes} of {wanted} demonstrations and {failures} failures are kept in {bags}"

        last = self.follow(options, given, log, look, kept).episode
        print(f"{wanted} demonstrations and {last.episodes_done - last.successes} failures: {bags}")
        if last.episodes_done == last.successes:
            print("no failure was shown, but a reward classifier must see some: record a few more and let them fail")
        print(f"next: reach-grasp convert {bags} --repo-id me/reach_grasp")
        return 0
