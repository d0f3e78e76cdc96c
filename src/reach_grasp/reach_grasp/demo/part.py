# SPDX-License-Identifier: Apache-2.0
"""What the parts of a demo have in common."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hilserl_core.task import TaskSpec
from reach_grasp.demo.progress import PHASES, TimeLeft
from reach_grasp.errors import CommandError
from reach_grasp.interrupt import heed
from reach_grasp.running.display import Display, Snapshot, clock
from reach_grasp.running.folder import RunFolder
from reach_grasp.running.monitor import Monitor, check_running
from reach_grasp.running.scene import Scene

POLL_S = 0.25
FREE_GB = 0.5


class Part:
    """One part of the road: arguments of systems, how long is left, and one place that notices what goes wrong."""

    def __init__(self, folder: RunFolder, display: Display, left: TimeLeft) -> None:
        self.folder, self.display, self.left = folder, display, left

    def arguments(self) -> dict[str, Any]:
        """Of every system."""
        settings = self.folder.settings
        config = {"config": settings.config} if settings.config else {}
        return {"seed": settings.seed, "driver": settings.driver, **config}

    def seconds_left(self, phase: str, progress: float) -> float:
        """Of the whole demo, when `phase` is done to a fraction `progress`."""
        spent = {**self.folder.phases, phase: self.folder.seconds(phase)}
        return self.left.seconds(phase, min(progress, 1.0), spent)

    def scene(self, log: Path) -> Scene:
        """The scene in which the display shows this part's systems."""
        return Scene(f"reach-grasp demo  {self.folder.path}", PHASES, log, TaskSpec().max_ticks)

    def show(self, phase: str, detail: str, progress: float) -> None:
        """Show a phase in which no system runs."""
        left = (("time left", clock(self.seconds_left(phase, progress))),)
        place = {"number": PHASES.index(phase) + 1, "stages": len(PHASES), "title": f"reach-grasp demo  {self.folder.path}"}
        self.display.show(Snapshot(phase, detail, progress, task="nothing to do", fields=left, **place))

    def check(self, process: subprocess.Popen[bytes], monitor: Monitor, log: Path) -> None:
        """Raise CommandError when waiting on is pointless."""
        check_running(process, monitor, log)
        self.check_disk()

    def check_disk(self) -> None:
        """Raise CommandError when it is nearly full, KeyboardInterrupt after Ctrl-C."""
        heed()
        free = shutil.disk_usage(self.folder.path).free / 1e9
        if free < FREE_GB:
            raise CommandError(
                f"the disk of {self.folder.path} has only {free:.1f} GB free; free some and run the same again to go on"
            )
