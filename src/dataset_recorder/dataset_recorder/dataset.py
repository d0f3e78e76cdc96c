# SPDX-License-Identifier: Apache-2.0
"""Reads a LeRobot dataset v3.0 folder without LeRobot: rows, images, metadata."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from dataset_recorder.video import read_frames

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
NUMERIC = ("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class DatasetError(ValueError):
    """A folder that is not a dataset v3.0, or one whose parts do not fit together."""


@dataclass(frozen=True)
class Episode:
    """One row of meta/episodes."""

    index: int
    length: int
    row: dict[str, Any]

    def span_s(self, camera: str) -> tuple[float, float]:
        """Where the episode begins and ends in its video, in seconds."""
        return self.row[f"videos/{camera}/from_timestamp"], self.row[f"videos/{camera}/to_timestamp"]

    def file(self, kind: str) -> dict[str, int]:
        """Chunk and file number of `data` or of `videos/<camera>`, as the path templates want them."""
        return {name: self.row[f"{kind}/{name}"] for name in ("chunk_index", "file_index")}


@dataclass(frozen=True)
class Dataset:
    """An opened dataset. Rows and images are read when asked for."""

    root: Path
    info: dict[str, Any]
    episodes: tuple[Episode, ...]
    _cache: dict[Path, pa.Table] = field(default_factory=dict, repr=False, compare=False)

    @property
    def fps(self) -> int:
        """Frames per second."""
        return self.info["fps"]

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """Type, shape and names of each feature."""
        return self.info["features"]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Features that are images, stored as videos or in the rows."""
        return tuple(key for key, feature in self.features.items() if feature["dtype"] in ("video", "image"))

    @property
    def videos(self) -> tuple[str, ...]:
        """Cameras that are stored as videos."""
        return tuple(key for key in self.cameras if self.features[key]["dtype"] == "video")

    def is_depth(self, camera: str) -> bool:
        """Whether a camera holds distances instead of colours."""
        info = self.features[camera].get("info") or {}
        return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))

    def video_path(self, episode: Episode, camera: str) -> Path:
        """The file that holds a camera of an episode, among others."""
        return self.root / self.info["video_path"].format(video_key=camera, **episode.file(f"videos/{camera}"))

    def rows(self, episode: Episode) -> pa.Table:
        """The rows of an episode. Raises DatasetError."""
        path = self.root / self.info["data_path"].format(**episode.file("data"))
        if path not in self._cache:
            self._cache.clear()  # one file in memory
            self._cache[path] = _read_table(path)
        table = self._cache[path]
        if "episode_index" not in table.column_names:
            raise DatasetError(f"{path} has no column episode_index, which every dataset v3.0 has")
        return table.filter(pc.equal(table["episode_index"], episode.index))

    def images(self, episode: Episode, camera: str) -> Iterator[np.ndarray]:
        """The images of a camera in an episode, each (h, w, 3) uint8 RGB. Raises DatasetError, VideoError."""
        if self.is_depth(camera):
            raise DatasetError(f"{camera} of {self.root} is a depth camera: only colour cameras are supported")
        if self.features[camera]["dtype"] == "video":
            yield from read_frames(self.video_path(episode, camera), *episode.span_s(camera), self.fps)
        else:
            for cell in self.rows(episode)[camera].to_pylist():
                source = io.BytesIO(cell["bytes"]) if cell["bytes"] else self.root / cell["path"]
                with Image.open(source) as image:
                    yield np.asarray(image.convert("RGB"))


def open_dataset(root: Path) -> Dataset:
    """Open a dataset. Raises DatasetError when the folder is not a dataset v3.0 or lacks metadata."""
    info = _checked_info(root / INFO)
    paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise DatasetError(f"{root / 'meta/episodes'} holds no parquet file: is the recording finished?")
    rows = [row for path in paths for row in _read_table(path).to_pylist()]
    dataset = Dataset(root, info, ())
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index"]
    parts = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    needed += [f"videos/{camera}/{part}" for camera in dataset.videos for part in parts]
    lacking = sorted({key for key in needed for row in rows if row.get(key) is None})
    if lacking:
        raise DatasetError(f"the episodes of {root} lack {', '.join(lacking)}")
    if not rows:
        raise DatasetError(f"{root} holds no episode")
    odd = [row for row in rows if not isinstance(row["episode_index"], int) or not isinstance(row["length"], int)]
    if odd or any(row["length"] < 1 for row in rows):
        raise DatasetError(f"the episodes of {root} have an episode_index or a length that is no whole number, or no frames")
    rows.sort(key=lambda row: row["episode_index"])
    return Dataset(root, info, tuple(Episode(row["episode_index"], row["length"], row) for row in rows))


def episode_rows(dataset: Dataset, episode: Episode) -> pa.Table:
    """The rows of an episode, as many as its metadata says. Raises DatasetError."""
    rows = dataset.rows(episode)
    if len(rows) != episode.length:
        found = f"episode {episode.index} of {dataset.root} has {len(rows)} rows, its metadata says {episode.length}"
        raise DatasetError(f"{found}: reach-grasp check-dataset shows what else is wrong")
    return rows


def column(table: pa.Table, name: str) -> np.ndarray:
    """A numeric column, shape (n,) or (n, ...). Raises DatasetError when it is not there."""
    if name not in table.column_names:
        raise DatasetError(f"the rows lack the column {name}")
    chunked = table[name].combine_chunks()
    if isinstance(chunked, pa.ExtensionArray):
        chunked = chunked.storage
    if pa.types.is_nested(chunked.type):
        return np.array(chunked.to_pylist(), dtype=_inner(chunked.type))
    return chunked.to_numpy(zero_copy_only=False)


def numeric(features: dict[str, dict[str, Any]]) -> list[str]:
    """The features that have numbers in the rows."""
    return [key for key, feature in features.items() if feature["dtype"] in NUMERIC]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises DatasetError."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(value, dict):
        raise DatasetError(f"cannot read {path}: it holds no JSON object")
    return value


def _checked_info(path: Path) -> dict[str, Any]:
    """What meta/info.json says, with LeRobot's own values where it does not say how large files are."""
    info = {"chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, **read_json(path)}
    if info.get("codebase_version") != "v3.0":
        raise DatasetError(
            f"{path.parent.parent} is a dataset {info.get('codebase_version')}, expected v3.0: convert it with LeRobot first"
        )
    missing = [key for key in ("fps", "features", "data_path", "total_episodes", "total_frames") if key not in info]
    if missing:
        raise DatasetError(f"{path} lacks {', '.join(missing)}")
    features = info["features"]
    if not isinstance(features, dict) or not all(
        isinstance(f, dict) and {"dtype", "shape"} <= set(f) for f in features.values()
    ):
        raise DatasetError(f"{path}: features must say dtype and shape of each feature")
    numbers = ("fps", "chunks_size", "data_files_size_in_mb", "video_files_size_in_mb")
    wrong = [name for name in numbers if not isinstance(info[name], int | float) or not info[name] > 0]
    if wrong:
        raise DatasetError(f"{path}: {wrong[0]} is {info[wrong[0]]!r}, expected a number above 0")
    videos = any(feature["dtype"] == "video" for feature in features.values())
    for name in ("data_path", *(("video_path",) if videos else ())):
        try:
            info.get(name).format(video_key="", chunk_index=0, file_index=0)
        except (AttributeError, KeyError, IndexError, ValueError) as error:
            raise DatasetError(
                f"{path}: {name} is {info.get(name)!r}, expected a path with chunk_index and file_index"
            ) from error
    return info


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise DatasetError(f"cannot read {path}: there is no such file") from error
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"cannot read {path}: {str(error).rstrip('.')}") from error


def _inner(kind: pa.DataType) -> np.dtype:
    while pa.types.is_nested(kind):
        kind = kind.value_type
    return np.dtype(kind.to_pandas_dtype())
