# SPDX-License-Identifier: Apache-2.0
"""Episodes from the plain topics of a bag recorded by anyone, by a mapping: one bag is one episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dataset_recorder.convert.align import Alignment, Track, align
from dataset_recorder.convert.bag import Bag
from dataset_recorder.convert.errors import BagError, ConversionError, MappingError
from dataset_recorder.convert.images import IMAGE_TYPES, rgb_of
from dataset_recorder.convert.mapping import Mapping, Source
from dataset_recorder.convert.writer import IMAGES, EpisodeWriter
from hilserl_ros.images import ImageError

_BOOL = ("next.success",)
_STRAY_NS = 60_000_000_000
"""Longest time [ns] that a message may be on its way; a stamp farther off is wrong."""
_FEW = 3  # a topic with fewer messages may have been published once, long before


@dataclass
class _Messages:
    """The usable messages of one source, as far as the conversion needs them.

    numbers: index of each message in its topic, from 0. received_ns, stamps_ns: of each message; values: of each, where the
    topic is no image. left_out: a sentence for each message that cannot be used; `gap` decides what becomes of the hole.
    """

    source: Source
    feature: str
    numbers: list[int] = field(default_factory=list)
    received_ns: list[int] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    shape: tuple[int, ...] = ()

    def add(self, number: int, received_ns: int, message: Any) -> None:
        """Keep what is needed of a message. Raises MappingError where the source does not fit it."""
        stamp_ns = received_ns if self.source.by_receipt else _stamp(message, self)
        values = None if self.is_image else _values(message, self)
        try:
            shape = rgb_of(message).shape if values is None else values.shape
        except ImageError as error:
            self.leave_out(number, received_ns, f"is no image: {error}")
            return
        if not stamp_ns:
            self.leave_out(number, received_ns, "has no stamp, its source needs `stamp: receipt`")
        elif values is not None and not np.isfinite(values).all():
            self.leave_out(number, received_ns, f"is not finite: {values.tolist()}")
        else:
            self._check_shape(shape, number, received_ns)
            self.numbers.append(number)
            self.received_ns.append(received_ns)
            self.stamps_ns.append(stamp_ns)
            self.values += [values] if values is not None else []

    def leave_out(self, number: int, received_ns: int, why: str) -> None:
        """Treat a message as if it had not come."""
        self.left_out.append(f"message {number} of {self.source.topic}, received at {received_ns / 1e9:.3f} s, {why}")

    def leave_out_strays(self) -> None:
        """Leave out messages whose stamps are of another clock than those of most."""
        if not self.numbers:
            return
        offsets = self.offsets_ns
        stray = np.abs(offsets - np.median(offsets)) > _limit_ns(self.received_ns)
        for row in np.flatnonzero(stray)[::-1].tolist():
            why = f"is stamped {(offsets[row] - np.median(offsets)) / 1e9:+.0f} s from where the others are"
            self.leave_out(self.numbers[row], self.received_ns[row], why)
            for kept in (self.numbers, self.received_ns, self.stamps_ns, self.values):
                del kept[row : row + 1]

    @property
    def offsets_ns(self) -> np.ndarray:
        """Stamp minus time of receipt, (N,) int64 [ns]."""
        return np.array(self.stamps_ns, np.int64) - np.array(self.received_ns, np.int64)

    def _check_shape(self, shape: tuple[int, ...], number: int, received_ns: int) -> None:
        self.shape = self.shape or shape
        if shape == self.shape:
            return
        what, cure = ("values", "name its joints in the mapping")
        found = (self.shape[0], shape[0])
        if self.is_image:
            what, cure = "pixels", "convert the bag's parts with one size each"
            found = tuple(f"{width} x {height}" for height, width, _ in (self.shape, shape))
        raise MappingError(
            f"{self.feature}: {self.source.topic} has {found[0]} {what}, then {found[1]} from message {number} on, received at "
            f"{received_ns / 1e9:.3f} s; {cure}"
        )

    @property
    def is_image(self) -> bool:
        return self.feature.startswith(IMAGES)


@dataclass(frozen=True)
class RecordingEpisode:
    """A bag, aligned."""

    bag: Path
    messages: list[_Messages]
    alignment: Alignment
    report: dict[str, Any]

    @property
    def length(self) -> int:
        """Rows of the dataset."""
        return len(self.alignment.ticks_ns)

    def write(self, writer: EpisodeWriter) -> None:
        """Read the images again and hand everything over."""
        self._write_images(writer)
        columns: dict[str, np.ndarray] = {}
        names: dict[str, list[str]] = {}
        for feature in dict.fromkeys(item.feature for item in self.messages):
            parts = [index for index, item in enumerate(self.messages) if item.feature == feature]
            ages = np.max([self.alignment.ages_s[index] for index in parts], axis=0)
            columns[f"age_s.{feature}"] = ages.astype(np.float32)
            if self.messages[parts[0]].is_image:
                continue
            taken = [np.stack(self.messages[index].values)[self.alignment.picks[index]] for index in parts]
            joined = np.concatenate(taken, axis=1)
            single = feature.startswith("next.")
            if single and joined.shape[1] != 1:
                raise MappingError(f"{feature} has {joined.shape[1]} values, expected one")
            kind = bool if feature in _BOOL else np.float32
            columns[feature] = (joined[:, 0] if single else joined).astype(kind)
            joints = [name for index in parts for name in self.messages[index].source.joints]
            if len(joints) == joined.shape[1]:
                names[feature] = joints
        columns["next.done"] = np.arange(self.length) == self.length - 1
        columns["stamp_ns"] = self.alignment.ticks_ns
        writer.rows(columns, names, self.report)

    def _write_images(self, writer: EpisodeWriter) -> None:
        """Decode each message that some row needs, once; a held one is encoded again for each of its rows."""
        uses = {index: _runs(self.alignment.picks[index]) for index, item in enumerate(self.messages) if item.is_image}
        if not uses:
            return
        wanted = {index: {self.messages[index].numbers[pick]: pick for pick, _ in runs} for index, runs in uses.items()}
        position, seen = dict.fromkeys(uses, 0), dict.fromkeys(uses, 0)
        early: dict[int, dict[int, np.ndarray]] = {index: {} for index in uses}
        with Bag(self.bag) as bag:
            for topic, _, decode in bag.messages({self.messages[index].source.topic for index in uses}):
                image = None
                for index, runs in uses.items():
                    if self.messages[index].source.topic != topic:
                        continue
                    number = seen[index]
                    seen[index] += 1
                    pick = wanted[index].get(number)
                    if pick is None:
                        continue
                    image = rgb_of(decode()) if image is None else image
                    early[index][pick] = image
                    while position[index] < len(runs) and runs[position[index]][0] in early[index]:
                        pick, count = runs[position[index]]
                        for _ in range(count):
                            writer.image(self.messages[index].feature.removeprefix(IMAGES), early[index][pick])
                        del early[index][pick]
                        position[index] += 1


def read_recording(bag: Bag, mapping: Mapping) -> RecordingEpisode:
    """Read the stamps and values of every source and align them.

    Raises MappingError where a topic or field is not there, ConversionError where they cannot be aligned.
    """
    sources = [(feature, source) for feature, parts in mapping.features.items() for source in parts]
    messages = [_Messages(source, feature) for feature, source in sources]
    for item in messages:
        kind = bag.topics.get(item.source.topic)
        if kind is None:
            raise MappingError(
                f"{bag.path} has no topic {item.source.topic} (for {item.feature}), it has: {', '.join(sorted(bag.topics))}"
            )
        if item.is_image != (kind in IMAGE_TYPES):
            raise MappingError(f"{item.feature} cannot come from {item.source.topic}, which is a {kind}")
    _read_messages(bag, messages)
    tracks = [
        Track(
            f"{item.feature} ({item.source.topic})",
            np.array(item.stamps_ns, np.int64),
            item.source.tolerance_s,
            item.source.gap,
        )
        for item in messages
    ]
    try:
        alignment = align(tracks, mapping.fps)
    except ConversionError as error:
        left_out = [sentence for item in messages for sentence in item.left_out]
        beside = f"; left out: {left_out[0]}" + (f", and {len(left_out) - 1} more" if left_out[1:] else "") if left_out else ""
        raise ConversionError(f"{bag.path}: {error}{beside}") from error
    return RecordingEpisode(bag.path, messages, alignment, _report(bag, messages, alignment))


def _read_messages(bag: Bag, messages: Sequence[_Messages]) -> None:
    """Read what is kept of all messages. Raises MappingError, BagError; ConversionError for a source without one of use."""
    seen: Counter[str] = Counter()
    for topic, received, decode in bag.messages({item.source.topic for item in messages}):
        mine = [item for item in messages if item.source.topic == topic]
        try:
            message = decode()
        except BagError as error:
            for item in mine:
                item.leave_out(seen[topic], received, f"cannot be decoded: {error}")
        else:
            for item in mine:
                item.add(seen[topic], received, message)
        seen[topic] += 1
    for item in messages:
        item.leave_out_strays()
        if item.left_out and not item.numbers:
            raise ConversionError(f"{bag.path}: {item.feature}: {item.left_out[0]}; no message of the topic can be used")
    _check_clocks(messages)


def _report(bag: Bag, messages: Sequence[_Messages], alignment: Alignment) -> dict[str, Any]:
    features = []
    for index, item in enumerate(messages):
        ages, stamps = alignment.ages_s[index], np.array(item.stamps_ns, np.int64)
        features.append(
            {
                "feature": item.feature,
                "topic": item.source.topic,
                "messages": len(stamps),
                "left_out": item.left_out,
                "unused": len(stamps) - len(set(alignment.picks[index].tolist())),
                "out_of_order": int((np.diff(stamps) < 0).sum()),
                "age_s": {"mean": float(ages.mean()), "max": float(ages.max())},
                "gap": item.source.gap.value,
                "held": alignment.held[index],
                "dropped": alignment.dropped[index],
                "ends_early_s": float((max(max(other.stamps_ns) for other in messages) - stamps.max()) / 1e9),
            }
        )
    return {
        "bag": str(bag.path),
        "source": "mapping",
        "ticks": alignment.grid,
        "dropped": alignment.grid - len(alignment.ticks_ns),
        "features": features,
    }


def _check_clocks(messages: Sequence[_Messages]) -> None:
    """Raise MappingError where one source's stamps are of another clock than the others'."""
    middles = [(item, int(np.median(item.offsets_ns)) / 1e9) for item in messages if len(item.numbers) >= _FEW]
    for item, middle in middles:
        first, expected = min(middles, key=lambda other: abs(other[1]))
        if abs(middle - expected) * 1e9 > _limit_ns(item.received_ns):
            raise MappingError(
                f"{item.feature}: {item.source.topic} is stamped {middle - expected:+.0f} s from {first.source.topic}, by "
                "another clock; its source needs `stamp: receipt`"
            )


def _limit_ns(received_ns: Sequence[int]) -> int:
    """Largest distance [ns] of a stamp from most others; a simulation's clock may be faster than the recorder's."""
    return max(_STRAY_NS, 10 * (max(received_ns) - min(received_ns)))


def _stamp(message: Any, item: _Messages) -> int:
    header = getattr(message, "header", None)
    if header is None:
        raise MappingError(f"{item.feature}: {item.source.topic} has no header, its source needs `stamp: receipt`")
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def _values(message: Any, item: _Messages) -> np.ndarray:
    """The values selected from a message, (D,) float64, in the unit wanted."""
    source, value = item.source, message
    for part in source.field.split("."):
        try:
            value = value[int(part)] if part.isdigit() else getattr(value, part)
        except (AttributeError, IndexError, TypeError) as error:
            names = getattr(value, "__dataclass_fields__", {})
            found = ", ".join(name for name in names if not name.startswith("__")) or f"{len(value)} values"
            raise MappingError(
                f"{item.feature}: {source.topic} has no field {source.field!r}, at {part!r} there are: {found}"
            ) from error
    try:
        values = np.atleast_1d(np.asarray(value, np.float64))
    except (TypeError, ValueError) as error:
        raise MappingError(f"{item.feature}: {source.field!r} of {source.topic} is not numbers") from error
    if source.joints:
        names = list(getattr(message, "name", None) or getattr(message, "joint_names", None) or [])
        missing = [joint for joint in source.joints if joint not in names]
        if missing or len(names) != len(values):
            raise MappingError(
                f"{item.feature}: {source.topic} has {len(values)} values of the joints {names}"
                + (f", {missing[0]!r} is not among them" if missing else "")
            )
        values = values[[names.index(joint) for joint in source.joints]]
    if not len(values):
        raise MappingError(f"{item.feature}: {source.field!r} of {source.topic} is empty")
    return source.unit(values) if source.unit else values


def _runs(picks: np.ndarray) -> list[tuple[int, int]]:
    """Equal neighbours of (K,) indices as (index, how many); an index comes once, as picks follow time."""
    starts = np.flatnonzero(np.diff(picks, prepend=-1))
    return [(int(picks[start]), int(count)) for start, count in zip(starts, np.diff([*starts, len(picks)]), strict=True)]
