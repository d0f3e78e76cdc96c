# SPDX-License-Identifier: Apache-2.0
"""Episodes from a `steps` topic, exactly as they were taken: N actions are N rows, nothing is resampled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_recorder.convert.bag import Bag, metadata_of
from dataset_recorder.convert.errors import BagError, ConversionError
from dataset_recorder.convert.images import rgb_of
from dataset_recorder.convert.writer import EpisodeWriter
from hilserl_core.step import Mode
from hilserl_core.task import ACTION_NAMES, STATE_PARTS, TaskError, TaskSpec

STEP_TYPE = "hilserl_interfaces/msg/Step"


@dataclass(frozen=True)
class _Entry:
    """What is kept of a step between reading the bag the first time and the second."""

    received_ns: int
    run_id: str
    sequence: int
    episode: int
    index: int
    mode: int
    stamp_ns: int
    is_last: bool
    is_terminal: bool
    has_action: bool
    task_digest: str


@dataclass(frozen=True)
class StepEpisode:
    """An episode found in a bag. entries: its steps in sequence, without duplicates. report: as in meta/conversion.json."""

    bag: Path
    topic: str
    mode: Mode
    entries: tuple[_Entry, ...]
    report: dict[str, Any]
    task: TaskSpec | None

    @property
    def length(self) -> int:
        """Rows of the dataset."""
        return sum(entry.has_action for entry in self.entries)

    @property
    def stamps_ns(self) -> np.ndarray:
        """Stamps of the rows' observations [ns]."""
        return np.array([entry.stamp_ns for entry in self.entries if entry.has_action], np.int64)

    @property
    def task_digest(self) -> str:
        """Of the task under which the steps were made."""
        return self.entries[0].task_digest

    def write(self, writer: EpisodeWriter) -> None:
        """Read the steps again, hand their images to the encoders and their values as rows."""
        messages, columns = [], {}
        for message in self._in_sequence():
            for camera, image in zip(_cameras(message), message.images, strict=True):
                writer.image(camera, rgb_of(image))
            message.images = []
            messages.append(message)
        for key, name in (("observation.state", "state"), ("action", "action")):
            sizes = {len(getattr(message, name)) for message in messages}
            if len(sizes) != 1 or 0 in sizes:
                raise ConversionError(f"{name} has {sorted(sizes)} values within an episode, expected one number")
            columns[key] = np.array([getattr(message, name) for message in messages], np.float32)
        columns["next.reward"] = np.array([message.reward if message.has_reward else 0.0 for message in messages], np.float32)
        columns["next.done"], columns["next.truncated"] = self._ends()
        columns["next.success"] = np.array([message.success for message in messages], bool)
        columns["complementary_info.is_intervention"] = np.array([message.intervention for message in messages], bool)
        columns["complementary_info.has_reward"] = np.array([message.has_reward for message in messages], bool)
        columns["complementary_info.policy_version"] = np.array([message.policy_version for message in messages], np.int64)
        columns["stamp_ns"] = self.stamps_ns
        counts = {
            "interventions": int(columns["complementary_info.is_intervention"].sum()),
            "without_reward": int((~columns["complementary_info.has_reward"]).sum()),
        }
        writer.rows(columns, _names(self.task, columns), {**self.report, **counts})

    def _in_sequence(self) -> Iterator[Any]:
        """The messages of the rows by sequence; one that comes early (an earlier one was sent again) waits."""
        rows = [entry for entry in self.entries if entry.has_action]
        received = [entry.received_ns for entry in rows]
        left = {entry.sequence: entry for entry in rows}
        order, position, early = [entry.sequence for entry in rows], 0, {}
        with Bag(self.bag) as bag:
            for _, stamp, decode in bag.messages([self.topic], min(received), max(received) + 1):
                message = decode()
                entry = left.get(message.sequence)
                if entry is None or message.run_id != entry.run_id or stamp != entry.received_ns:
                    continue
                early[message.sequence] = message
                del left[message.sequence]
                while position < len(order) and order[position] in early:
                    yield early.pop(order[position])
                    position += 1
        if left:
            raise BagError(f"{self.bag} has changed while it was read: steps {sorted(left)} are gone")

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """done (terminal or timed out) and truncated (timed out): true in a last row whose final observation followed."""
        done, truncated = np.zeros(self.length, bool), np.zeros(self.length, bool)
        last = self.entries[-1]
        if last.is_last and len(self.entries) > 1 and self.entries[-2].sequence == last.sequence - 1:
            done[-1], truncated[-1] = True, not last.is_terminal
        return done, truncated


def read_step_episodes(bag: Bag, modes: Sequence[Mode], seen: set[tuple[str, int]]) -> tuple[list[StepEpisode], dict[str, Any]]:
    """The episodes of a bag that have rows and one of the modes, and what else there was (JSON).

    seen: (run_id, sequence) of the steps of earlier bags, a step that comes again is dropped; extended here.
    Raises BagError without exactly one topic of steps.
    """
    topics = bag.topics_of(STEP_TYPE)
    if len(topics) != 1:
        raise BagError(f"{bag.path} has {len(topics)} topics of {STEP_TYPE}, expected one; give a mapping for a bag without")
    groups: dict[tuple[str, int], list[_Entry]] = {}
    duplicates: dict[tuple[str, int], int] = {}
    for _, received, decode in bag.messages(topics):
        entry = _entry(decode(), received)
        key = (entry.run_id, entry.episode)
        if (entry.run_id, entry.sequence) in seen:
            duplicates[key] = duplicates.get(key, 0) + 1
            continue
        seen.add((entry.run_id, entry.sequence))
        groups.setdefault(key, []).append(entry)
    task = _task_of(bag)
    episodes, skipped = [], {"other_mode": 0, "without_action": 0}
    for key, entries in groups.items():
        in_time = [entry.sequence for entry in entries]
        entries.sort(key=lambda entry: entry.sequence)
        mode = Mode(entries[0].mode)
        report = {
            "bag": str(bag.path),
            "source": "steps",
            "run_id": key[0],
            "episode": key[1],
            "mode": mode.name.lower(),
            "steps": len(entries),
            "duplicates": duplicates.pop(key, 0),
            "out_of_order": sum(later < earlier for earlier, later in itertools.pairwise(in_time)),
            "gaps": _gaps(entries),
            "ended": entries[-1].is_last,
        }
        if mode not in modes:
            skipped["other_mode"] += 1
        elif not any(entry.has_action for entry in entries):
            skipped["without_action"] += 1
        else:
            episodes.append(StepEpisode(bag.path, topics[0], mode, tuple(entries), report, task))
    if sum(duplicates.values()):
        skipped["duplicates"] = sum(duplicates.values())
    return episodes, {"bag": str(bag.path), **skipped}


def fps_of(episodes: Sequence[StepEpisode]) -> int:
    """Rows per second: what the bags' task says, else the median distance of stamps.

    Raises ConversionError when it is not a whole number within 5 %, which LeRobot needs.
    """
    told = next((episode.task.fps for episode in episodes if episode.task is not None), None)
    if told is None:
        distances = [np.diff(episode.stamps_ns) for episode in episodes if episode.length > 1]
        median = float(np.median(np.concatenate(distances))) if distances else 0.0
        if median <= 0:
            raise ConversionError("the stamps of the steps do not tell how many a second there are: give --fps")
        told = 1e9 / median
    if round(told) < 1 or abs(told - round(told)) > 0.05 * told:
        raise ConversionError(f"the steps come {told:.3f} times a second, a dataset needs a whole number: give --fps")
    return round(told)


def _entry(message: Any, received: int) -> _Entry:
    return _Entry(
        received_ns=received,
        run_id=message.run_id,
        sequence=message.sequence,
        episode=message.episode,
        index=message.index,
        mode=message.mode,
        stamp_ns=message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec,
        is_last=message.is_last,
        is_terminal=message.is_terminal,
        has_action=len(message.action) > 0,
        task_digest=message.task_digest,
    )


def _gaps(entries: Sequence[_Entry]) -> list[dict[str, int]]:
    """Where sequence numbers are missing within the episode: after which one, and how many."""
    gaps = []
    if entries[0].index > 0:
        gaps.append({"after": entries[0].sequence - entries[0].index - 1, "missing": entries[0].index})
    for earlier, later in itertools.pairwise(entries):
        if later.sequence - earlier.sequence > 1:
            gaps.append({"after": earlier.sequence, "missing": later.sequence - earlier.sequence - 1})
    return gaps


def _cameras(message: Any) -> list[str]:
    """Names of the images: their frames, which a step carries as camera names."""
    names = [image.header.frame_id for image in message.images]
    return names if all(names) and len(set(names)) == len(names) else [f"camera{index}" for index in range(len(names))]


def _task_of(bag: Bag) -> TaskSpec | None:
    """The task in the bag's metadata, where there is one that can be read."""
    values = metadata_of(bag.custom, "task")
    try:
        return None if values is None else TaskSpec.from_dict(values)
    except (TaskError, TypeError):
        return None


def _names(task: TaskSpec | None, columns: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """What the components of state and action are called, as far as it is known and fits."""
    names: dict[str, list[str]] = {}
    if columns["action"].shape[1] == len(ACTION_NAMES):
        names["action"] = list(ACTION_NAMES)
    if task is not None and columns["observation.state"].shape[1] == task.state_size:
        parts = [(part, task.joints if STATE_PARTS[part] is None else ("x", "y", "z")) for part in task.state]
        names["observation.state"] = [f"{part}.{name}" for part, labels in parts for name in labels]
    return names
