# SPDX-License-Identifier: Apache-2.0
"""reach-grasp train and robot: a training on the display, until its steps are taken and learned from."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.running.episodes import MODES
from reach_grasp.systems import SYSTEMS
from reach_grasp.verbs.system import ShowSystem

if TYPE_CHECKING:
    from hilserl_interfaces.msg import EpisodeStatus, LearnerStatus
    from reach_grasp.running.display import Snapshot
    from reach_grasp.running.monitor import Monitor

_SHARED = (
    "sim", "config", "namespace", "driver", "states_topic", "command_type", "command_topic", "events", "classifier", "judge",
)  # fmt: skip
"""Arguments that an evaluation of the trained policy needs too."""
DEMONSTRATIONS, IMITATION, TRAINING = "demonstrations", "imitation", "training"


class Train(ShowSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp train.launch.py`, which go on until they are stopped."""

    def __init__(self, name: str) -> None:
        super().__init__(SYSTEMS[name])

    def run(self, options: argparse.Namespace) -> int:
        """Show the training to its end, and say where its result is."""
        from reach_grasp.running.display import Turn
        from reach_grasp.running.monitor import all_learned, check_running, unlearned
        from reach_grasp.running.scene import STARTING, Scene

        given = self.given(options)
        folder, wanted, steps = Path(given["run"]).expanduser(), int(given["demonstrations"]), int(given["steps"])
        log = folder / f"{self.name}.log"
        stages = (STARTING, DEMONSTRATIONS, IMITATION, TRAINING)
        scene = Scene(f"reach-grasp {self.name}  {folder}", stages, log, self.ticks(given))

        def look(process: subprocess.Popen[bytes], monitor: Monitor) -> Snapshot | None:
            status, learner = monitor.episode, monitor.learner
            if all_learned(status, learner):
                return None
            check_running(process, monitor, log)
            if status is None:
                return scene.snapshot(monitor, STARTING, "the nodes", 0.0)
            place = _place(status, learner, wanted, steps)
            shown = scene.snapshot(monitor, *place, waits=unlearned(status, learner))
            if self.name == "robot" and learner is None and status.phase == status.WAITING:
                return replace(shown, turn=Turn.PERSON, task="start the learner: reach-grasp learner, in the same ROS domain")
            return shown

        def kept(monitor: Monitor) -> str:
            if monitor.episode is None:
                return "nothing was done yet"
            waiting = monitor.episode.sequence - monitor.episode.acknowledged
            late = f"; {waiting} steps wait there until the learner has them" if waiting else ""
            return f"{_taken(monitor.episode, wanted, steps)} are kept in {folder}{late}"

        monitor = self.follow(options, given, log, look, kept)
        print(f"{monitor.episode.steps} steps are taken and learned from: {folder}")
        if self.name == "train":
            checkpoint = folder / "checkpoints" / "last"
            print(f"next: {shlex.join(['reach-grasp', 'eval', '--checkpoint', str(checkpoint), *self._station(given)])}")
        return 0

    def _station(self, given: dict[str, str]) -> list[str]:
        """Words for the evaluation that say which arm it is and who judges, as far as this training was told."""
        told = (a for a in self.system.arguments if a.name in _SHARED and given[a.name] != a.default)
        return [word for argument in told for word in (argument.flag, given[argument.name])]


def _place(status: EpisodeStatus, learner: LearnerStatus | None, wanted: int, steps: int) -> tuple[str, str, float]:
    """Stage, detail and progress of the stage."""
    if MODES[status.mode] == "training" and status.policy_version:
        return TRAINING, _taken(status, wanted, steps), status.steps / steps
    if learner is not None and learner.phase in ("pretraining", "warming_up"):
        return IMITATION, f"{learner.phase.replace('_', ' ')} {learner.progress:.0%}", float(learner.progress)
    if MODES[status.mode] == "demonstration" and status.phase != status.WAITING:
        return DEMONSTRATIONS, _taken(status, wanted, steps), status.successes / max(wanted, 1)
    return IMITATION, "the learner begins", 0.0


def _taken(status: EpisodeStatus, wanted: int, steps: int) -> str:
    """Progress of the actor in its mode, in words."""
    if MODES[status.mode] == "training":
        return f"{status.steps} of {steps} steps"
    return f"{status.successes} of {wanted} demonstrations, {status.episodes_done - status.successes} failures"
