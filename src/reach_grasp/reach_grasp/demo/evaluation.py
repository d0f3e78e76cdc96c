# SPDX-License-Identifier: Apache-2.0
"""The part of a demo in which its policies are judged, by the simulator's truth."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from hilserl_core.task import TaskSpec
from reach_grasp.demo.part import POLL_S, Part
from reach_grasp.demo.progress import TimeLeft
from reach_grasp.errors import CommandError
from reach_grasp.process import background
from reach_grasp.running.display import Display
from reach_grasp.running.episodes import Episode
from reach_grasp.running.film import FilmRecorder
from reach_grasp.running.folder import RunFolder, replace_text
from reach_grasp.running.monitor import Monitor

CAMERAS = ("wrist", "front")
# What is compared: the policy that only imitates, and the trained one. Their films hold this many episodes.
EVALUATIONS = {"imitation": 6, "final": 10}


class Evaluation(Part):
    """The imitating and the trained policy on the same fresh episodes, side by side."""

    def __init__(self, folder: RunFolder, display: Display, domain: int, left: TimeLeft) -> None:
        super().__init__(folder, display, left)
        self.domain = domain
        self.episodes: dict[str, list[Episode]] = {name: [] for name in EVALUATIONS}
        self.films = {name: FilmRecorder(CAMERAS, length) for name, length in EVALUATIONS.items()}
        self._scene = self.scene(folder.file("logs", "evaluation_final.log"))

    def run(self) -> None:
        """Until both have finished all episodes."""
        folder, count = self.folder, self.folder.settings.eval_episodes
        shutil.rmtree(folder.path / "evaluation", ignore_errors=True)
        folder.enter("evaluation")
        chosen = checkpoints(folder.path)
        with ExitStack() as stack:
            running = {name: self._start(name, chosen[name], self.domain + i, stack) for i, name in enumerate(EVALUATIONS)}
            while any(len(found) < count for found in self.episodes.values()):
                for name, (monitor, process, log) in running.items():
                    if len(self.episodes[name]) < count:
                        self.check(process, monitor, log)
                        self.episodes[name] += monitor.finished()
                self._show(next(monitor for name, (monitor, _, _) in running.items() if name == self._shown))
                time.sleep(POLL_S)
        for name, found in self.episodes.items():
            lines = "".join(json.dumps(episode.as_dict()) + "\n" for episode in found[:count])
            replace_text(folder.file("history", f"evaluation_{name}.jsonl"), lines)
            self.films[name].encode(folder.file(f"film_{name}.mp4"), TaskSpec().fps)

    def _start(
        self, name: str, checkpoint: Path, domain: int, stack: ExitStack
    ) -> tuple[Monitor, subprocess.Popen[bytes], Path]:
        log = self.folder.file("logs", f"evaluation_{name}.log")
        arguments = {
            **self.arguments(),
            "run": self.folder.path / "evaluation" / name,
            "checkpoint": checkpoint,
            "episodes": self.folder.settings.eval_episodes,
        }
        monitor = stack.enter_context(Monitor(domain, self.films[name]))
        return monitor, stack.enter_context(background("eval", arguments, log, {"ROS_DOMAIN_ID": str(domain)})), log

    @property
    def _shown(self) -> str:
        """The evaluation whose arm is shown: the trained policy's until that is done."""
        return "final" if len(self.episodes["final"]) < self.folder.settings.eval_episodes else "imitation"

    def _show(self, monitor: Monitor) -> None:
        count = self.folder.settings.eval_episodes
        progress = sum(len(found) for found in self.episodes.values()) / (count * len(self.episodes))
        words = {"imitation": "imitation only", "final": "trained"}
        parts = [f"{words[name]} {_score(found)}" for name, found in self.episodes.items()]
        left_s = self.seconds_left("evaluation", progress)
        self.display.show(self._scene.snapshot(monitor, "evaluation", ", ".join(parts), progress, left_s=left_s))


def _score(episodes: Sequence[Episode]) -> str:
    judged = [episode for episode in episodes if episode.judged]
    unjudged = f" ({len(episodes) - len(judged)} unjudged)" if len(judged) < len(episodes) else ""
    return f"{sum(episode.success for episode in judged)} of {len(judged)}{unjudged}"


def checkpoints(path: Path) -> dict[str, Path]:
    """The checkpoint that only imitates (the first) and the trained one (the last). Raises CommandError."""
    folder = path / "checkpoints"
    numbered = [item for item in folder.iterdir() if item.name.isdigit()] if folder.is_dir() else []
    if len(numbered) < 2:
        raise CommandError(f"{folder} holds {len(numbered)} checkpoints, expected the first and the last of a training")
    return {"imitation": min(numbered, key=lambda item: int(item.name)), "final": (folder / "last").resolve()}
