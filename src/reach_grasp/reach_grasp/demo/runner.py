# SPDX-License-Identifier: Apache-2.0
"""Runs the demo from its first demonstration to its report; every part that was done is not done again."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import EpisodeStatus
from reach_grasp.demo.display import Display, Snapshot
from reach_grasp.demo.episodes import MODES, Episode
from reach_grasp.demo.film import FilmRecorder
from reach_grasp.demo.folder import DemoFolder, replace_text
from reach_grasp.demo.monitor import Monitor, check_running, learner_record
from reach_grasp.demo.progress import Rate, TimeLeft, intervention_rate, success_rate
from reach_grasp.errors import CommandError
from reach_grasp.process import background
from reach_grasp.report.page import write_report

CAMERAS = ("wrist", "front")
# What is compared: the policy that only imitates, and the trained one. Their films hold this many episodes.
EVALUATIONS = {"imitation": 6, "final": 10}
POLL_S = 0.25
DEMONSTRATION, TRAINING = MODES.index("demonstration"), MODES.index("training")
FREE_GB = 0.5


def run_demo(folder: DemoFolder, display: Display, domain: int, real_time_factor: float = 0.0) -> Path:
    """Everything that is not done yet; the path of report.html. domain: the first of three ROS domains to use.

    Raises CommandError when a node gives up, nothing is heard any more, or the disk runs full.
    """
    left = TimeLeft(folder.settings.demonstrations, folder.settings.steps, folder.settings.eval_episodes)
    if not folder.done("training"):
        Training(folder, display, domain, real_time_factor, left).run()
        folder.complete("training")
    if not folder.done("evaluation"):
        Evaluation(folder, display, domain + 1, left).run()
        folder.complete("evaluation")
    display.show(Snapshot("report"))
    page = write_report(folder.path)
    folder.state["finished"] = True
    folder.save()
    return page


class _Part:
    """Common to training and evaluation: polling with one place that notices what goes wrong."""

    def __init__(self, folder: DemoFolder, display: Display, left: TimeLeft) -> None:
        self.folder, self.display, self.left = folder, display, left

    def arguments(self) -> dict[str, Any]:
        settings = self.folder.settings
        config = {"config": settings.config} if settings.config else {}
        return {"seed": settings.seed, **config}

    def check(self, process: subprocess.Popen[bytes], monitor: Monitor, log: Path) -> None:
        """Raise CommandError when waiting on is pointless."""
        check_running(process, monitor, log)
        free = shutil.disk_usage(self.folder.path).free / 1e9
        if free < FREE_GB:
            raise CommandError(
                f"the disk of {self.folder.path} has only {free:.1f} GB free; free some and run the same again to go on"
            )


class Training(_Part):
    """Demonstrations, imitation and training: one system from start to end."""

    def __init__(self, folder: DemoFolder, display: Display, domain: int, real_time_factor: float, left: TimeLeft) -> None:
        super().__init__(folder, display, left)
        self.domain, self.real_time_factor = domain, real_time_factor
        self.log = folder.file("logs", "train.log")
        self.episodes: dict[str, list[Episode]] = {mode: [] for mode in MODES}
        for record in folder.history("episodes"):
            self.episodes[record["mode"]].append(Episode(**record))
        self._ticks, self._recorded, self._memory_read = Rate(), "", 0.0
        self._final_since: float | None = None

    def run(self) -> None:
        """Until the steps are taken and the learner has learned from all of them."""
        settings, path = self.folder.settings, self.folder.path
        arguments = {
            **self.arguments(),
            "run": path,
            "demonstrations": settings.demonstrations,
            "steps": settings.steps,
            "real_time_factor": self.real_time_factor,
        }
        environment = {"ROS_DOMAIN_ID": str(self.domain)}
        self.folder.enter("demonstrations")
        known = [episode for found in self.episodes.values() for episode in found]
        with (
            Monitor(self.domain, known=known) as monitor,
            background("train", arguments, self.log, environment) as process,
        ):
            while not self._finished(monitor):
                self.check(process, monitor, self.log)
                self._record(monitor, process)
                self.display.show(self._snapshot(monitor))
                time.sleep(POLL_S)
            self._record(monitor, process)
        checkpoints(path)  # raises when stopping left none

    def _finished(self, monitor: Monitor) -> bool:
        status, learner = monitor.episode, monitor.learner
        if status is None or status.phase != EpisodeStatus.DONE:
            return False
        # The learner may lag a little behind the last step; what is journalled is never lost, so waiting has an end.
        self._final_since = self._final_since or time.monotonic()
        waited = time.monotonic() - self._final_since
        if waited > 60.0:
            return True
        return learner is not None and learner.trained_through >= status.sequence

    def _record(self, monitor: Monitor, process: subprocess.Popen[bytes]) -> None:
        for episode in monitor.finished():
            self.episodes[episode.mode].append(episode)
            self.folder.append("episodes", episode.as_dict())
        status, learner = monitor.episode, monitor.learner
        if status is not None:
            totals = ("run_id", "steps", "interventions", "sequence", "acknowledged", "resent", "policy_versions_applied")
            self.folder.state["actor"] = {name: getattr(status, name) for name in totals}
            self.folder.state["actor"] |= {"episodes_done": status.episodes_done, "successes": status.successes}
        if learner is not None:
            record = learner_record(learner)
            key = f"{record['optimization_step']} {record['phase']} {record['progress']:.2f}"
            if key != self._recorded:
                self._recorded = key
                self.folder.append("learner", {**record, "steps": status.steps if status is not None else 0})
        if time.monotonic() - self._memory_read > 5.0:
            self._memory_read = time.monotonic()
            peak = self.folder.state.get("learner_rss_mb", 0.0)
            self.folder.state["learner_rss_mb"] = max(peak, node_memory_mb(process.pid, "learner"))
        self.folder.save()

    def _phase(self, monitor: Monitor) -> tuple[str, float, str]:
        """Name, progress and detail of what is going on."""
        status, learner, settings = monitor.episode, monitor.learner, self.folder.settings
        if status is None:
            return "demonstrations", 0.0, "starting the nodes"
        if status.mode == DEMONSTRATION and status.phase != EpisodeStatus.WAITING:
            text = f"{status.successes} of {settings.demonstrations}"
            return "demonstrations", status.successes / settings.demonstrations, text
        if status.policy_version == 0:
            phase = learner.phase if learner is not None else "waiting for the learner"
            return "imitation", float(learner.progress) if learner is not None else 0.0, phase.replace("_", " ")
        taken = status.steps if status.mode == TRAINING else 0
        text = status.text if status.phase == EpisodeStatus.HOLDING else f"step {taken} of {settings.steps}"
        return "training", taken / settings.steps, text

    def _snapshot(self, monitor: Monitor) -> Snapshot:
        status, learner = monitor.episode, monitor.learner
        phase, progress, detail = self._phase(monitor)
        self.folder.enter(phase)
        spent = {**self.folder.phases, phase: self.folder.seconds(phase)}
        training = phase == "training"
        return Snapshot(
            phase=phase,
            detail=detail,
            progress=progress,
            ticks_per_second=self._ticks.add(status.sequence) if status is not None else None,
            success_last_20=success_rate(self.episodes["training"]) if training else None,
            intervention_rate=intervention_rate(self.episodes["training"]) if training else None,
            updates_per_second=learner.updates_per_second if learner is not None and phase != "demonstrations" else None,
            policy_version=status.policy_version if training else None,
            left_s=self.left.seconds(phase, min(progress, 1.0), spent),
        )


class Evaluation(_Part):
    """The imitating and the trained policy on the same fresh episodes, side by side."""

    def __init__(self, folder: DemoFolder, display: Display, domain: int, left: TimeLeft) -> None:
        super().__init__(folder, display, left)
        self.domain = domain
        self.episodes: dict[str, list[Episode]] = {name: [] for name in EVALUATIONS}
        self.films = {name: FilmRecorder(CAMERAS, length) for name, length in EVALUATIONS.items()}
        self._ticks = Rate()

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
                self.display.show(self._snapshot([monitor for monitor, _, _ in running.values()]))
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

    def _snapshot(self, monitors: list[Monitor]) -> Snapshot:
        count = self.folder.settings.eval_episodes
        progress = sum(len(found) for found in self.episodes.values()) / (count * len(self.episodes))
        steps = sum(monitor.episode.steps for monitor in monitors if monitor.episode is not None)
        words = {"imitation": "imitation only", "final": "trained"}
        parts = [f"{words[name]} {sum(e.success for e in found)} of {len(found)}" for name, found in self.episodes.items()]
        spent = {**self.folder.phases, "evaluation": self.folder.seconds("evaluation")}
        return Snapshot(
            phase="evaluation",
            detail=", ".join(parts),
            progress=progress,
            ticks_per_second=self._ticks.add(steps),
            left_s=self.left.seconds("evaluation", min(progress, 1.0), spent),
        )


def checkpoints(path: Path) -> dict[str, Path]:
    """The checkpoint that only imitates (the first) and the trained one (the last). Raises CommandError."""
    folder = path / "checkpoints"
    numbered = [item for item in folder.iterdir() if item.name.isdigit()] if folder.is_dir() else []
    if len(numbered) < 2:
        raise CommandError(f"{folder} holds {len(numbered)} checkpoints, expected the first and the last of a training")
    return {"imitation": min(numbered, key=lambda item: int(item.name)), "final": (folder / "last").resolve()}


def node_memory_mb(manager: int, name: str) -> float:
    """Resident megabytes of a node below a process manager, 0 when it is not there."""
    found = [0.0]
    try:
        for process in psutil.Process(manager).children(recursive=True):
            # The node's guard carries its words too, but is far smaller.
            if f"__node:={name}" in process.cmdline():
                found.append(process.memory_info().rss / 1e6)
    except psutil.Error:
        pass
    return max(found)
