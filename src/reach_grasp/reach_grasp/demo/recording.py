# SPDX-License-Identifier: Apache-2.0
"""The first part of a demo: a person shows the task, and what is none of it, to bags."""

from __future__ import annotations

import time
from collections.abc import Sequence

from reach_grasp.demo.part import POLL_S, Part
from reach_grasp.demo.progress import TimeLeft
from reach_grasp.process import background
from reach_grasp.running.display import Display
from reach_grasp.running.episodes import Episode
from reach_grasp.running.folder import RunFolder
from reach_grasp.running.monitor import Monitor, all_recorded, unrecorded

FOLDER = "recording"


class Recording(Part):
    """Bags in `recording`/bags."""

    def __init__(self, folder: RunFolder, display: Display, domain: int, real_time_factor: float, left: TimeLeft) -> None:
        super().__init__(folder, display, left)
        self.domain, self.real_time_factor = domain, real_time_factor

    def run(self) -> None:
        """Until enough demonstrations are on disk."""
        folder, wanted = self.folder, self.folder.settings.demonstrations
        log, bags = folder.file("logs", "record.log"), folder.path / FOLDER / "bags"
        scene = self.scene(log)
        arguments = {
            **self.arguments(),
            "run": folder.path / FOLDER,
            "demonstrations": wanted,
            "real_time_factor": self.real_time_factor,
        }
        folder.enter("demonstrations")
        known = [Episode(**record) for record in folder.history("episodes") if record["mode"] == "demonstration"]
        with (
            Monitor(self.domain, known=known) as monitor,
            background("record", arguments, log, {"ROS_DOMAIN_ID": str(self.domain)}) as process,
        ):
            try:
                while not all_recorded(monitor.episode, bags):
                    self.check(process, monitor, log)
                    self._keep(monitor.finished())
                    status = monitor.episode
                    detail, done = "starting the nodes", 0.0
                    if status is not None:
                        failures = status.episodes_done - status.successes
                        detail, done = f"{status.successes} of {wanted}, {failures} failures", status.successes / wanted
                    left_s, waits = self.seconds_left("demonstrations", done), unrecorded(status, bags) if done >= 1.0 else ""
                    self.display.show(scene.snapshot(monitor, "demonstrations", detail, done, waits, left_s))
                    time.sleep(POLL_S)
            finally:
                self._keep(monitor.finished())

    def _keep(self, episodes: Sequence[Episode]) -> None:
        for episode in episodes:
            self.folder.append("episodes", episode.as_dict())
