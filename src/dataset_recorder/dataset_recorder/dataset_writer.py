# SPDX-License-Identifier: Apache-2.0
"""Writes a LeRobot dataset v3.0 from another one's episodes: rows, videos, statistics and indices anew."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dataset_recorder.dataset import EPISODES, INFO, STATS, Dataset, DatasetError, Episode, column, numeric
from dataset_recorder.statistics import PixelStatistics, Statistics, as_lists, column_statistics, combined, sampled_frames
from dataset_recorder.video import VideoWriter, video_info

_MEGABYTE = 1 << 20


class DatasetWriter:
    """Episodes go in one after the other; `finish` writes the metadata, and `abandon` closes files after an error."""

    def __init__(self, root: Path, source: Dataset, features: dict[str, dict[str, Any]], copied: Iterable[str] = ()) -> None:
        """Write to the folder `root`; videos of the cameras `copied` are taken over as they are."""
        self.root, self.info = root, {**source.info, "features": features}
        self.source, self.features, self.copied = source, features, set(copied)
        self._frames = 0
        self._episodes: list[dict[str, Any]] = []
        self._statistics: list[dict[str, Statistics]] = []
        self._videos: dict[str, VideoWriter] = {}
        self._video_files: dict[str, int] = {}
        self._rows: pq.ParquetWriter | None = None
        self._rows_file, self._rows_start = 0, 0

    def add(self, episode: Episode, rows: pa.Table, images: Mapping[str, Iterator[np.ndarray]]) -> None:
        """Add an episode: its rows without index columns set, and the images of each camera that is not copied.

        Raises DatasetError when a camera does not have one image per row, VideoError when one cannot be written.
        """
        index, length = len(self._episodes), len(rows)
        numbers = np.arange(length)
        rows = with_columns(
            rows,
            self.features,
            {
                "timestamp": numbers / self.source.fps,
                "frame_index": numbers,
                "episode_index": np.full(length, index),
                "index": self._frames + numbers,
            },
        )
        row = {key: value for key, value in episode.row.items() if not key.startswith(("stats/", "videos/", "meta/"))}
        row |= {"episode_index": index, "length": length}
        row |= {"dataset_from_index": self._frames, "dataset_to_index": self._frames + length}
        statistics: dict[str, Statistics] = {}
        for camera in self.source.cameras:
            if camera in self.copied:
                row |= {key: value for key, value in episode.row.items() if key.startswith(f"videos/{camera}/")}
                statistics[camera] = episode_statistics(episode, camera)
            elif self.features[camera]["dtype"] == "video":
                place, statistics[camera] = self._add_video(camera, images[camera], length)
                row |= place
            else:
                rows, statistics[camera] = _with_images(rows, camera, images[camera])
        for key in numeric(self.features):
            statistics[key] = column_statistics(column(rows, key))
        row |= self._add_rows(rows)
        row |= {f"stats/{key}/{name}": v.tolist() for key, found in statistics.items() for name, v in found.items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self._episodes.append(row)
        self._statistics.append(statistics)
        self._frames += length

    def finish(self) -> None:
        """Close all files and write the metadata."""
        for video in self._videos.values():
            video.close()
        self._rows.close()
        for camera, video in self._videos.items():
            info = video_info(video.height, video.width, self.source.fps)
            self.features[camera]["info"] = {**(self.features[camera].get("info") or {}), **info}
        path = self.root / EPISODES.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), path)
        totals = {key: as_lists(combined([part[key] for part in self._statistics])) for key in self._statistics[0]}
        self.info |= {"total_episodes": len(self._episodes), "total_frames": self._frames}
        _write_json(self.root / STATS, totals)
        _write_json(self.root / INFO, self.info)

    def abandon(self) -> None:
        """Close what is open."""
        for video in self._videos.values():
            video.abandon()
        if self._rows is not None:
            self._rows.close()

    def _add_video(self, camera: str, images: Iterator[np.ndarray], length: int) -> tuple[dict[str, Any], Statistics]:
        writer = self._videos.get(camera)
        limit = self.info["video_files_size_in_mb"] * _MEGABYTE
        if writer is not None and writer.bytes * (1 + length / writer.frames) >= limit:
            writer.close()
            self._video_files[camera] += 1
            writer = None
        start = writer.frames if writer is not None else 0
        sampled, pixels, count = sampled_frames(length), PixelStatistics(), 0
        for count, image in enumerate(images, 1):
            if writer is None:
                path = self.root / self._video_path(camera, self._video_files.setdefault(camera, 0))
                writer = self._videos[camera] = VideoWriter(path, self.source.fps, image.shape[1], image.shape[0])
            writer.write(image)
            if count - 1 in sampled:
                pixels.add(image)
        if count != length:
            raise DatasetError(f"{camera} of episode {len(self._episodes)} has {count} images for {length} rows")
        chunk, file = self._place(self._video_files[camera])
        prefix, fps = f"videos/{camera}", self.source.fps
        place = {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}
        place |= {f"{prefix}/from_timestamp": start / fps, f"{prefix}/to_timestamp": writer.frames / fps}
        return place, pixels.result()

    def _add_rows(self, rows: pa.Table) -> dict[str, Any]:
        limit = self.info["data_files_size_in_mb"] * _MEGABYTE
        if self._rows is not None:
            size, frames = Path(self._rows.where).stat().st_size, self._frames - self._rows_start
            if size * (1 + len(rows) / frames) >= limit:
                self._rows.close()
                self._rows, self._rows_start = None, self._frames
                self._rows_file += 1
        chunk, file = self._place(self._rows_file)
        if self._rows is None:
            path = self.root / self.info["data_path"].format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._rows = pq.ParquetWriter(path, rows.schema, compression="snappy", use_dictionary=True)
        self._rows.write_table(rows)  # one row group per episode
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _place(self, number: int) -> tuple[int, int]:
        return divmod(number, self.info["chunks_size"])

    def _video_path(self, camera: str, number: int) -> str:
        chunk, file = self._place(number)
        return self.info["video_path"].format(video_key=camera, chunk_index=chunk, file_index=file)


def with_columns(rows: pa.Table, features: dict[str, dict[str, Any]], values: Mapping[str, np.ndarray]) -> pa.Table:
    """Rows with some columns set or added, in the order of the features. Raises DatasetError when one is missing."""
    names = json.loads((rows.schema.metadata or {}).get(b"huggingface", b"null"))
    for key, value in values.items():
        array = pa.array(value).cast(pa.type_for_alias("bool" if (kind := features[key]["dtype"]) == "bool" else kind))
        place = rows.schema.get_field_index(key)
        rows = rows.append_column(key, array) if place < 0 else rows.set_column(place, key, array)
        if names:
            names["info"]["features"][key] = {"dtype": kind, "_type": "Value"}
    order = [key for key, feature in features.items() if feature["dtype"] != "video"]
    missing = [key for key in order if key not in rows.column_names]
    if missing:
        raise DatasetError(f"the rows lack the column {', '.join(missing)}, which info.json names")
    rows = rows.select(order)
    if names:
        names["info"]["features"] = {key: names["info"]["features"][key] for key in order}
        rows = rows.replace_schema_metadata({b"huggingface": json.dumps(names).encode()})
    return rows


def episode_statistics(episode: Episode, feature: str) -> Statistics:
    """The statistics that the metadata has for a feature of an episode; empty when it has none."""
    prefix = f"stats/{feature}/"
    found = {key.removeprefix(prefix): value for key, value in episode.row.items() if key.startswith(prefix)}
    return {name: np.array(value) for name, value in found.items() if value is not None}


def _with_images(rows: pa.Table, camera: str, images: Iterator[np.ndarray]) -> tuple[pa.Table, Statistics]:
    """Rows with the images of a camera that is stored in them, and their statistics."""
    sampled, pixels, cells = sampled_frames(len(rows)), PixelStatistics(), []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=6)
        cells.append({"bytes": buffer.getvalue(), "path": f"frame-{number:06d}.png"})
        if number in sampled:
            pixels.add(image)
    if len(cells) != len(rows):
        raise DatasetError(f"{camera} has {len(cells)} images for {len(rows)} rows")
    place = rows.schema.get_field_index(camera)
    return rows.set_column(place, camera, pa.array(cells, type=rows.schema.field(camera).type)), pixels.result()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False))
