# SPDX-License-Identifier: Apache-2.0
"""The part of a demo in which actor and learner train."""

from __future__ import annotations

import time

from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import EpisodeStatus
from reach_grasp.demo.evaluation import checkpoints
from reach_grasp.demo.part import POLL_S, Part
from reach_grasp.demo.preparation import CLASSIFIER
from reach_grasp.demo.progress import TimeLeft
from reach_grasp.process import background
from reach_grasp.running.display import Display, Snapshot
from reach_grasp.running.episodes import MODES, Episode
from reach_grasp.running.folder import RunFolder
from reach_grasp.running.monitor import Monitor, all_learned, learner_record, unlearned
from reach_grasp.running.verdicts import VerdictTracker

TRAINING = MODES.index("training")


class Training(Part):
    """Imitation and training: one system from start to end. The demonstrations are there already."""

    def __init__(self, folder: RunFolder, display: Display, domain: int, real_time_factor: float, left: TimeLeft) -> None:
        super().__init__(folder, display, left)
        self.domain, self.real_time_factor = domain, real_time_factor
        self.log = folder.file("logs", "train.log")
        self.episodes = [Episode(**record) for record in folder.history("episodes") if record["mode"] == "training"]
        self._scene, self._recorded = self.scene(self.log), ""
        self._final_since: float | None = None
        learned = folder.settings.learned_reward
        self.verdicts = VerdictTracker(round(1e9 * TaskSpec().tick_s)) if learned else None

    def run(self) -> None:
        """Until the steps are taken and the learner has learned from all of them."""
        settings, path = self.folder.settings, self.folder.path
        arguments = {
            **self.arguments(),
            "run": path,
            "demonstrations": self.folder.state["imported"]["episodes"],
            "steps": settings.steps,
            "real_time_factor": self.real_time_factor,
            **({"classifier": path / CLASSIFIER} if settings.learned_reward else {}),
        }
        environment = {"ROS_DOMAIN_ID": str(self.domain)}
        self.folder.enter("imitation")
        with (
            Monitor(self.domain, known=self.episodes, verdicts=self.verdicts) as monitor,
            background("train", arguments, self.log, environment) as process,
        ):
            try:
                while not self._finished(monitor):
                    self.check(process, monitor, self.log)
                    self._record(monitor)
                    self.display.show(self._snapshot(monitor))
                    time.sleep(POLL_S)
            finally:
                self._record(monitor)  # what was heard is told once, and the next sitting goes on after it
            self._record(monitor, over=True)
        checkpoints(path)  # raises when stopping left none

    def _finished(self, monitor: Monitor) -> bool:
        status = monitor.episode
        if status is None or status.phase != EpisodeStatus.DONE:
            return False
        # The learner may lag a little behind the last step; what is journalled is never lost, so waiting has an end.
        self._final_since = self._final_since or time.monotonic()
        return time.monotonic() - self._final_since > 60.0 or all_learned(status, monitor.learner)

    def _record(self, monitor: Monitor, over: bool = False) -> None:
        for episode in monitor.finished():
            self.episodes.append(episode)
            self.folder.append("episodes", episode.as_dict())
        for verdict in monitor.verdicts(over):
            self.folder.append("verdicts", verdict.as_dict())
        status, learner = monitor.episode, monitor.learner
        if status is not None:
            totals = ("run_id", "steps", "interventions", "sequence", "acknowledged", "resent", "policy_versions_applied")
            self.folder.state["actor"] = {name: getattr(status, name) for name in totals}
            self.folder.state["actor"] |= {"episodes_done": status.episodes_done, "successes": status.successes}
        if learner is not None:
            record = learner_record(learner)
            memory = max(self.folder.state.get("learner_rss_mb", 0.0), record["metrics"].get("resident_mb", 0.0))
            self.folder.state["learner_rss_mb"] = memory
            key = f"{record['optimization_step']} {record['phase']} {record['progress']:.2f}"
            if key != self._recorded:
                self._recorded = key
                self.folder.append("learner", {**record, "steps": status.steps if status is not None else 0})
        self.folder.save()

    def _phase(self, monitor: Monitor) -> tuple[str, float, str]:
        """Name, progress and detail of what is going on."""
        status, learner, settings = monitor.episode, monitor.learner, self.folder.settings
        if status is None or status.policy_version == 0:
            phase = learner.phase if learner is not None else "waiting for the learner"
            return "imitation", float(learner.progress) if learner is not None else 0.0, phase.replace("_", " ")
        taken = status.steps if status.mode == TRAINING else 0
        return "training", taken / settings.steps, f"{taken} of {settings.steps} steps"

    def _snapshot(self, monitor: Monitor) -> Snapshot:
        phase, progress, detail = self._phase(monitor)
        self.folder.enter(phase)
        waits = unlearned(monitor.episode, monitor.learner) if monitor.episode is not None else ""
        return self._scene.snapshot(monitor, phase, detail, progress, waits, self.seconds_left(phase, progress))
