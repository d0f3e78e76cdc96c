# SPDX-License-Identifier: Apache-2.0
"""Labelled frames of a LeRobot dataset v3.0 on disk."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hilserl_core.task import TaskSpec
from reward_classifier_node.data import LabelledFrames, network_frame
from reward_classifier_node.errors import DataError


def read_dataset(root: Path, task: TaskSpec, label_column: str = "next.reward", label_offset: int = 0) -> LabelledFrames:
    """All frames with a label. label_offset 1: a row's label belongs to the next row of its episode; first rows have none.

    Frames are taken as they are when they have the network's size, and cropped and resized when they have the camera's.
    Raises DataError for a missing column, another size, a video that cannot be read or holds fewer frames than rows.
    """
    info = _read_info(root)
    rows = _read_rows(root, label_column, [key for key in task.image_keys if _dtype(info, key, root) == "image"])
    episodes, index = rows["episode_index"].to_numpy(), rows["frame_index"].to_numpy()
    order = np.lexsort((index, episodes))
    labels = np.asarray(rows[label_column].combine_chunks().to_pylist(), float).reshape(len(rows), -1)[:, 0] > 0.5
    size = task.image_size
    images = np.empty((len(rows), len(task.cameras), size, size, 3), np.uint8)
    for camera, key in enumerate(task.image_keys):
        if _dtype(info, key, root) == "image":
            for row, cell in enumerate(rows[key].to_pylist()):
                images[row, camera] = network_frame(_decoded(cell, key, root), task, camera)
        else:
            _read_videos(root, info, key, camera, task, episodes, index, images)
    images, labels, episodes, index = images[order], labels[order], episodes[order].astype(np.int64), index[order]
    if label_offset:
        later = np.flatnonzero((episodes[1:] == episodes[:-1]) & (index[1:] == index[:-1] + 1)) + 1
        return LabelledFrames(images[later], labels[later - 1], episodes[later])
    return LabelledFrames(images, labels, episodes)


def _read_info(root: Path) -> dict[str, Any]:
    try:
        info = json.loads((root / "meta/info.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{root} is not a LeRobot dataset: {error}") from error
    if not isinstance(info, dict) or not isinstance(info.get("features"), dict) or not info.get("fps"):
        raise DataError(f"{root / 'meta/info.json'} does not say fps and features, as a LeRobot dataset does")
    if not str(info.get("codebase_version", "")).startswith("v3"):
        raise DataError(f"{root} has version {info.get('codebase_version')}, expected v3.0")
    return info


def _dtype(info: dict[str, Any], key: str, root: Path) -> str:
    feature = info["features"].get(key)
    if feature is None or feature["dtype"] not in ("video", "image"):
        raise DataError(f"{root} has no images {key}, it has {', '.join(info['features'])}: set task.cameras")
    return feature["dtype"]


def _read_rows(root: Path, label_column: str, image_keys: list[str]) -> pa.Table:
    files = sorted((root / "data").glob("chunk-*/file-*.parquet"))
    if not files:
        raise DataError(f"{root} holds no data/chunk-*/file-*.parquet")
    columns = ["episode_index", "frame_index", label_column, *image_keys]
    try:
        names = pq.read_schema(files[0]).names
        if label_column not in names:
            raise DataError(f"{root} has no column {label_column}: label the dataset first, or set classifier.label_column")
        if missing := [name for name in columns if name not in names]:
            raise DataError(f"{files[0]} has no column {missing[0]}")
        return pa.concat_tables([pq.read_table(file, columns=columns) for file in files])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read the rows of {root}: {error}") from error


def _read_videos(
    root: Path, info: dict[str, Any], key: str, camera: int, task: TaskSpec, episodes: np.ndarray, index: np.ndarray,
    images: np.ndarray,
) -> None:  # fmt: skip
    """Fill images[:, camera]: the frames of each file are decoded once, in order."""
    columns = ["episode_index", *(f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp"))]
    files = sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet"))
    try:
        table = pa.concat_tables([pq.read_table(file, columns=columns) for file in files]).to_pylist() if files else []
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read the episodes of {root}: {error}") from error
    places: dict[Path, dict[int, int]] = {}
    for entry in table:
        chunk, number, start = (entry[name] for name in columns[1:])
        path = root / info["video_path"].format(video_key=key, chunk_index=chunk, file_index=number)
        first = round(start * info["fps"])
        rows = np.flatnonzero(episodes == entry["episode_index"])
        places.setdefault(path, {}).update({first + int(index[row]): int(row) for row in rows})
    filled = 0
    for path, row_of in places.items():
        found = 0
        try:
            with av.open(str(path)) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number in row_of:
                        images[row_of[number], camera] = network_frame(frame.to_ndarray(format="rgb24"), task, camera)
                        found += 1
        except (OSError, av.FFmpegError) as error:
            raise DataError(f"cannot read the video {path}: {error}") from error
        if found != len(row_of):
            raise DataError(f"the video {path} holds {found} of the {len(row_of)} frames that the dataset's rows name")
        filled += found
    if filled != len(episodes):
        raise DataError(f"{root} has {len(episodes)} rows and meta/episodes places {filled} of them in videos of {key}")


def _decoded(cell: dict[str, Any], key: str, root: Path) -> np.ndarray:
    try:
        source = io.BytesIO(cell["bytes"]) if cell["bytes"] else root / cell["path"]
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, TypeError, KeyError) as error:
        raise DataError(f"cannot read an image {key} of {root}: {error}") from error
