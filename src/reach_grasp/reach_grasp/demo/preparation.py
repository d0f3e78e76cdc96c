# SPDX-License-Identifier: Apache-2.0
"""From bags to what training begins with: a labelled dataset, a reward classifier, and demonstrations."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from hilserl_core.task import TaskSpec
from reach_grasp.demo import recording
from reach_grasp.demo.part import Part
from reach_grasp.demonstrations import import_dataset, imported
from reach_grasp.errors import CommandError
from reach_grasp.task_files import config_file, task_of

DATASET, LABELLED, CLASSIFIER = "dataset", "labelled", "classifier"  # folders of a demo
REPO_ID = "reach_grasp/demo"


class Dataset(Part):
    """Bags to a LeRobot dataset, and that to one whose rewards are the labels of its frames."""

    def run(self) -> None:
        """Convert, unless that was done, and label."""
        from dataset_recorder.bag_labels import labels_from_bags
        from dataset_recorder.convert.bag import BagError
        from dataset_recorder.convert.errors import ConversionError
        from dataset_recorder.dataset import DatasetError
        from dataset_recorder.edit import relabel
        from dataset_recorder.labels import LabelError
        from dataset_recorder.video import VideoError

        path = self.folder.path
        self.folder.enter("dataset")
        self.check_disk()
        try:
            if "dataset" not in self.folder.state or not (path / DATASET).exists():
                shutil.rmtree(path / DATASET, ignore_errors=True)  # of a sitting that was killed before it noted how it went
                self._convert()
                self.folder.save()
            self._show("labels from the simulator's truth", 0.9)
            shutil.rmtree(path / LABELLED, ignore_errors=True)
            labelled = relabel(path / DATASET, labels_from_bags(path / DATASET, "truth"), path / LABELLED)
            self.folder.state["dataset"] |= {
                "episodes": labelled.episodes,
                "frames": labelled.frames,
                "positive": labelled.positive,
            }
        except (BagError, ConversionError, DatasetError, LabelError, VideoError) as error:
            raise CommandError(str(error)) from error

    def _convert(self) -> None:
        from dataset_recorder.convert.conversion import Options, Progress, convert

        done, total = 0, 1

        def begin(frames: int, there: int) -> None:
            nonlocal total, done
            total, done = frames, there

        def advance(count: int) -> None:
            nonlocal done
            done += count

        def show(path: Path | None = None) -> None:
            self._show(f"reading episode {path.name}" if path else f"{done} of {total} frames", 0.1 + 0.8 * done / total)

        progress = Progress(begin, show, lambda count: (advance(count), show()))
        began = time.monotonic()
        options = Options(self.folder.path / DATASET, REPO_ID)
        result = convert([self.folder.path / recording.FOLDER / "bags"], options, progress)
        self.folder.state["dataset"] = {"convert_frames_per_second": result.frames / (time.monotonic() - began)}

    def _show(self, detail: str, progress: float) -> None:
        self.show("dataset", detail, progress)


class ClassifierTraining(Part):
    """The labelled dataset to a reward classifier."""

    def run(self) -> None:
        """Train it and keep how good it is on episodes held out."""
        from reward_classifier_node.api import train_from_dataset
        from reward_classifier_node.errors import ClassifierError
        from reward_classifier_node.settings import ClassifierSettings

        folder, began = self.folder, time.monotonic()
        labelled, output, spec = folder.path / LABELLED, folder.path / CLASSIFIER, task(folder.settings.config)
        folder.enter("classifier")
        try:
            settings = ClassifierSettings.from_file(config_file("reward_classifier"))
            metrics = train_from_dataset(labelled, output, settings, spec, self._progress())
        except ClassifierError as error:
            raise CommandError(str(error)) from error
        ours = metrics["ours"]
        names = ("accuracy", "precision", "recall")
        folder.state["classifier"] = {
            **{f"heldout_{name}": ours[name] for name in names},
            "heldout_frames": ours["frames"],
            "threshold": ours["threshold"],
            "target_reached": ours["target_reached"],
            "head_only": {name: metrics["head_only"][name] for name in (*names, "threshold")},
            "train_seconds": time.monotonic() - began,
        }

    def _progress(self) -> Callable[[str, int, int, float], None]:
        stages: list[str] = []

        def show(stage: str, done: int, total: int, loss: float) -> None:
            if stage not in stages:
                stages.append(stage)
            progress = min(1.0, (len(stages) - 1 + done / max(total, 1)) / 4)
            detail = stage if loss != loss else f"{stage}, loss {loss:.4f}"
            self.show("classifier", detail, progress)

        return show


class Import(Part):
    """The dataset's successful episodes to the demonstrations that training begins with."""

    def run(self) -> None:
        """Judged by the classifier, as training will be, or by the simulator's rewards."""
        from reward_classifier_node.artifact import read_artifact
        from reward_classifier_node.errors import ClassifierError

        folder = self.folder
        folder.enter("dataset")
        learned, spec = folder.settings.learned_reward, task(folder.settings.config)
        try:
            artifact = read_artifact(folder.path / CLASSIFIER, spec) if learned else None
        except ClassifierError as error:
            raise CommandError(str(error)) from error

        def show(done: int, total: int) -> None:
            self.show("dataset", f"demonstrations, {done} of {total} episodes", done / total)

        facts = imported(folder.path) or import_dataset(
            folder.path / (LABELLED if learned else DATASET), folder.path, spec, artifact, show
        )
        folder.state["imported"] = {"episodes": facts.episodes, "steps": facts.steps}


def task(config: str) -> TaskSpec:
    """The task of a demo. config: the user's parameter file, or ''."""
    return task_of([config_file("task"), config_file("sim"), *([Path(config)] if config else [])])
