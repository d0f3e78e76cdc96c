# SPDX-License-Identifier: Apache-2.0
"""Labels for a converted dataset from what its bags recorded: the simulator's truth, the rewards, or a person's verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from dataset_recorder.convert.bag import Bag
from dataset_recorder.dataset import Dataset, DatasetError, Episode, column, episode_rows, open_dataset
from dataset_recorder.labels import EpisodeLabels, LabelError, LabelTable
from dataset_recorder.origin import bags_of

_REWARD, _EVENT = "hilserl_interfaces/msg/Reward", "hilserl_interfaces/msg/EpisodeEvent"
_SUCCESS, _FAILURE = 0, 1  # of EpisodeEvent


@dataclass(frozen=True)
class _Source:
    """topic: its last part, whatever the namespace. value: of a message, whether it says success; None says nothing."""

    topic: str
    kind: str
    value: Callable[[Any], bool | None]


_SOURCES = {
    "truth": _Source("truth", _REWARD, lambda message: message.probability >= 0.5),
    "reward": _Source("reward", _REWARD, lambda message: bool(message.success)),
    "events": _Source("episode/event", _EVENT, lambda message: {_SUCCESS: True, _FAILURE: False}.get(message.kind)),
}
SOURCES = tuple(_SOURCES)


def labels_from_bags(
    root: Path, source: str, bags: Sequence[Path] = (), progress: Callable[[Path], None] = lambda bag: None
) -> LabelTable:
    """The labels of every frame of a dataset that `convert` made, from the bags it was made of. No frame is cut.

    source: `truth`, a frame shows success where the truth about its image has a probability of 0.5 or more; `reward`, where
    the reward for its image says success; `events`, from the frame that was the newest when a person said success, until a
    person says failure. bags: where the bags are, or folders of them; default, where they were when they were converted.

    Raises LabelError when the bags do not say it of every frame, DatasetError, BagError; ValueError for another source.
    """
    if source not in _SOURCES:
        raise ValueError(f"the source is {source!r}, allowed: {', '.join(SOURCES)}")
    dataset, said = open_dataset(root), _SOURCES[source]
    places = bags_of(dataset, bags)
    labels: dict[int, EpisodeLabels] = {}
    for path, group in groupby(dataset.episodes, lambda episode: places[episode.index]):
        progress(path)
        stamps, values = _read(path, said)
        for episode in group:
            seen = _seen_ns(dataset, episode)
            if source == "events":
                shown = _by_events(stamps, values, seen, dataset.fps)
            else:
                shown = _by_frames(stamps, values, seen, dataset.fps, f"{said.topic} of {path}", episode.index)
            labels[episode.index] = EpisodeLabels.of_frames(episode.index, shown)
    return LabelTable(f"{said.topic} of the bags", labels)


def _read(path: Path, said: _Source) -> tuple[np.ndarray, np.ndarray]:
    """The stamps [ns], sorted, (N,), and what the message of each says, (N,) bool. Raises BagError, LabelError."""
    with Bag(path) as bag:
        topics = [topic for topic in bag.topics_of(said.kind) if f"/{topic}".endswith(f"/{said.topic}")]
        if len(topics) != 1 and not (not topics and said.kind == _EVENT):  # nobody may have said anything
            there = ", ".join(sorted(bag.topics))
            raise LabelError(f"{path} has {len(topics)} topics {said.topic}, expected one; it has {there}")
        found: dict[int, bool] = {}
        for topic, _, decode in bag.messages(topics):
            message = decode()
            value, stamp = said.value(message), message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            if value is None:
                continue
            if stamp == 0:
                raise LabelError(f"{path}: a message of {topic} has no stamp, so it cannot be told which frame it is about")
            if said.kind == _REWARD and found.get(stamp, value) != value:
                when = f"{stamp / 1e9:.3f} s"
                raise LabelError(f"{path}: {topic} says two things about the frame of {when}: did two nodes publish it?")
            found[stamp] = value
    stamps = np.array(sorted(found), np.int64)
    return stamps, np.array([found[stamp] for stamp in stamps.tolist()], bool)


def _seen_ns(dataset: Dataset, episode: Episode) -> np.ndarray:
    """When the images of an episode's rows were taken, (n,) int64 [ns]: the oldest, where a row has several."""
    rows = episode_rows(dataset, episode)
    if "stamp_ns" not in rows.column_names:
        raise DatasetError(f"{dataset.root} has no column stamp_ns, which ties its rows to bags: convert the bags again")
    stamps = column(rows, "stamp_ns").reshape(-1)
    ages = [column(rows, f"age_s.{camera}").reshape(-1) for camera in dataset.cameras if f"age_s.{camera}" in rows.column_names]
    return stamps - np.round(np.max(ages, axis=0).astype(float) * 1e9).astype(np.int64) if ages else stamps


def _by_frames(stamps: np.ndarray, values: np.ndarray, seen: np.ndarray, fps: int, where: str, episode: int) -> np.ndarray:
    """What is said about each frame, (n,) bool: by the message with its stamp, or the last one up to half a tick before."""
    picks = np.searchsorted(stamps, seen + 1000, side="right") - 1  # ages are known to less than a microsecond
    known = picks >= 0
    known[known] &= seen[known] - stamps[picks[known]] <= 500_000_000 // fps
    if not known.all():
        first, count = int(np.argmin(known)), int((~known).sum())
        raise LabelError(
            f"{where} says nothing about {count} of the {len(seen)} frames of episode {episode}, the first is frame {first}: "
            "label from another source, or by a table"
        )
    return values[picks]


def _by_events(stamps: np.ndarray, values: np.ndarray, seen: np.ndarray, fps: int) -> np.ndarray:
    """The last verdict at each frame, (n,) bool; False before the first. What was said before or after it does not count."""
    shown = np.zeros(len(seen), bool)
    inside = (stamps >= seen[0]) & (stamps <= seen[-1] + 1_000_000_000 // fps)
    for stamp, value in zip(stamps[inside], values[inside], strict=True):
        shown[np.searchsorted(seen, stamp, side="right") - 1 :] = value
    return shown
