# SPDX-License-Identifier: Apache-2.0
"""Labelled frames, what must be true of them before training starts, and their split by episode."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from hilserl_core.observation import network_image
from hilserl_core.task import TaskSpec
from reward_classifier_node.errors import DataError


@dataclass(frozen=True)
class LabelledFrames:
    """images: (N, cameras, S, S, 3) uint8 RGB as the network sees them. labels: (N,) bool. episodes: (N,) int64.

    Raises DataError when shapes or types do not fit.
    """

    images: np.ndarray
    labels: np.ndarray
    episodes: np.ndarray

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.ndim != 5 or shape[4] != 3 or self.images.dtype != np.uint8:
            raise DataError(f"images are {self.images.dtype} {shape}, expected uint8 (frames, cameras, size, size, 3)")
        if self.labels.shape != (len(self.images),) or self.episodes.shape != (len(self.images),):
            raise DataError(
                f"{len(self.images)} images have labels {self.labels.shape}, episodes {self.episodes.shape}, expected one each"
            )
        if self.labels.dtype != np.bool_:
            raise DataError(f"labels are {self.labels.dtype}, expected bool")

    def __len__(self) -> int:
        return len(self.labels)

    def undecided(self, before: int, after: int) -> np.ndarray:
        """(N,) bool: failures among the `before` frames ahead of a success, and the `after` frames behind one, in its episode.

        A label that asks for k successes in a row calls the first k - 1 of them failures, and no image tells them apart.
        """
        marked = np.zeros(len(self), bool)
        for distance in range(1, max(before, after) + 1):
            same = self.episodes[distance:] == self.episodes[:-distance]
            if distance <= before:
                marked[:-distance] |= same & self.labels[distance:]
            if distance <= after:
                marked[distance:] |= same & self.labels[:-distance]
        return marked & ~self.labels

    def digest(self) -> str:
        """sha256 of images, labels and episodes, hexadecimal."""
        total = hashlib.sha256()
        for array in (self.images, self.labels, self.episodes.astype(np.int64)):
            total.update(str((array.shape, array.dtype.str)).encode())
            total.update(np.ascontiguousarray(array))
        return total.hexdigest()


@dataclass(frozen=True)
class Split:
    """Indices of frames: train (M,), heldout (K,)."""

    train: np.ndarray
    heldout: np.ndarray

    def without(self, left_out: np.ndarray) -> Split:
        """The same without the frames marked in left_out, (N,) bool."""
        return Split(self.train[~left_out[self.train]], self.heldout[~left_out[self.heldout]])


def split_by_episode(frames: LabelledFrames, heldout: float, seed: int) -> Split:
    """Hold out a share of the episodes, drawn separately from those with and without a success.

    Neighbouring frames look alike, so that no episode may be on both sides. Raises DataError when there are too few
    episodes for both classes on both sides.
    """
    rng = np.random.default_rng([seed, 11])
    chosen: list[int] = []
    every = np.unique(frames.episodes)
    successful = np.unique(frames.episodes[frames.labels])
    for group in (successful, np.setdiff1d(every, successful)):
        count = min(max(1, round(heldout * len(group))), len(group) - 1) if len(group) > 1 else 0
        chosen += rng.permutation(group)[:count].tolist()
    inside = np.isin(frames.episodes, chosen)
    return Split(np.flatnonzero(~inside), np.flatnonzero(inside))


def check(frames: LabelledFrames, split: Split, task: TaskSpec) -> None:
    """Everything that must hold before training. Raises DataError with one sentence."""
    expected = (len(task.cameras), task.image_size, task.image_size, 3)
    if frames.images.shape[1:] != expected:
        raise DataError(
            f"the frames are {frames.images.shape[1:]} (cameras, height, width, colours), the task expects {expected}: "
            "set task.image_size and task.cameras, or convert the dataset with this task"
        )
    both = np.intersect1d(frames.episodes[split.train], frames.episodes[split.heldout])
    if len(both):
        raise DataError(f"episodes {both[:5].tolist()} are in the training and in the held-out part: split by episode")
    if np.intersect1d(split.train, split.heldout).size:
        raise DataError("some frames are in the training and in the held-out part")
    for name, rows in (("all", np.arange(len(frames))), ("the training", split.train), ("the held-out", split.heldout)):
        positive = int(frames.labels[rows].sum())
        if positive == 0 or positive == len(rows):
            found = "a success" if positive else "no success"
            raise DataError(
                f"{name} {len(rows)} frames show {found if len(rows) else 'nothing'}, expected both classes: label frames "
                "with and without success in at least two episodes"
            )


def network_frame(frame: np.ndarray, task: TaskSpec, camera: int) -> np.ndarray:
    """A recorded frame (H, W, 3) uint8 RGB as the network sees it: as it is when it has that size, else cropped and resized.

    camera: its place in `task.cameras`. Raises DataError for a size that is neither the network's nor the camera's.
    """
    size = task.image_size
    if frame.shape == (size, size, 3):
        return frame
    width, height = task.camera_sizes[2 * camera : 2 * camera + 2]
    if frame.shape == (height, width, 3):
        return network_image(frame, task.cameras[camera], task)
    square = frame.shape[0] == frame.shape[1]
    cure = f"run reach-grasp resize-images with --size {size}" if square else "set task.image_size or task.camera_sizes"
    raise DataError(
        f"the recorded images of {task.cameras[camera]} are {frame.shape[1]}x{frame.shape[0]}, expected the network's "
        f"{size}x{size} or the camera's {width}x{height}: {cure}"
    )
