# SPDX-License-Identifier: Apache-2.0
"""Runs a rehearsal: a stage that was done is not repeated. The commands print on the terminal that the user looks at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from reach_grasp.errors import CommandError
from reach_grasp.interrupt import heed
from reach_grasp.process import stop
from reach_grasp.rehearsal.report import write_report
from reach_grasp.rehearsal.stages import Call, Plan, Stage, shown
from reach_grasp.rehearsal.station import COMMAND, REPORT, Station, calibrate
from reach_grasp.rehearsal.watch import Watch
from reach_grasp.running.folder import RunFolder, replace_text
from reach_grasp.running.monitor import learner_record

POLL_S = 0.25
_CALIBRATION = "HF_LEROBOT_CALIBRATION"


class Rehearsal:
    """Everything in one folder: devices, calibrations, bags, dataset, classifier, run, evaluations, histories, report."""

    def __init__(self, folder: RunFolder, domain: int, say: Callable[[str], None] = print) -> None:
        """domain: ROS domain of everything that runs. say: prints a line for the user."""
        self.folder, self.domain, self.say = folder, domain, say
        self.plan = Plan(folder.path, folder.settings)
        # The user's own calibrations are not touched.
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), _CALIBRATION: str(folder.path / "calibration")}

    def run(self) -> Path:
        """Do what is not done yet; the path of report.html. Raises CommandError when a stage fails."""
        folder = self.folder
        names = [stage.name for stage in self.plan.stages(_Unknown())]
        for number, name in enumerate(names, start=1):
            if folder.done(name):
                continue
            with self._station(name) as station:
                stage = self.plan.stages(station.devices if station is not None else _Unknown())[number - 1]
                self.say(f"\n== stage {number} of {len(names)}: {name}")
                folder.enter(stage.phase)
                self._do(stage, station)
            folder.complete(name)
        page = write_report(folder.path)
        folder.state["finished"] = True
        folder.save()
        return page

    @contextmanager
    def _station(self, name: str) -> Iterator[Station | None]:
        """Run the twin beside a stage that needs it, and note how well it kept time."""
        stage = next(stage for stage in self.plan.stages(_Unknown()) if stage.name == name)
        if not stage.station:
            yield None
            return
        log = self.folder.file("logs", "station.log")
        with Station(self.plan.station, self.folder.settings.seed, log, self.environment) as station:
            try:
                yield station
            finally:
                self._note_twin(name, station)

    def _note_twin(self, name: str, station: Station) -> None:
        try:
            figures = json.loads((station.folder / REPORT).read_text())
        except (OSError, ValueError):
            return
        self.folder.state.setdefault("twin", {})[name] = figures
        self.folder.save()

    def _do(self, stage: Stage, station: Station | None) -> None:
        for arm in stage.calibrated:
            words = self.plan.calibrate(arm, station.devices)
            self.say(f"$ {shown(words)}")
            calibrate(station, words, self.environment)
        for call in stage.calls:
            self._call(stage, call, station)
        if stage.name.startswith("evaluation"):
            self._keep_evaluation("imitation" if "imitation" in stage.name else "final")

    def _call(self, stage: Stage, call: Call, station: Station | None) -> None:
        """Run one command on the user's terminal, and listen beside it."""
        if call.made is not None:
            shutil.rmtree(call.made, ignore_errors=True)
        self.say(f"$ {shown(call.words)}")
        began_s = time.monotonic()
        with ExitStack() as stack:
            watch = stack.enter_context(Watch(self.domain)) if station is not None else None
            process = subprocess.Popen([*COMMAND, *call.words], env=self.environment)
            stack.callback(stop, process)
            while process.poll() is None:
                heed()
                if station is not None:
                    station.check()
                    self._note(stage, watch)
                time.sleep(POLL_S)
            if watch is not None:
                self._note(stage, watch, over=True)
        seconds = time.monotonic() - began_s
        self.folder.append("commands", {"command": shown(call.words), "exit_code": process.returncode, "seconds": seconds})
        if process.returncode not in call.allowed:
            raise CommandError(f"stage {stage.name}: {shown(call.words)} ended with {process.returncode}")

    def _note(self, stage: Stage, watch: Watch, over: bool = False) -> None:
        """Write down what the monitor heard."""
        folder = self.folder
        for judged in watch.judged(over):
            folder.append("truths", {"stage": stage.name, **judged.as_dict()})
        for episode in watch.finished():
            folder.append("episodes", episode.as_dict())
        for name, values in watch.diagnostics.items():
            folder.state.setdefault("diagnostics", {}).setdefault(stage.name, {})[name] = values
        if stage.name == "training":
            self._note_training(watch)

    def _note_training(self, watch: Watch) -> None:
        folder, status, learner = self.folder, watch.episode, watch.learner
        if status is not None:
            totals = ("run_id", "steps", "interventions", "sequence", "acknowledged", "resent", "policy_versions_applied")
            counted = {name: getattr(status, name) for name in totals}
            folder.state["actor"] = counted | {"episodes_done": status.episodes_done, "successes": status.successes}
        if learner is not None:
            record = learner_record(learner)
            memory = record["metrics"].get("resident_mb", 0.0)
            folder.state["learner_rss_mb"] = max(folder.state.get("learner_rss_mb", 0.0), memory)
            key = f"{record['optimization_step']} {record['phase']} {record['progress']:.2f}"
            if key != self._noted:
                self._noted = key
                folder.append("learner", {**record, "steps": status.steps if status is not None else 0})

    _noted = ""

    def _keep_evaluation(self, name: str) -> None:
        """Write a record of each evaluated episode, with the twin's truth as its success."""
        wanted = "evaluation of imitation" if name == "imitation" else "evaluation"
        found = [record for record in self.folder.history("truths") if record["stage"] == wanted]
        count = self.folder.settings.imitation_episodes if name == "imitation" else self.folder.settings.eval_episodes
        if len(found) < count:
            raise CommandError(f"only {len(found)} of {count} episodes of the {wanted} were heard; run the same again")
        records = [_episode(number, record) for number, record in enumerate(found[-count:])]
        text = "".join(json.dumps(record) + "\n" for record in records)
        replace_text(self.folder.file("history", f"evaluation_{name}.jsonl"), text)


class _Unknown(Mapping[str, str]):
    """Device names while there is no twin: a stage's name and kind do not need them."""

    def __getitem__(self, name: str) -> str:
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _episode(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluated episode with the truth as its success."""
    kept = {name: record[name] for name in ("seed", "ticks", "said", "held", "judge")}
    return {"number": number, "success": record["true"], "judged": True, **kept}
