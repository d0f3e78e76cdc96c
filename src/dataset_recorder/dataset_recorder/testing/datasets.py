# SPDX-License-Identifier: Apache-2.0
"""Datasets as others wrote them, made of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from dataset_recorder.dataset import open_dataset
from dataset_recorder.video import VideoWriter


@contextmanager
def priority_kept() -> Iterator[None]:
    """Around LeRobot's writer: for root, its SVT-AV1 gives the calling thread the highest real-time priority, for good.

    What that thread starts later inherits it, and starves whatever shares the processor.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def as_v21(root: Path, old: Path) -> Path:
    """The same dataset as LeRobot 0.3 laid it out: a file per episode, JSON lines for the metadata."""
    dataset = open_dataset(root)
    tasks = pq.read_table(root / "meta/tasks.parquet").to_pylist()
    names = [row["__index_level_0__"] if "__index_level_0__" in row else row["task"] for row in tasks]
    lines = {"tasks": [], "episodes": [], "episodes_stats": []}
    for row, name in zip(tasks, names, strict=True):
        lines["tasks"].append({"task_index": row["task_index"], "task": name})
    for episode in dataset.episodes:
        file = f"episode_{episode.index:06d}"
        (old / "data/chunk-000").mkdir(parents=True, exist_ok=True)
        pq.write_table(dataset.rows(episode), old / f"data/chunk-000/{file}.parquet")
        for camera in dataset.videos:
            frames = list(dataset.images(episode, camera))
            writer = VideoWriter(old / f"videos/chunk-000/{camera}/{file}.mp4", dataset.fps, *frames[0].shape[1::-1])
            for frame in frames:
                writer.write(frame)
            writer.close()
        lines["episodes"].append({"episode_index": episode.index, "tasks": episode.row["tasks"], "length": episode.length})
        stats: dict = {}
        for key, value in episode.row.items():
            if key.startswith("stats/") and key.rsplit("/", 1)[1] in ("min", "max", "mean", "std", "count"):
                stats.setdefault(key.split("/")[1], {})[key.rsplit("/", 1)[1]] = value
        lines["episodes_stats"].append({"episode_index": episode.index, "stats": stats})
    (old / "meta").mkdir()
    for name, rows in lines.items():
        (old / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {key: value for key, value in dataset.info.items() if key not in ("data_files_size_in_mb", "video_files_size_in_mb")}
    info |= {
        "codebase_version": "v2.1", "total_chunks": 1, "total_videos": len(dataset.videos) * len(dataset.episodes),
        "chunks_size": 1000, "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    (old / "meta/info.json").write_text(json.dumps(info))
    return old
