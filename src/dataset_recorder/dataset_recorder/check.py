# SPDX-License-Identifier: Apache-2.0
"""Looks for what does not fit together in a LeRobot dataset v3.0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_recorder.dataset import STATS, TASKS, Dataset, DatasetError, Episode, column, numeric, open_dataset, read_json
from dataset_recorder.dataset_writer import episode_statistics
from dataset_recorder.statistics import QUANTILES, PixelStatistics, Statistics, column_statistics, combined, sampled_frames
from dataset_recorder.video import VideoError

# Numbers agree to float32; quantiles come from a histogram whose bins may fall differently. Images pass through a lossy
# codec, often after their statistics were taken, so of those only mean and standard deviation are compared, on 0-1.
_TOLERANCE, _QUANTILE_TOLERANCE, _IMAGE_TOLERANCE = 1e-4, 1e-2, 0.03
_MOMENTS = ("min", "max", "mean", "std")
_TIME_TOLERANCE_S = 1e-4  # what LeRobot allows


def check(root: Path, progress: Callable[[int], None] = lambda images: None) -> list[str]:
    """Everything wrong with the dataset, a sentence each; empty when it is consistent. Decodes all images."""
    try:
        dataset = open_dataset(root)
        return list(_findings(dataset, progress))
    except DatasetError as error:
        return [str(error)]


def _findings(dataset: Dataset, progress: Callable[[int], None]) -> Iterator[str]:
    info, episodes = dataset.info, dataset.episodes
    if [episode.index for episode in episodes] != list(range(len(episodes))):
        yield f"The episodes are numbered {[e.index for e in episodes][:20]}, expected 0 to {len(episodes) - 1} without a gap."
    for name, found in (("total_episodes", len(episodes)), ("total_frames", sum(e.length for e in episodes))):
        if info[name] != found:
            yield f"info.json says {name} is {info[name]}, the episodes make {found}."
    tasks = yield from _tasks(dataset)
    start, parts, ends = 0, [], {}
    for episode in episodes:
        computed: dict[str, Statistics] = {}
        try:
            yield from _rows(dataset, episode, start, tasks, computed)
        except DatasetError as error:
            yield f"The rows of episode {episode.index} cannot be checked: {error}."
        for camera in dataset.cameras:
            if not dataset.is_depth(camera):
                yield from _images(dataset, episode, camera, computed, ends, progress)
        stored = {key: episode_statistics(episode, key) for key in (*numeric(dataset.features), *dataset.cameras)}
        for key, found in stored.items():
            yield from _compare(f"of episode {episode.index}", key, found, computed.get(key), key in dataset.cameras)
        parts.append(stored)
        start += episode.length
    yield from _totals(dataset, parts)


def _tasks(dataset: Dataset) -> Iterator[str]:
    """Findings about the tasks; returns their texts by number."""
    try:
        rows = pq.ParquetFile(dataset.root / TASKS).read().to_pylist()
    except (OSError, pa.ArrowException) as error:
        yield f"{TASKS} cannot be read: {str(error).rstrip('.')}."
        return None
    tasks = {row["task_index"]: row.get("task", row.get("__index_level_0__")) for row in rows}
    if dataset.info.get("total_tasks") != len(tasks):
        yield f"info.json says total_tasks is {dataset.info.get('total_tasks')}, {TASKS} has {len(tasks)}."
    return tasks


def _rows(dataset: Dataset, episode: Episode, start: int, tasks: dict | None, computed: dict[str, Statistics]) -> Iterator[str]:
    """Findings in the rows of an episode, whose first should have the global index `start`; adds to `computed`."""
    where, rows = f"of episode {episode.index}", dataset.rows(episode)
    wanted = {key for key, feature in dataset.features.items() if feature["dtype"] != "video"}
    if missing := sorted(wanted - set(rows.column_names)):
        raise DatasetError(f"they lack the column {', '.join(missing)}, which info.json names")
    if extra := sorted(set(rows.column_names) - wanted):
        yield f"The rows {where} have the column {', '.join(extra)}, which info.json does not name."
    if len(rows) != episode.length:
        yield f"Episode {episode.index} has {len(rows)} rows, its metadata says {episode.length}."
    span = (episode.row["dataset_from_index"], episode.row["dataset_to_index"])
    if span != (start, start + episode.length):
        yield f"Episode {episode.index} runs from {span[0]} to {span[1]}, expected {start} to {start + episode.length}."
    if len(rows) == 0:
        return
    count = np.arange(len(rows))
    for key, expected in (("frame_index", count), ("index", start + count)):
        found = column(rows, key)
        if wrong := np.flatnonzero(found != expected).tolist():
            row, total = wrong[0], len(wrong)
            yield f"{key} {where} is {found[row]} in row {row}, expected {expected[row]} ({total} are wrong)."
    times = column(rows, "timestamp")
    late = np.flatnonzero(~(np.abs(times - count / dataset.fps) <= _TIME_TOLERANCE_S)).tolist()
    if late:
        row, total = late[0], len(late)
        yield f"timestamp {where} is {times[row]:.4f} s in row {row}, expected {row / dataset.fps:.4f} s ({total} are wrong)."
    if tasks is not None:
        unknown = sorted(set(column(rows, "task_index").tolist()) - set(tasks))
        if unknown:
            yield f"task_index {where} is {unknown[0]}, which {TASKS} does not have."
        elif {tasks[number] for number in column(rows, "task_index").tolist()} != set(episode.row.get("tasks") or ()):
            yield f"The tasks {where} in its metadata are not those of its rows."
    computed |= {key: column_statistics(column(rows, key)) for key in numeric(dataset.features)}


def _images(
    dataset: Dataset, episode: Episode, camera: str, computed: dict, ends: dict, progress: Callable[[int], None]
) -> Iterator[str]:
    """Findings in a camera of an episode; adds to `computed`, and to `ends` where each video file is used up to."""
    where, sampled, pixels, count = f"{camera} of episode {episode.index}", sampled_frames(episode.length), PixelStatistics(), 0
    shape = tuple(dataset.features[camera]["shape"])
    if camera in dataset.videos:
        (first, last), path = episode.span_s(camera), dataset.video_path(episode, camera)
        if abs((last - first) - episode.length / dataset.fps) > _TIME_TOLERANCE_S + 1e-3:
            yield f"{where} spans {last - first:.3f} s of its video, expected {episode.length / dataset.fps:.3f} s."
        if first < ends.get(path, 0.0) - _TIME_TOLERANCE_S:
            yield f"{where} begins at {first:.3f} s of its video, inside the episode before, which ends at {ends[path]:.3f} s."
        ends[path] = last
    try:
        for image in dataset.images(episode, camera):
            if count in sampled:
                pixels.add(image)
            if count == 0 and sorted(image.shape) != sorted(shape):
                yield f"{where} has images of shape {image.shape}, info.json says {shape}."
            count += 1
            progress(1)
    except (VideoError, OSError, DatasetError) as error:
        yield f"{where} cannot be decoded: {error}."
        return
    if count != episode.length:
        yield f"{where} has {count} images that can be decoded, its metadata says {episode.length} rows."
    elif count:
        computed[camera] = pixels.result()


def _totals(dataset: Dataset, parts: list[dict[str, Statistics]]) -> Iterator[str]:
    """Findings in meta/stats.json."""
    try:
        stored = read_json(dataset.root / STATS)
    except DatasetError as error:
        yield f"The statistics are missing: {error}."
        return
    for key in (*numeric(dataset.features), *dataset.cameras):
        known = [part[key] for part in parts if all(name in part[key] for name in (*_MOMENTS, "count"))]
        try:
            expected = combined(known) if known and len(known) == len(parts) else None
        except ValueError:  # shapes that differ are found episode by episode
            expected = None
        found = {name: np.array(value) for name, value in stored.get(key, {}).items()}
        yield from _compare(f"in {STATS}", key, found, expected, key in dataset.cameras)


def _compare(where: str, key: str, found: Statistics, expected: Statistics | None, image: bool) -> Iterator[str]:
    """Findings in one feature's statistics; at most one."""
    lacking = [name for name in (*_MOMENTS, "count") if name not in found]
    if lacking:
        yield f"The statistics of {key} {where} lack {', '.join(lacking)}."
        return
    if expected is None:
        return
    spread = max(float(np.max(expected["max"] - expected["min"])), 1e-6)
    tolerances = {"count": 0.0, "mean": _IMAGE_TOLERANCE, "std": _IMAGE_TOLERANCE} if image else {
        "count": 0.0,
        **dict.fromkeys(_MOMENTS, _TOLERANCE * (1 + float(np.max(np.abs(expected["mean"]))))),
        **{name: _QUANTILE_TOLERANCE * spread + _TOLERANCE for name in QUANTILES if name in found},
    }  # fmt: skip
    for name, tolerance in tolerances.items():
        if found[name].shape != expected[name].shape:
            yield f"{name} of {key} {where} has the shape {found[name].shape}, expected {expected[name].shape}."
            return
        if not np.all(np.abs(found[name] - expected[name]) <= tolerance):
            there, right = (np.round(value.ravel()[:4].astype(float), 4).tolist() for value in (found[name], expected[name]))
            yield f"{name} of {key} {where} is {there}, its rows give {right}."
            return
