# SPDX-License-Identifier: Apache-2.0
"""Makes a new dataset from another one: labelled and cut, or with its images turned or resized. The source is only read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dataset_recorder.dataset import INDEX_COLUMNS, INFO, STATS, Dataset, DatasetError, Episode, episode_rows, open_dataset
from dataset_recorder.dataset_writer import DatasetWriter, with_columns
from dataset_recorder.labels import LabelTable, write_rows
from dataset_recorder.new_folder import new_folder
from dataset_recorder.origin import LABELS
from dataset_recorder.video import count_frames

Progress = Callable[[int], None]  # images done since the last call
Change = Callable[[np.ndarray], np.ndarray]  # an image (h, w, c) uint8 becomes another one

_FLIPS = {"horizontal": 1, "vertical": 0}  # axis of (h, w, c) that is reversed


@dataclass(frozen=True)
class Labelled:
    """What a labelled dataset holds. positive: frames with reward 1."""

    episodes: int
    frames: int
    positive: int


@dataclass(frozen=True)
class Turn:
    """First a clockwise rotation, then a flip: `horizontal` swaps left and right, `vertical` up and down."""

    rotate_deg: int = 0
    flip: str | None = None

    def __post_init__(self) -> None:
        if self.rotate_deg not in (0, 90, 180, 270):
            raise ValueError(f"the rotation is {self.rotate_deg}, allowed: 0, 90, 180, 270 degrees clockwise")
        if self.flip not in (None, *_FLIPS):
            raise ValueError(f"the flip is {self.flip!r}, allowed: {', '.join(_FLIPS)}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Turn an image (h, w, c)."""
        image = np.rot90(image, k=-(self.rotate_deg // 90))
        return image if self.flip is None else np.flip(image, axis=_FLIPS[self.flip])


@dataclass(frozen=True)
class Resize:
    """Make a square image `side` pixels wide and high, by the same filters as `hilserl_core.observation.network_image`."""

    side: int

    def __post_init__(self) -> None:
        if not 16 <= self.side <= 1024:
            raise ValueError(f"the size is {self.side}, allowed: 16 to 1024 pixels, as for task.image_size")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resize an image (h, h, c). Raises DatasetError for one that is no square."""
        height, width = image.shape[:2]
        if height != width:
            raise DatasetError(
                f"an image is {width}x{height}, expected a square: images of a camera's own size need no resizing, "
                "name that size in task.camera_sizes"
            )
        how = cv2.INTER_AREA if height >= self.side else cv2.INTER_LINEAR
        return cv2.resize(image, (self.side, self.side), interpolation=how)


def relabel(source: Path, table: LabelTable, target: Path, progress: Progress = lambda images: None) -> Labelled:
    """Write `source` to `target` with the rewards of the table and without the frames of its resets.

    `next.reward` (float32) is set, and added when the dataset has none. Where the dataset has them, `next.success` is set
    to reward 1 and `next.done` to the last frame of each episode. When no frame leaves, videos are copied as they are.

    Raises DatasetError, LabelError, VideoError or TargetError; the target then does not exist.
    """
    dataset = open_dataset(source)
    table.check_lengths({episode.index: episode.length for episode in dataset.episodes})
    features = _with_reward(deepcopy(dataset.features))
    whole = all(table.episodes[episode.index].kept(episode.length).all() for episode in dataset.episodes)
    with new_folder(target) as folder:
        writer = DatasetWriter(folder, dataset, features, copied=dataset.videos if whole else ())
        with _abandoned_on_error(writer):
            for episode in dataset.episodes:
                labels = table.episodes[episode.index]
                kept, rewards = labels.kept(episode.length), labels.rewards(episode.length)
                values = {"next.reward": rewards, "next.success": rewards > 0}
                values["next.done"] = np.arange(len(rewards)) == len(rewards) - 1
                rows = episode_rows(dataset, episode).filter(kept)
                rows = with_columns(rows, features, {key: value for key, value in values.items() if key in features})
                cameras = [camera for camera in dataset.cameras if camera not in writer.copied]
                writer.add(episode, rows, {c: _images(dataset, episode, c, kept, progress) for c in cameras})
            writer.finish()
        _copy_rest(dataset, folder, writer.copied)
        with (folder / LABELS).open("w", newline="") as file:
            write_rows(table, file)
    lengths = {episode.index: episode.length for episode in dataset.episodes}
    rewards = [table.episodes[index].rewards(length) for index, length in lengths.items()]
    return Labelled(len(lengths), sum(map(len, rewards)), int(sum(part.sum() for part in rewards)))


def change_images(
    source: Path, change: Change, target: Path, cameras: Collection[str] = (), progress: Progress = lambda images: None
) -> None:
    """Write `source` to `target` with the images of some cameras changed; of all cameras when none is named.

    A camera is named in full or by its last part, `wrist` for `observation.images.wrist`. Raises as `relabel` does.
    """
    dataset = open_dataset(source)
    chosen = _chosen(dataset, cameras)
    features = deepcopy(dataset.features)
    for camera in chosen:
        features[camera]["shape"] = _changed_shape(features[camera]["shape"], change)
    with new_folder(target) as folder:
        writer = DatasetWriter(folder, dataset, features, copied=set(dataset.videos) - set(chosen))
        with _abandoned_on_error(writer):
            for episode in dataset.episodes:
                everything = np.ones(episode.length, dtype=bool)
                images = {
                    camera: map(
                        change if camera in chosen else np.asarray, _images(dataset, episode, camera, everything, progress)
                    )
                    for camera in dataset.cameras
                    if camera not in writer.copied
                }
                writer.add(episode, episode_rows(dataset, episode), images)
            writer.finish()
        _copy_rest(dataset, folder, writer.copied)


def _changed_shape(shape: Sequence[int], change: Change) -> list[int]:
    """Shape of a changed image, in the order that info.json has: (h, w, c), or (c, h, w) as LeRobot's gym writes it."""
    channels_first = shape[0] < min(shape[1:])
    image = np.zeros(shape, np.uint8)
    height, width, channels = change(image.transpose(1, 2, 0) if channels_first else image).shape
    return [channels, height, width] if channels_first else [height, width, channels]


def _chosen(dataset: Dataset, names: Collection[str]) -> list[str]:
    if not dataset.cameras:
        raise DatasetError(f"{dataset.root} has no camera")
    found = [camera for camera in dataset.cameras if not names or camera in names or camera.split(".")[-1] in names]
    unknown = [name for name in names if not any(name in (camera, camera.split(".")[-1]) for camera in found)]
    if unknown:
        raise DatasetError(f"{dataset.root} has no camera {', '.join(unknown)}, only {', '.join(dataset.cameras)}")
    return found


def _with_reward(features: dict[str, dict]) -> dict[str, dict]:
    """The features with next.reward as float32, in its place or before the index columns."""
    reward = {"dtype": "float32", "shape": [1], "names": None}
    own = {key: feature for key, feature in features.items() if key not in INDEX_COLUMNS}
    own["next.reward"] = reward
    return {**own, **{key: feature for key, feature in features.items() if key in INDEX_COLUMNS}}


def _images(dataset: Dataset, episode: Episode, camera: str, kept: np.ndarray, progress: Progress) -> Iterator[np.ndarray]:
    """The kept images of a camera in an episode. Raises DatasetError when the video does not have one for each row."""
    count = 0
    for count, image in enumerate(dataset.images(episode, camera), 1):
        progress(1)
        if count <= len(kept) and kept[count - 1]:
            yield image
    if count != episode.length:
        found = f"{camera} of episode {episode.index} of {dataset.root} has {count} images for {episode.length} rows"
        raise DatasetError(f"{found}: nothing was written, because labels would sit on the wrong frames")


@contextmanager
def _abandoned_on_error(writer: DatasetWriter) -> Iterator[None]:
    try:
        yield
    except BaseException:
        writer.abandon()
        raise


def _copy_rest(dataset: Dataset, folder: Path, copied: Collection[str]) -> None:
    """Copy what the writer does not write: tasks, labels, a card, a task specification, videos that stay as they are."""
    written = {INFO, STATS}
    for camera in copied:
        frames: dict[Path, int] = {}
        for episode in dataset.episodes:
            path = dataset.video_path(episode, camera)
            frames[path] = frames.get(path, 0) + episode.length
        for path, expected in frames.items():
            if (found := count_frames(path)) < expected:
                raise DatasetError(f"the video {path} holds {found} frames for {expected} rows: nothing was written")
            _copy(path, folder / path.relative_to(dataset.root))
    for path in sorted(dataset.root.rglob("*")):
        name = path.relative_to(dataset.root)
        theirs = name.parts[0] in ("data", "videos", "images") or name.parts[:2] == ("meta", "episodes")
        if path.is_file() and not theirs and name.as_posix() not in written and not name.parts[0].startswith("."):
            _copy(path, folder / name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
