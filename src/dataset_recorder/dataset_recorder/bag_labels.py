# SPDX-License-Identifier: Apache-2.0
"""Labels for a converted dataset from what its bags recorded: the simulator's truth, the rewards, or a person's verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from dataset_recorder.convert.bag import Bag
from dataset_recorder.dataset import Dataset, DatasetError, Episode, column, episode_rows, open_dataset
from dataset_recorder.labels import EpisodeLabels, LabelError, LabelTable
from dataset_recorder.origin import bags_of
from dataset_recorder.said import Said, said_in


def labels_from_bags(
    root: Path, source: str, bags: Sequence[Path] = (), progress: Callable[[Path], None] = lambda bag: None
) -> LabelTable:
    """The labels of every frame of a dataset that `convert` made, from the bags it was made of. No frame is cut.

    source: `truth`, a frame shows success where the truth about its image has a probability of 0.5 or more; `reward`, where
    the reward for its image says success; `events`, from the frame that was the newest when a person said success, until a
    person says failure. bags: where the bags are, or folders of them; default, where they were when they were converted.

    Raises LabelError when the bags do not say it of every frame, DatasetError, BagError; ValueError for another source.
    """
    dataset = open_dataset(root)
    places = bags_of(dataset, bags)
    labels: dict[int, EpisodeLabels] = {}
    messages = 0
    for path, group in groupby(dataset.episodes, lambda episode: places[episode.index]):
        progress(path)
        with Bag(path) as bag:
            said = said_in(bag, source)
        messages += len(said.stamps)
        for episode in group:
            seen = _seen_ns(dataset, episode)
            if source == "events":
                shown = said.by_events(seen, dataset.fps)
            else:
                shown = _by_frames(said, seen, dataset.fps, path, episode.index)
            labels[episode.index] = EpisodeLabels.of_frames(episode.index, shown)
    if not messages:
        raise LabelError(f"no bag of {root} holds a word of {source}: label from another source, or by a table")
    return LabelTable(f"{source} of the bags", labels)


def _seen_ns(dataset: Dataset, episode: Episode) -> np.ndarray:
    """When the images of an episode's rows were taken, (n,) int64 [ns]: the oldest, where a row has several."""
    rows = episode_rows(dataset, episode)
    if "stamp_ns" not in rows.column_names:
        raise DatasetError(f"{dataset.root} has no column stamp_ns, which ties its rows to bags: convert the bags again")
    stamps = column(rows, "stamp_ns").reshape(-1)
    ages = [column(rows, f"age_s.{camera}").reshape(-1) for camera in dataset.cameras if f"age_s.{camera}" in rows.column_names]
    return stamps - np.round(np.max(ages, axis=0).astype(float) * 1e9).astype(np.int64) if ages else stamps


def _by_frames(said: Said, seen: np.ndarray, fps: int, bag: Path, episode: int) -> np.ndarray:
    """What is said about each frame, (n,) bool: by the message with its stamp, or the last one up to half a tick before."""
    stamps = said.stamps
    picks = np.searchsorted(stamps, seen + 1000, side="right") - 1  # ages are known to less than a microsecond
    known = picks >= 0
    known[known] &= seen[known] - stamps[picks[known]] <= 500_000_000 // fps
    if not known.all():
        first, count = int(np.argmin(known)), int((~known).sum())
        raise LabelError(
            f"{said.topic} of {bag} says nothing about {count} of the {len(seen)} frames of episode {episode}, the first is "
            f"frame {first}: label from another source, or by a table"
        )
    return said.values[picks]
