# SPDX-License-Identifier: Apache-2.0
"""Runs the demo from its first demonstration to its report; every part that was done is not done again."""

from __future__ import annotations

from pathlib import Path

from reach_grasp.demo.evaluation import Evaluation
from reach_grasp.demo.part import Part
from reach_grasp.demo.preparation import ClassifierTraining, Dataset, Import
from reach_grasp.demo.progress import TimeLeft
from reach_grasp.demo.recording import Recording
from reach_grasp.demo.training import Training
from reach_grasp.report.page import write_report
from reach_grasp.running.display import Display
from reach_grasp.running.folder import RunFolder


def run_demo(folder: RunFolder, display: Display, domain: int, real_time_factor: float = 0.0) -> Path:
    """Everything that is not done yet; the path of report.html. domain: the first of three ROS domains to use.

    Raises CommandError when a node gives up, nothing is heard any more, or the disk runs full.
    """
    left = TimeLeft(folder.settings)
    parts: dict[str, Part] = {
        "recording": Recording(folder, display, domain, real_time_factor, left),
        "dataset": Dataset(folder, display, left),
        "classifier": ClassifierTraining(folder, display, left),
        "import": Import(folder, display, left),
        "training": Training(folder, display, domain, real_time_factor, left),
        "evaluation": Evaluation(folder, display, domain + 1, left),
    }
    if not folder.settings.learned_reward:
        del parts["classifier"]
    for name, part in parts.items():
        if not folder.done(name):
            part.run()
            folder.complete(name)
    part.show("report", "", 0.0)
    page = write_report(folder.path)
    folder.state["finished"] = True
    folder.save()
    return page
