# SPDX-License-Identifier: Apache-2.0
"""From a dataset, or from frames, to an artifact folder with its report; and from an artifact to rewards of recorded frames."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilserl_core.task import TaskSpec
from reward_classifier_node.artifact import Artifact, check_replaceable, write_artifact
from reward_classifier_node.data import LabelledFrames, network_frame, split_by_episode
from reward_classifier_node.dataset import read_dataset
from reward_classifier_node.decision import Rule, decide
from reward_classifier_node.errors import DataError
from reward_classifier_node.report import write_report
from reward_classifier_node.settings import ClassifierSettings
from reward_classifier_node.training import Progress, train


def train_from_dataset(
    dataset: Path, output: Path, settings: ClassifierSettings, task: TaskSpec, progress: Progress
) -> dict[str, Any]:
    """Read, train, write; the metrics. Raises ClassifierError, for bad data before training starts."""
    frames = read_dataset(dataset, task, settings.label_column, settings.label_offset)
    return train_from_frames(frames, output, settings, task, progress)


def train_from_frames(
    frames: LabelledFrames, output: Path, settings: ClassifierSettings, task: TaskSpec, progress: Progress
) -> dict[str, Any]:
    """Train, write; the metrics. Raises ClassifierError, for bad data before training starts."""
    check_replaceable(output)
    split = split_by_episode(frames, settings.heldout, settings.seed)
    ours, theirs = train(frames, split, settings, task, progress)
    heldout_episodes = np.unique(frames.episodes[split.heldout])
    facts = {
        "frames": len(frames),
        "episodes": len(np.unique(frames.episodes)),
        "positive": int(frames.labels.sum()),
        "heldout_episodes": heldout_episodes.tolist(),
        "heldout_failures": len(np.setdiff1d(heldout_episodes, frames.episodes[frames.labels])),
        "undecided": int(frames.undecided(settings.undecided_before, settings.undecided_after).sum()),
        "data_sha256": frames.digest(),
    }
    with tempfile.TemporaryDirectory() as folder:
        metrics = write_report(Path(folder), ours, theirs, frames, facts | {"heldout_episodes": len(facts["heldout_episodes"])})
        pages = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    summary = {**facts, "settings": settings.as_dict(), "metrics": metrics["ours"], "head_only": metrics["head_only"]}
    write_artifact(output, ours.classifier, task, ours.threshold, summary, pages)
    return metrics


@dataclass(frozen=True)
class Judged:
    """What a classifier says of frames. probabilities: (T,) float32. success: (T,) bool, debounced. rewards: (T,) float32."""

    probabilities: np.ndarray
    success: np.ndarray
    rewards: np.ndarray


def judge_frames(
    artifact: Artifact,
    frames: Mapping[str, np.ndarray],
    episodes: np.ndarray | None = None,
    rule: Rule | None = None,
    grippers: np.ndarray | None = None,
) -> Judged:
    """Judge recorded frames as the node would; of one frame the network sees the same whatever comes with it.

    frames: camera -> (T, H, W, 3) uint8 RGB of the network's or of the camera's size, in the order of time. episodes: (T,) what
    each belongs to; one where it is None. rule: default, the artifact's threshold and the node's defaults. grippers: (T, 3)
    the fields of decision.Gripper, for a rule with a gate. The reward of frame t belongs to the step that led to it.
    Raises DataError.
    """
    task = artifact.task
    lengths = {camera: len(frames[camera]) if camera in frames else None for camera in task.cameras}
    if None in lengths.values() or len(set(lengths.values())) != 1:
        raise DataError(
            f"frames come from {sorted(frames)} and count {lengths}, expected as many of each of {list(task.cameras)}"
        )
    size = task.image_size
    images = np.empty((lengths[task.cameras[0]], len(task.cameras), size, size, 3), np.uint8)
    for place, camera in enumerate(task.cameras):
        for row, frame in enumerate(frames[camera]):
            images[row, place] = network_frame(frame, task, place)
    probabilities = artifact.classifier.probabilities(images)
    success = decide(probabilities, rule or Rule(artifact.threshold), episodes, grippers)
    return Judged(probabilities, success, np.where(success, task.success_reward, 0.0).astype(np.float32))
