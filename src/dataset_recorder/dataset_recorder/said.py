# SPDX-License-Identifier: Apache-2.0
"""What a bag says about the frames in it: the simulator's truth, the rewards that were given, or a person's verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataset_recorder.convert.bag import Bag
from dataset_recorder.labels import LabelError

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
_PREFERRED = ("reward", "truth", "events")  # as labels of what a classifier's node says: debounced as it is, known exactly


@dataclass(frozen=True)
class Said:
    """What one source said. topic: its last part. stamps: [ns], sorted, (N,) int64. values: whether success, (N,) bool."""

    topic: str
    stamps: np.ndarray
    values: np.ndarray

    def by_events(self, seen: np.ndarray, fps: float) -> np.ndarray:
        """The last verdict at each frame, (n,) bool; False before the first. What was said before or after does not count.

        seen: stamps of the frames [ns], (n,).
        """
        shown = np.zeros(len(seen), bool)
        inside = (self.stamps >= seen[0]) & (self.stamps <= seen[-1] + int(1e9 // fps))
        for stamp, value in zip(self.stamps[inside], self.values[inside], strict=True):
            shown[np.searchsorted(seen, stamp, side="right") - 1 :] = value
        return shown


def said_in(bag: Bag, source: str) -> Said:
    """What a source says in a bag. Raises LabelError, BagError; ValueError for another source."""
    if source not in _SOURCES:
        raise ValueError(f"the source is {source!r}, allowed: {', '.join(SOURCES)}")
    said, path = _SOURCES[source], bag.path
    topics = _topics(bag, said)
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
    return Said(said.topic, stamps, np.array([found[stamp] for stamp in stamps.tolist()], bool))


def labels_in(bag: Bag, seen: np.ndarray, fps: float, source: str = "auto") -> tuple[str, list[bool | None]]:
    """A source, and what it says of each frame; None where it says nothing.

    source: auto is the first of reward, truth and events that has a message in the bag; "" comes back where none has.
    seen: stamps of the frames [ns], (n,). Raises LabelError, BagError.
    """
    chosen = source if source != "auto" else next((name for name in _PREFERRED if _messages(bag, name)), "")
    if not chosen:
        return "", [None] * len(seen)
    said = said_in(bag, chosen)
    if chosen == "events":
        return chosen, said.by_events(seen, fps).tolist()
    known = dict(zip(said.stamps.tolist(), said.values.tolist(), strict=True))
    return chosen, [known.get(stamp) for stamp in seen.tolist()]


def _messages(bag: Bag, source: str) -> int:
    return sum(bag.connection(topic).msgcount for topic in _topics(bag, _SOURCES[source]))


def _topics(bag: Bag, said: _Source) -> list[str]:
    return [topic for topic in bag.topics_of(said.kind) if f"/{topic}".endswith(f"/{said.topic}")]
