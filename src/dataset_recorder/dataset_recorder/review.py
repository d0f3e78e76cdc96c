# SPDX-License-Identifier: Apache-2.0
"""Static pages on which a person finds wrong labels by looking: every frame of an episode with its label under it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from jinja2 import DictLoader, Environment
from PIL import Image

from dataset_recorder.dataset import Dataset, DatasetError, Episode, open_dataset
from dataset_recorder.labels import LabelTable
from dataset_recorder.new_folder import new_folder
from dataset_recorder.origin import late_rewards, shown_rewards
from dataset_recorder.review_page import TEMPLATES

_SIDE = 128  # pixels, the longer side of an image on the page
_NAMES = {"success": "success", "none": "no success", "reset": "reset"}


@dataclass(frozen=True)
class Judgement:
    """What to ask a classifier, and how to read it: it says success above the threshold.

    probabilities: from the images of an episode, camera -> (n, h, w, 3) uint8 RGB, the probability of success of each, (n,).
    """

    classifier: str
    threshold: float
    probabilities: Callable[[Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Frame:
    """One frame on a page. `label` is `success`, `none` or `reset`, the last for a frame that leaves the dataset."""

    number: int
    label: str
    changed: bool  # differs from the label before
    images: tuple[str, ...]  # data URLs, one per camera
    probability: float | None  # of success, where a classifier was asked
    doubted: bool  # the classifier says otherwise than the label


def write_review(
    source: Path,
    folder: Path,
    table: LabelTable | None = None,
    progress: Callable[[int], None] = lambda images: None,
    judgement: Judgement | None = None,
) -> Path:
    """Write a page per episode and an index into the new `folder`; returns the index.

    The labels are those of the table, or the rewards the dataset has when there is no table. Raises DatasetError,
    LabelError, VideoError or TargetError; the folder then does not exist.
    """
    dataset = open_dataset(source)
    if table is not None:
        table.check_lengths({episode.index: episode.length for episode in dataset.episodes})
    elif "next.reward" not in dataset.features:
        raise DatasetError(f"{source} has no next.reward: give a label table to look at")
    if not dataset.cameras:
        raise DatasetError(f"{source} has no camera, so there is nothing to look at")
    names = tuple(camera.split(".")[-1] for camera in dataset.cameras)
    made_by = table.name if table is not None else "next.reward of the dataset"
    if table is None and late_rewards(dataset):
        made_by += ", each under the image it was computed from, one row later"
    pages = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=DictLoader(TEMPLATES))
    shared = {"name": source.absolute().name, "made_by": made_by, "judgement": judgement, "names": _NAMES}
    links = [{"index": episode.index, "file": _file(episode.index)} for episode in dataset.episodes]
    with new_folder(folder) as partial:
        rows = []
        for episode, before, after in zip(dataset.episodes, [None, *links], [*links[1:], None], strict=False):
            frames = _frames(dataset, episode, _labels(dataset, episode, table), judgement, progress)
            rows.append(_summary(episode, frames))
            page = {"cameras": names, "frames": frames, "row": rows[-1], "before": before, "after": after}
            (partial / _file(episode.index)).write_text(pages.get_template("episode").render(shared, **page))
        (partial / "index.html").write_text(pages.get_template("index").render(shared, rows=rows))
    return folder / "index.html"


def _file(episode: int) -> str:
    return f"episode_{episode:03d}.html"


def _labels(dataset: Dataset, episode: Episode, table: LabelTable | None) -> list[str]:
    if table is None:
        return ["success" if reward > 0 else "none" for reward in shown_rewards(dataset, episode)]
    labels = table.episodes[episode.index]
    kept = ["success" if reward > 0 else "none" for reward in labels.rewards(episode.length)]
    return kept + ["reset"] * (episode.length - len(kept))


def _frames(
    dataset: Dataset, episode: Episode, labels: list[str], judgement: Judgement | None, progress: Callable[[int], None]
) -> list[Frame]:
    """The frames of an episode. Raises DatasetError when a camera does not have one image per row."""
    columns, seen = [], {}
    for camera in dataset.cameras:
        images = []
        for image in dataset.images(episode, camera):
            images.append(_data_url(image))
            if judgement is not None:
                seen.setdefault(camera, []).append(image)
            progress(1)
        if len(images) != len(labels):
            found = f"{camera} of episode {episode.index} of {dataset.root} has {len(images)} images for {len(labels)} rows"
            raise DatasetError(f"{found}: the labels would stand under the wrong frames")
        columns.append(images)
    before = [labels[0], *labels[:-1]]
    told = [None] * len(labels)
    if judgement is not None:
        told = judgement.probabilities({camera: np.stack(images) for camera, images in seen.items()}).tolist()
    frames = []
    for n, images in enumerate(zip(*columns, strict=True)):
        says = None if told[n] is None else "success" if told[n] > judgement.threshold else "none"
        doubted = says is not None and labels[n] != "reset" and says != labels[n]
        frames.append(Frame(n, labels[n], labels[n] != before[n], images, told[n], doubted))
    return frames


def _summary(episode: Episode, frames: list[Frame]) -> dict[str, object]:
    """A row of the index: counts, runs of equal labels, and the frames around the first success."""
    labels = [frame.label for frame in frames]
    first = labels.index("success") if "success" in labels else None
    shown = [] if first is None else [frame for frame in frames if frame.number in (first - 1, first)]
    kept = [frame for frame in frames if frame.label != "reset"]
    return {
        "index": episode.index,
        "file": _file(episode.index),
        "length": len(frames),
        "success": labels.count("success"),
        "reset": labels.count("reset"),
        "doubted": [frame.number for frame in frames if frame.doubted],
        "first": first,
        "shown": shown or kept[-1:],
        "runs": [(label, len(list(run))) for label, run in groupby(labels)],
    }


def _data_url(image: np.ndarray) -> str:
    buffer, small = io.BytesIO(), Image.fromarray(np.ascontiguousarray(image))
    small.thumbnail((_SIDE, _SIDE))
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
