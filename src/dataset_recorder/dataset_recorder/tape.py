# SPDX-License-Identifier: Apache-2.0
"""What of a bag is played, and in which order: serialised messages by the stamps they carry."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from rosbags.interfaces import QosDurability

from dataset_recorder.convert.bag import Bag
from dataset_recorder.convert.errors import BagError

# What the nodes that are tried say themselves, and the time, which the player tells.
ANSWERS = frozenset({"clock", "diagnostics", "reward", "reward/image", "parameter_events", "rosout"})
# What somebody acts upon: an arm, the actor, a learner.
COMMANDS = frozenset({
    "joint_command", "teleop", "leader/joint_states", "steps", "steps/ack", "episode/event", "policy", "policy/frozen"
})  # fmt: skip
_STEP = "hilserl_interfaces/msg/Step"
_APART_NS = 1_000_000_000
"""Stamps of messages that were recorded together lie no further apart, where one clock made them."""


@dataclass
class Moment:
    """All that carries one stamp. observed: names of topics, and messages; latched: those that follow from these."""

    stamp_ns: int
    observed: list[tuple[str, bytes]] = field(default_factory=list)
    latched: list[tuple[str, bytes]] = field(default_factory=list)


class Tape:
    """A bag that is played.

    topics: those played, name in the bag -> name without the namespace it was recorded in. frames: stamps [ns] of the first
    camera's images that belong to the episode whose steps the bag holds, of all of them where it holds none. The recorder also
    keeps what comes just before and after an episode; that is played but not counted.
    """

    def __init__(self, path: Path, cameras: Sequence[str], fps: float, asked: Sequence[str] = ()) -> None:
        """asked: topics to play, without namespace; empty for all but commands. Raises BagError."""
        self.bag, self.path = Bag(path), path
        images = [self._images_of(camera) for camera in cameras]
        self.first, self.prefix = images[0], images[0].removesuffix(f"{cameras[0]}/image_raw")
        names = {topic: topic.removeprefix(self.prefix).removeprefix("/") for topic in self.bag.topics}
        if unknown := sorted(set(asked) - set(names.values())):
            raise BagError(f"{self.path} has no topic {unknown[0]}; it has {', '.join(sorted(names.values()))}")
        chosen = (set(asked) or set(names.values()) - COMMANDS) - ANSWERS
        self.topics = {topic: name for topic, name in names.items() if name in chosen}
        self._latched = {topic for topic in self.topics if self.latched(topic)}
        self.frames = self._frames(round(1e9 / fps))

    def latched(self, topic: str) -> bool:
        """Whether its publisher kept the newest message for those that came late."""
        profiles = self.bag.connection(topic).ext.offered_qos_profiles
        return bool(profiles) and all(profile.durability is QosDurability.TRANSIENT_LOCAL for profile in profiles)

    def moments(self) -> Iterator[Moment]:
        """In the order of stamps, which topics do not keep among one another on their way to the recorder.

        A message without a stamp, or with one that lies behind those around it, goes with the images that were recorded last.
        """
        for stamp_ns, group in groupby(self._sorted(), key=lambda item: item[0]):
            moment = Moment(stamp_ns)
            for _, latched, _, topic, data in group:
                (moment.latched if latched else moment.observed).append((self.topics[topic], data))
            yield moment

    def _sorted(self) -> Iterator[tuple[int, bool, int, str, bytes]]:
        """(stamp, latched, place in the bag, topic, message)."""
        waiting: list[tuple[int, bool, int, str, bytes]] = []
        newest = self._first_stamp
        for place, (topic, stamp_ns, data) in enumerate(self.bag.serialised({*self.topics, self.first})):
            if topic == self.first:
                if stamp_ns < newest - _APART_NS:  # time begins anew
                    yield from sorted(waiting)
                    waiting = []
                newest = stamp_ns
            elif stamp_ns is None or stamp_ns > newest + _APART_NS:
                stamp_ns = newest
            else:
                stamp_ns = max(stamp_ns, newest - _APART_NS)
            if topic in self.topics:
                heapq.heappush(waiting, (stamp_ns, topic in self._latched, place, topic, data))
            while waiting and waiting[0][0] < newest - _APART_NS:
                yield heapq.heappop(waiting)
        yield from sorted(waiting)

    def _frames(self, tick_ns: int) -> list[int]:
        """Also finds out where time begins."""
        steps = self.bag.topics_of(_STEP)
        images: dict[int, None] = {}
        taken: list[int] = []
        for topic, stamp_ns, _ in self.bag.serialised({self.first, *steps}):
            if topic != self.first:
                taken.append(stamp_ns)
            elif stamp_ns == 0:
                raise BagError(f"{self.path}: images of {topic} have no stamps, so no reward can be told to be about one")
            else:
                images[stamp_ns] = None
        if not images:
            raise BagError(f"{self.path} has no message on {self.first}")
        self._first_stamp = next(iter(images))
        if not taken:
            return list(images)
        first, last = min(taken) - tick_ns // 2, max(taken) + tick_ns // 2
        return [stamp_ns for stamp_ns in images if first <= stamp_ns <= last] or list(images)

    def _images_of(self, camera: str) -> str:
        found = [topic for topic in self.bag.topics_of("sensor_msgs/msg/Image") if topic.endswith(f"/{camera}/image_raw")]
        if len(found) != 1:
            there = ", ".join(sorted(self.bag.topics)) or "nothing"
            raise BagError(f"{self.path} has {len(found)} topics {camera}/image_raw with images, expected one; it has {there}")
        return found[0]
