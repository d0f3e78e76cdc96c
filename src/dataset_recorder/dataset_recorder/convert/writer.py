# SPDX-License-Identifier: Apache-2.0
"""Writes a LeRobot dataset v3.0 episode by episode: each finished episode is kept, so an interrupted conversion goes on there.

Until `finish` everything lies in `<root>.unfinished`, a folder per episode with its rows, its videos and its statistics.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_recorder.convert.errors import ConversionError
from dataset_recorder.convert.files import place_folder, write_json
from dataset_recorder.convert.layout import write_dataset
from dataset_recorder.convert.video import CameraEncoder, Video
from dataset_recorder.statistics import as_lists, column_statistics
from dataset_recorder.video import video_info

IMAGES = "observation.images."


@dataclass(frozen=True)
class DatasetSpec:
    """fps: rows per second. plan: JSON that tells this conversion from another; a started one goes on only under the same."""

    root: Path
    fps: int
    task: str
    robot_type: str
    plan: dict[str, Any] = field(default_factory=dict)


class DatasetWriter:
    """Raises ConversionError where the dataset exists already, or another conversion into it has finished episodes."""

    def __init__(self, spec: DatasetSpec, on_frames: Callable[[int], None] = lambda count: None) -> None:
        self.spec, self.on_frames = spec, on_frames
        self.folder = spec.root.with_name(f"{spec.root.name}.unfinished")
        self._features: dict[str, dict] | None = None
        self._lock, self._stopped = threading.Lock(), threading.Event()
        if spec.root.exists():
            raise ConversionError(f"{spec.root} exists already: choose another --root or remove it")
        plan = self.folder / "plan.json"
        mine = json.loads(json.dumps(spec.plan | {"fps": spec.fps, "task": spec.task, "robot_type": spec.robot_type}))
        other = plan.is_file() and json.loads(plan.read_text()) != mine
        if other and any(path.suffix != ".part" for path in self.folder.glob("episode-*")):
            raise ConversionError(
                f"{self.folder} is an unfinished conversion of other bags or options: finish that one, or remove the folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("*.part"):
            shutil.rmtree(left)
        if other or not plan.is_file():
            write_json(plan, mine)

    def is_finished(self, index: int) -> bool:
        """Whether the episode was written by an earlier run."""
        return self._folder(index).is_dir()

    @contextmanager
    def episode(self, index: int, length: int) -> Iterator[EpisodeWriter]:
        """Write episode `index` of `length` rows; it counts only if the block ends well and `EpisodeWriter.rows` was called."""
        part = self._folder(index).with_suffix(".part")
        part.mkdir()
        episode = EpisodeWriter(part, self, length)
        try:
            yield episode
            described = episode.close()
        except BaseException:
            episode.cancel()
            shutil.rmtree(part, ignore_errors=True)
            raise
        try:
            self._check(described["features"], index)
        except ConversionError:
            shutil.rmtree(part)
            raise
        write_json(part / "episode.json", described)
        place_folder(part, self._folder(index))

    def stop(self) -> None:
        """End the episodes that are being written in other threads with an error; finished ones stay."""
        self._stopped.set()

    def check_running(self) -> None:
        """Raise ConversionError after `stop`."""
        if self._stopped.is_set():
            raise ConversionError("the conversion was stopped")

    def finish(self, count: int, report: Mapping[str, Any]) -> None:
        """Make the dataset of episodes 0 to count - 1 and put it in place; `report` begins its meta/conversion.json."""
        missing = [index for index in range(count) if not self.is_finished(index)]
        if missing:
            raise ConversionError(f"episodes {missing} are not written yet")
        part = self.folder / "dataset.part"
        shutil.rmtree(part, ignore_errors=True)
        write_dataset(part, [self._folder(index) for index in range(count)], self.spec, report)
        place_folder(part, self.spec.root)
        shutil.rmtree(self.folder)

    def _folder(self, index: int) -> Path:
        return self.folder / f"episode-{index:06d}"

    def _check(self, features: dict[str, dict], index: int) -> None:
        """All episodes have the same features: names, types and shapes."""
        with self._lock:
            if self._features is None:
                first = next(self.folder.glob("episode-*/episode.json"), None)
                self._features = features if first is None else json.loads(first.read_text())["features"]
            if features != self._features:
                keys = [key for key in {**features, **self._features} if features.get(key) != self._features.get(key)]
                raise ConversionError(
                    f"episode {index} does not fit the others: {keys[0]} is {features.get(keys[0])}, "
                    f"elsewhere {self._features.get(keys[0])}"
                )


class EpisodeWriter:
    """One episode on its way to disk. Images go to the encoders as they come, rows once at the end."""

    def __init__(self, folder: Path, writer: DatasetWriter, length: int) -> None:
        self._folder, self._writer, self.length = folder, writer, length
        self._encoders: dict[str, CameraEncoder] = {}
        self._rows: dict[str, np.ndarray] = {}
        self._names: Mapping[str, list[str]] = {}
        self._report: Mapping[str, Any] = {}

    def image(self, camera: str, image: np.ndarray) -> None:
        """The camera's next frame, (height, width, 3) uint8 RGB. Waits while its encoder is behind."""
        self._writer.check_running()
        if camera not in self._encoders:
            path = self._folder / f"{IMAGES}{camera}.mp4"
            self._encoders[camera] = CameraEncoder(path, self._writer.spec.fps, self.length)
        self._encoders[camera].put(image)
        if camera == next(iter(self._encoders)):
            self._writer.on_frames(1)

    def rows(
        self, columns: Mapping[str, np.ndarray], names: Mapping[str, list[str]] | None = None, report: Mapping | None = None
    ) -> None:
        """All rows: feature -> (length,) or (length, D). names: what the components are called. report: JSON."""
        self._rows, self._names, self._report = dict(columns), names or {}, report or {}
        if not self._encoders:
            self._writer.on_frames(self.length)

    def close(self) -> dict[str, Any]:
        """Finish the videos, check every count, write the rows; what episode.json holds."""
        videos = {f"{IMAGES}{camera}": encoder.finish() for camera, encoder in self._encoders.items()}
        for key, video in videos.items():
            if video.frames != self.length:
                raise ConversionError(f"{key} has {video.frames} encoded frames for {self.length} rows")
        for key, values in self._rows.items():
            if len(values) != self.length:
                raise ConversionError(f"{key} has {len(values)} rows, expected {self.length}")
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ConversionError(f"{key} is not finite in row {int(np.argwhere(~np.isfinite(values))[0][0])}")
        if not self._rows:
            raise ConversionError("the episode was given no rows")
        pq.write_table(pa.table({key: _array(values) for key, values in self._rows.items()}), self._folder / "rows.parquet")
        statistics = {key: column_statistics(values) for key, values in self._rows.items()}
        statistics |= {key: video.statistics for key, video in videos.items()}
        return {
            "length": self.length,
            "features": {key: _video_feature(video, self._writer.spec.fps) for key, video in videos.items()}
            | {key: _feature(values, self._names.get(key)) for key, values in self._rows.items()},
            "stats": {key: as_lists(found) for key, found in statistics.items()},
            "report": dict(self._report),
        }

    def cancel(self) -> None:
        """Stop the encoders."""
        for encoder in self._encoders.values():
            encoder.cancel()


def _array(values: np.ndarray) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def _feature(values: np.ndarray, names: list[str] | None) -> dict[str, Any]:
    shape = [1] if values.ndim == 1 else [values.shape[1]]
    return {"dtype": values.dtype.name, "shape": shape, "names": names}


def _video_feature(video: Video, fps: int) -> dict[str, Any]:
    height, width = video.size
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": video_info(height, width, fps),
    }
