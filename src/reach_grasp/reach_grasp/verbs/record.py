# SPDX-License-Identifier: Apache-2.0
"""reach-grasp record: take demonstrations until there are enough, and say where the bags are."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from reach_grasp.systems import SYSTEMS, nodes_of
from reach_grasp.verbs.system import StartSystem


class Record(StartSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp record.launch.py`, which go on until they are stopped."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["record"])

    def run(self, options: argparse.Namespace) -> int:
        """Record until the demonstrations are taken and everything is on disk."""
        from reach_grasp.demo.display import Display, Snapshot
        from reach_grasp.demo.monitor import Monitor, all_recorded, check_running
        from reach_grasp.demo.progress import Rate
        from reach_grasp.process import background

        given = {argument.name: getattr(options, argument.name) for argument in self.system.arguments}
        nodes_of(self.system.name, given)  # raises before anything is started
        folder, wanted, ticks = Path(given["run"]).expanduser(), int(given["demonstrations"]), Rate()
        folder.mkdir(parents=True, exist_ok=True)
        log, domain = folder / "record.log", int(os.environ.get("ROS_DOMAIN_ID", "0") or 0)
        with (
            Display(sys.stdout) as display,
            Monitor(domain, namespace=given["namespace"]) as monitor,
            background("record", given, log, {}) as process,
        ):
            while not all_recorded(monitor.episode, folder / "bags"):
                check_running(process, monitor, log)
                if (status := monitor.episode) is not None:
                    failures = status.episodes_done - status.successes
                    detail = f"{status.successes} of {wanted} demonstrations, {failures} failures"
                    done = status.successes / max(wanted, 1)
                    display.show(Snapshot("recording", detail, done, ticks.add(status.sequence)))
                time.sleep(0.25)
        bags = folder / "bags"
        print(f"{wanted} demonstrations and {monitor.episode.episodes_done - monitor.episode.successes} failures: {bags}")
        print(f"next: reach-grasp convert {bags} --repo-id me/reach_grasp")
        return 0
