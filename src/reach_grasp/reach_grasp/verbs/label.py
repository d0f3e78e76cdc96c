# SPDX-License-Identifier: Apache-2.0
"""reach-grasp label, turn-images and resize-images: a new dataset from another one; the source is only read."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.errors import CommandError
from reach_grasp.values import number

if TYPE_CHECKING:
    import numpy as np

    from dataset_recorder.edit import Change
    from dataset_recorder.labels import LabelTable
    from dataset_recorder.review import Judgement

DATASET = "Folder of a LeRobot dataset v3.0, or v2.1, which is first made v3.0 beside it; it is only read."


class Images:
    """A count of images done, on a terminal only."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:.0f} images"))
        self._bar = Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(what, total=None)

    def done(self, count: int) -> None:
        """So many more."""
        self._bar.advance(self._task, count)

    def __enter__(self) -> Images:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class Label:
    """The verb."""

    name = "label"
    text = (
        "Label the frames of a dataset, by a table or by what its bags recorded: look at the labels (--review), keep them as a "
        "table (--csv-out), or write the dataset anew with them (--output). The dataset itself is only read."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("dataset", type=Path, help=DATASET)
        columns = "episode,success_start,env_reset_start,failure_ranges"
        add("labels", type=Path, nargs="?", help=f"CSV with {columns} (docs/how-to-label.md).")
        add(
            "--from",
            dest="source",
            choices=("truth", "reward", "events"),
            help="Instead of a CSV, what the dataset's bags say: the simulator's truth about each frame, whether the recorded "
            "reward said success, or from when to when a person said so.",
        )
        add("--bags", type=Path, nargs="+", default=[], metavar="DIR", help="Where the bags of --from are now, if moved.")
        add(
            "--set",
            nargs="+",
            default=[],
            metavar="EPISODE.COLUMN=VALUE",
            help="Change labels first, as in 3.success_start=70. Changes to a CSV are kept as a new version beside it.",
        )
        add("--csv-out", type=Path, metavar="FILE", help="Write the labels; beside a FILE that exists, as FILE's next version.")
        add("--output", type=Path, metavar="DIR", help="Folder of the new dataset, without the frames of resets.")
        add("--review", type=Path, metavar="DIR", help="Folder for pages that show every frame with its label.")
        add(
            "--artifact",
            type=Path,
            metavar="DIR",
            help="A reward classifier: the review also shows what it says about each frame.",
        )

    def run(self, options: argparse.Namespace) -> int:
        """Write what is asked for and say what it holds."""
        from dataset_recorder.dataset import open_dataset
        from dataset_recorder.edit import relabel
        from dataset_recorder.labels import write_labels
        from dataset_recorder.review import write_review
        from dataset_recorder.upgrade import upgrade

        self._check(options)
        source = options.dataset.expanduser()
        with _one_sentence(source):
            source = upgrade(source)
            table = self._table(source, options)
            if table is not None:
                table = table.changed(options.set)
                table.check_lengths({episode.index: episode.length for episode in open_dataset(source).episodes})
            kept = options.csv_out or (options.labels if options.set else None)
            if kept:
                path = write_labels(table, kept.expanduser())
                table = replace(table, name=str(path))
                print(f"labels: {path}")
        if options.review:
            folder = options.review.expanduser()
            with _one_sentence(folder), Images("drawing") as images:
                judgement = _judgement(options.artifact.expanduser()) if options.artifact else None
                page = write_review(source, folder, table, images.done, judgement)
            print(f"review: {page}")
        if options.output:
            target = options.output.expanduser()
            with _one_sentence(target), Images("labelling") as images:
                done = relabel(source, table, target, images.done)
            print(f"{done.episodes} episodes, {done.frames} frames, {done.positive} of them success: {target}")
        return 0

    def _check(self, options: argparse.Namespace) -> None:
        if not (options.output or options.review or options.csv_out):
            raise CommandError(
                "label needs --output for a new dataset, --review for pages to look at, or --csv-out for a table of labels"
            )
        if options.labels and options.source:
            raise CommandError(f"label takes its labels from {options.labels} or --from {options.source}, not from both")
        if options.artifact and not options.review:
            raise CommandError("--artifact is for --review, whose pages show what the classifier says")
        if options.bags and not options.source:
            raise CommandError("--bags is for --from, which takes the labels from bags")
        if not options.labels and not options.source and (options.output or options.set or options.csv_out):
            raise CommandError("label needs a table of labels, or --from, for --output, --csv-out and --set")

    def _table(self, source: Path, options: argparse.Namespace) -> LabelTable | None:
        from dataset_recorder.bag_labels import labels_from_bags
        from dataset_recorder.labels import read_labels

        if options.source:
            return labels_from_bags(source, options.source, [path.expanduser() for path in options.bags])
        return read_labels(options.labels.expanduser()) if options.labels else None


class TurnImages:
    """The verb."""

    name = "turn-images"
    text = "Write a dataset anew with the images of its cameras rotated or flipped: for a camera that was set up wrong."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("dataset", type=Path, help=DATASET)
        add("--output", type=Path, required=True, metavar="DIR", help="Folder of the new dataset.")
        add("--rotate", type=number(int), choices=(0, 90, 180, 270), default=0, help="Degrees clockwise.")
        add("--flip", choices=("horizontal", "vertical"), help="After the rotation: swap left and right, or up and down.")
        add("--cameras", nargs="+", default=[], metavar="CAMERA", help="Such as wrist. Default: all.")

    def run(self, options: argparse.Namespace) -> int:
        """Write it and say what it holds."""
        from dataset_recorder.edit import Turn

        if not options.rotate and not options.flip:
            raise CommandError("turn-images needs --rotate or --flip")
        _change_images(options, Turn(options.rotate, options.flip), "turning")
        return 0


class ResizeImages:
    """The verb."""

    name = "resize-images"
    text = "Write a dataset anew with its square images in another size: that which the networks of this task see."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("dataset", type=Path, help=DATASET)
        add("--output", type=Path, required=True, metavar="DIR", help="Folder of the new dataset.")
        add("--size", type=int, default=128, metavar="PIXELS", help="The new side, task.image_size. Default: %(default)s.")
        add("--cameras", nargs="+", default=[], metavar="CAMERA", help="Such as wrist. Default: all.")

    def run(self, options: argparse.Namespace) -> int:
        """Write it and say what it holds."""
        from dataset_recorder.edit import Resize

        try:
            change = Resize(options.size)
        except ValueError as error:
            raise CommandError(str(error)) from error
        _change_images(options, change, "resizing")
        return 0


def _change_images(options: argparse.Namespace, change: Change, doing: str) -> None:
    """Write the dataset of the options to their output with its images changed. Raises CommandError."""
    from dataset_recorder.dataset import open_dataset
    from dataset_recorder.edit import change_images
    from dataset_recorder.upgrade import upgrade

    target = options.output.expanduser()
    with _one_sentence(target), Images(doing) as images:
        change_images(upgrade(options.dataset.expanduser()), change, target, options.cameras, images.done)
    info = open_dataset(target).info
    print(f"{info['total_episodes']} episodes, {info['total_frames']} frames: {target}")


def _judgement(folder: Path) -> Judgement:
    """Of a classifier, ours or LeRobot's. Raises ClassifierError."""
    from dataset_recorder.review import Judgement
    from reward_classifier_node.api import judge_frames
    from reward_classifier_node.artifact import read_artifact

    artifact = read_artifact(folder, None)

    def probabilities(images: Mapping[str, np.ndarray]) -> np.ndarray:
        keys = zip(artifact.task.cameras, artifact.task.image_keys, strict=True)
        cameras = {name: images[key] for name, key in keys if key in images}
        return judge_frames(artifact, cameras).probabilities

    return Judgement(artifact.identity, artifact.threshold, probabilities)


@contextmanager
def _one_sentence(place: Path) -> Iterator[None]:
    """Errors that the user can mend become a CommandError; `place` is named where the error itself names no file."""
    from dataset_recorder.convert.errors import BagError
    from dataset_recorder.dataset import DatasetError
    from dataset_recorder.labels import LabelError
    from reward_classifier_node.errors import ClassifierError

    try:
        yield
    except (BagError, ClassifierError, DatasetError, LabelError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CommandError(f"the disk is full: {place} was not written, and what was there before is as it was") from error
        raise CommandError(f"{error.filename or place}: {error.strerror}" if error.strerror else str(error)) from error
