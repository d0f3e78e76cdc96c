# SPDX-License-Identifier: Apache-2.0
"""reach-grasp train-classifier: from a labelled dataset to a reward classifier and its report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reach_grasp.errors import CommandError
from reach_grasp.task_files import add_task_option, config_file, task_of_dataset
from reach_grasp.values import folder_to_write


class TrainClassifier:
    """The verb."""

    name = "train-classifier"
    text = "Train the reward classifier on a labelled LeRobot dataset; writes one folder and a report."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("dataset", type=Path, help="Folder of a LeRobot dataset v3.0 with rewards.")
        parser.add_argument("--config", type=Path, help="Settings; default: the installed config/reward_classifier.yaml.")
        add_task_option(parser)
        parser.add_argument(
            "--output",
            type=folder_to_write,
            default=Path("outputs/reward_classifier"),
            help="Folder to write. Default: %(default)s.",
        )

    def run(self, options: argparse.Namespace) -> int:
        """Train, write and say how good it is."""
        from rich.progress import Progress, TextColumn

        from reward_classifier_node.api import train_from_dataset
        from reward_classifier_node.errors import ClassifierError
        from reward_classifier_node.report import UNMEASURED
        from reward_classifier_node.settings import ClassifierSettings

        try:
            settings = ClassifierSettings.from_file(options.config or config_file("reward_classifier"))
            task = task_of_dataset(options.dataset, options.task)
            with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[loss]}")) as bars:
                shown: dict[str, Any] = {}

                def show(stage: str, done: int, total: int, loss: float) -> None:
                    if stage not in shown:
                        shown[stage] = bars.add_task(stage, total=total, loss="")
                    bars.update(shown[stage], completed=done, loss="" if loss != loss else f"loss {loss:.4f}")

                metrics = train_from_dataset(options.dataset, options.output, settings, task, show)
        except ClassifierError as error:
            raise CommandError(str(error)) from error
        for title, numbers in (("trained", metrics["ours"]), ("head only", metrics["head_only"])):
            print(
                f"{title:<10} accuracy {100 * numbers['accuracy']:.2f} %, precision {100 * numbers['precision']:.2f} %, "
                f"recall {100 * numbers['recall']:.2f} % at {numbers['threshold']:.3f} on {numbers['frames']} held-out frames"
            )
        if not metrics["heldout_failures"]:
            print(UNMEASURED)
        if not metrics["ours"]["target_reached"]:
            print(
                f"no threshold reaches a precision of {settings.target_precision} on the held-out frames and sees "
                f"{settings.least_recall:.0%} of the successes: look at the worst frames in the report, a label may be wrong"
            )
        print(f"classifier: {options.output}\nreport: {options.output / 'report.html'}")
        return 0
