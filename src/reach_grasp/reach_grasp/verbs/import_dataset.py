# SPDX-License-Identifier: Apache-2.0
"""reach-grasp import-dataset: a run begins with the demonstrations of a dataset."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reach_grasp.errors import CommandError
from reach_grasp.joint_units import RADIANS, UNITS
from reach_grasp.task_files import add_task_option, task_of_dataset
from reach_grasp.values import folder_to_write


class ImportDataset:
    """The verb."""

    name = "import-dataset"
    text = "Take the successful episodes of a LeRobot dataset (v3.0, or v2.1) as the demonstrations of a new run."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("dataset", type=Path, help="Folder of the dataset.")
        run = Path("outputs/train")
        parser.add_argument(
            "--run", type=folder_to_write, default=run, metavar="DIR", help=f"Folder of the run. Default: {run}."
        )
        parser.add_argument(
            "--artifact",
            type=Path,
            metavar="DIR",
            help="A reward classifier: an episode ends where it, too, sees the success, as it will in training.",
        )
        parser.add_argument(
            "--joint-units",
            choices=UNITS,
            default=RADIANS,
            help="Units of the joints in observation.state. rad: as this project records them. lerobot: degrees, and the "
            "gripper from 0 (closed) to 100 (open); the gripper's pose is then computed from the joints. Default: %(default)s.",
        )
        add_task_option(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Import and say what came of it."""
        from rich.console import Console
        from rich.progress import Progress

        from reach_grasp.demonstrations import import_dataset
        from reward_classifier_node.artifact import read_artifact
        from reward_classifier_node.errors import ClassifierError

        dataset, run = options.dataset.expanduser(), options.run.expanduser()
        task = task_of_dataset(dataset, options.task)
        try:
            artifact = read_artifact(options.artifact.expanduser(), task) if options.artifact else None
        except ClassifierError as error:
            raise CommandError(str(error)) from error
        with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bars:
            bar = bars.add_task("episodes", total=None)

            def show(done: int, total: int) -> None:
                bars.update(bar, completed=done, total=total)

            facts = import_dataset(dataset, run, task, artifact, show, options.joint_units)
        print(f"{facts.episodes} demonstrations, {facts.steps} steps: {run}; {facts.failed} episodes without success left out")
        print(f"next: reach-grasp train --run {run} --demonstrations {facts.episodes} (at a real arm also --sim false ...)")
        return 0
