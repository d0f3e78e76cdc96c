# SPDX-License-Identifier: Apache-2.0
"""Episodes from the plain topics of a bag recorded by anyone, by a mapping: one bag is one episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_recorder.convert.align import Alignment, Track, align
from dataset_recorder.convert.bag import Bag
from dataset_recorder.convert.errors import ConversionError, MappingError
from dataset_recorder.convert.images import IMAGE_TYPES, rgb_of
from dataset_recorder.convert.mapping import Mapping, Source
from dataset_recorder.convert.writer import IMAGES, EpisodeWriter

_BOOL = ("next.success",)


@dataclass
class _Messages:
    """What is kept of a source's messages: received_ns and stamps_ns of each, and the values where it is no image."""

    source: Source
    feature: str
    received_ns: list[int]
    stamps_ns: list[int]
    values: list[np.ndarray]

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
        wanted = {index: {pick for pick, _ in runs} for index, runs in uses.items()}
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
                    if number not in wanted[index]:
                        continue
                    image = rgb_of(decode()) if image is None else image
                    early[index][number] = image
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
    messages = [_Messages(source, feature, [], [], []) for feature, source in sources]
    for item in messages:
        kind = bag.topics.get(item.source.topic)
        if kind is None:
            raise MappingError(
                f"{bag.path} has no topic {item.source.topic} (for {item.feature}), it has: {', '.join(sorted(bag.topics))}"
            )
        if item.is_image != (kind in IMAGE_TYPES):
            raise MappingError(f"{item.feature} cannot come from {item.source.topic}, which is a {kind}")
    for topic, received, decode in bag.messages({item.source.topic for item in messages}):
        message = decode()
        for item in messages:
            if item.source.topic == topic:
                item.received_ns.append(received)
                item.stamps_ns.append(received if item.source.by_receipt else _stamp(message, item))
                if not item.is_image:
                    item.values.append(_values(message, item))
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
        raise ConversionError(f"{bag.path}: {error}") from error
    return RecordingEpisode(bag.path, messages, alignment, _report(bag, messages, alignment))


def _report(bag: Bag, messages: Sequence[_Messages], alignment: Alignment) -> dict[str, Any]:
    features = []
    for index, item in enumerate(messages):
        ages, stamps = alignment.ages_s[index], np.array(item.stamps_ns, np.int64)
        features.append(
            {
                "feature": item.feature,
                "topic": item.source.topic,
                "messages": len(stamps),
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


def _stamp(message: Any, item: _Messages) -> int:
    header = getattr(message, "header", None)
    if header is None:
        raise MappingError(f"{item.feature}: {item.source.topic} has no header, its source needs `stamp: receipt`")
    stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
    if stamp == 0:
        raise MappingError(f"{item.feature}: a message of {item.source.topic} has no stamp, its source needs `stamp: receipt`")
    return stamp


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
