# SPDX-License-Identifier: Apache-2.0
"""The files of a LeRobot dataset v3.0, made of finished episodes: data, videos and meta in chunks of files of limited size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_recorder.convert.files import whole, write_json
from dataset_recorder.convert.video import join_videos
from dataset_recorder.statistics import as_lists, column_statistics, combined

if TYPE_CHECKING:
    from dataset_recorder.convert.writer import DatasetSpec

VERSION = "v3.0"
FILES_PER_CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_OWN = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


def write_dataset(root: Path, folders: Sequence[Path], spec: DatasetSpec, report: Mapping[str, Any]) -> None:
    """Write the dataset of these episode folders, in their order, under `root`."""
    episodes = [json.loads((folder / "episode.json").read_text()) for folder in folders]
    features = episodes[0]["features"]
    videos = [key for key, feature in features.items() if feature["dtype"] == "video"]
    lengths = [episode["length"] for episode in episodes]
    starts = [int(start) for start in np.cumsum([0, *lengths])]
    rows: list[dict[str, Any]] = [
        {
            "episode_index": index,
            "tasks": [spec.task],
            "length": length,
            "dataset_from_index": starts[index],
            "dataset_to_index": starts[index + 1],
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for index, length in enumerate(lengths)
    ]
    _write_data(root, folders, starts, rows, episodes, spec.fps)
    for key in videos:
        _write_videos(root, key, folders, lengths, rows, spec.fps)
    _write_meta(root, features, episodes, rows, spec)
    listed = [{"episode_index": index, "rows": item["length"], **item["report"]} for index, item in enumerate(episodes)]
    write_json(root / "meta/conversion.json", {**report, "episodes": listed})


def _write_data(
    root: Path, folders: Sequence[Path], starts: list[int], rows: list[dict], episodes: list[dict], fps: int
) -> None:
    """One row group per episode. Adds the columns of LeRobot's own and their statistics."""
    sizes = [(folder / "rows.parquet").stat().st_size for folder in folders]
    for place, members in _files(sizes, DATA_MB):
        path = root / _DATA.format(**place)
        with whole(path) as part:
            writer = None
            for index in members:
                table, own = pq.read_table(folders[index] / "rows.parquet"), _own_columns(index, starts, fps)
                for name, values in own.items():
                    table = table.append_column(name, pa.array(values))
                    episodes[index]["stats"][name] = as_lists(column_statistics(values))
                writer = writer or pq.ParquetWriter(part, table.schema, compression="snappy", use_dictionary=True)
                writer.write_table(table)
                rows[index] |= {f"data/{name}": value for name, value in place.items()}
            writer.close()


def _own_columns(index: int, starts: list[int], fps: int) -> dict[str, np.ndarray]:
    length = starts[index + 1] - starts[index]
    frames = np.arange(length)
    return {
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(length, index),
        "index": frames + starts[index],
        "task_index": np.zeros(length, np.int64),
    }


def _write_videos(root: Path, key: str, folders: Sequence[Path], lengths: list[int], rows: list[dict], fps: int) -> None:
    parts = [folder / f"{key}.mp4" for folder in folders]
    for place, members in _files([part.stat().st_size for part in parts], VIDEO_MB):
        with whole(root / _VIDEO.format(video_key=key, **place)) as path:
            join_videos([(parts[index], lengths[index]) for index in members], path, fps)
        before = 0
        for index in members:
            rows[index] |= {f"videos/{key}/{name}": value for name, value in place.items()}
            rows[index][f"videos/{key}/from_timestamp"] = before / fps
            before += lengths[index]
            rows[index][f"videos/{key}/to_timestamp"] = before / fps


def _write_meta(root: Path, features: dict, episodes: list[dict], rows: list[dict], spec: DatasetSpec) -> None:
    for row, episode in zip(rows, episodes, strict=True):
        row |= {f"stats/{key}/{name}": value for key, stats in episode["stats"].items() for name, value in stats.items()}
    with whole(root / _EPISODES) as part:
        pq.write_table(pa.Table.from_pylist(rows), part, compression="snappy")
    tasks = pa.table({"task_index": pa.array([0], pa.int64()), "task": [spec.task]})
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
            for name, kind, numpy in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ],
    }
    with whole(root / "meta/tasks.parquet") as part:
        pq.write_table(tasks.replace_schema_metadata({"pandas": json.dumps(described)}), part)
    keys = episodes[0]["stats"]
    totals = {key: as_lists(combined([episode["stats"][key] for episode in episodes])) for key in keys}
    write_json(root / "meta/stats.json", totals)
    total = rows[-1]["dataset_to_index"]
    info = {
        "codebase_version": VERSION,
        "fps": spec.fps,
        "features": {**features, **_OWN},
        "total_episodes": len(rows),
        "total_frames": total,
        "total_tasks": 1,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "data_path": _DATA,
        "video_path": _VIDEO if any(feature["dtype"] == "video" for feature in features.values()) else None,
        "robot_type": spec.robot_type,
        "splits": {"train": f"0:{len(rows)}"},
    }
    write_json(root / "meta/info.json", info)


def _files(sizes: Sequence[int], limit_mb: int) -> Iterator[tuple[dict[str, int], list[int]]]:
    """Which episodes go into which file: as many as fit the limit, at least one. Yields (place, episode indices)."""
    groups: list[list[int]] = [[]]
    filled = 0
    for index, size in enumerate(sizes):
        if groups[-1] and filled + size >= limit_mb * 2**20:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += size
    for number, members in enumerate(groups):
        yield {"chunk_index": number // FILES_PER_CHUNK, "file_index": number % FILES_PER_CHUNK}, members
