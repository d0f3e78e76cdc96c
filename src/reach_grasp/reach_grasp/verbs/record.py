# SPDX-License-Identifier: Apache-2.0
"""reach-grasp record: take demonstrations until there are enough, and say where the bags are."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.systems import SYSTEMS
from reach_grasp.verbs.system import StartSystem

if TYPE_CHECKING:
    from reach_grasp.running.monitor import Monitor


class Record(StartSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp record.launch.py`, which go on until they are stopped."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["record"])

    def run(self, options: argparse.Namespace) -> int:
        """Record until the demonstrations are taken and everything is on disk."""
        from reach_grasp.running.display import Snapshot
        from reach_grasp.running.monitor import all_recorded, check_running
        from reach_grasp.running.rates import Rate

        given, ticks = self.given(options), Rate()
        folder, wanted = Path(given["run"]).expanduser(), int(given["demonstrations"])
        log = folder / "record.log"

        def look(process: subprocess.Popen[bytes], monitor: Monitor) -> Snapshot | None:
            if all_recorded(monitor.episode, folder / "bags"):
                return None
            check_running(process, monitor, log)
            if (status := monitor.episode) is None:
                return Snapshot("recording", "starting the nodes")
            failures = status.episodes_done - status.successes
            detail = f"{status.successes} of {wanted} demonstrations, {failures} failures"
            return Snapshot("recording", detail, status.successes / max(wanted, 1), ticks.add(status.sequence))

        last = self.follow(given, log, look).episode
        bags = folder / "bags"
        print(f"{wanted} demonstrations and {last.episodes_done - last.successes} failures: {bags}")
        print(f"next: reach-grasp convert {bags} --repo-id me/reach_grasp")
        return 0
