# SPDX-License-Identifier: Apache-2.0
"""How rewards compare with labels, frame by frame."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_recorder.convert.files import whole

COLUMNS = ("bag", "stamp_ns", "probability", "success", "label", "source")


@dataclass(frozen=True)
class Frame:
    """What was judged of a frame and what its label says; None where nothing was. source: of the label, "" without."""

    stamp_ns: int
    probability: float | None = None
    success: bool | None = None
    label: bool | None = None
    source: str = ""


@dataclass(frozen=True)
class Comparison:
    """Counts of frames. Compared are those that were judged and have a label.

    delay: by how many frames the first success was judged later than the first label says, negative for earlier; None unless
    there are both.
    """

    frames: int
    judged: int
    successes: int  # judged
    labelled: int
    label_successes: int
    compared: int
    agreeing: int
    false_successes: int
    missed_successes: int
    delay: int | None
    source: str

    @property
    def text(self) -> str:
        """In one sentence."""
        said = f"{self.judged} of {self.frames} frames judged, {self.successes} of them a success"
        if not self.labelled:
            return f"{said}; there are no labels to compare with"
        delay = f", the first success {self.delay:+d} frames from its label" if self.delay is not None else ""
        return (
            f"{said}; {self.agreeing} of {self.compared} as labelled by {self.source}, {self.false_successes} false and "
            f"{self.missed_successes} missed successes{delay}"
        )


def compare(frames: Sequence[Frame]) -> Comparison:
    """Of one episode, in the order of time."""
    both = [frame for frame in frames if frame.success is not None and frame.label is not None]
    judged, labelled = _first([frame.success for frame in frames]), _first([frame.label for frame in frames])
    return Comparison(
        frames=len(frames),
        judged=sum(frame.success is not None for frame in frames),
        successes=sum(frame.success is True for frame in frames),
        labelled=sum(frame.label is not None for frame in frames),
        label_successes=sum(frame.label is True for frame in frames),
        compared=len(both),
        agreeing=sum(frame.success == frame.label for frame in both),
        false_successes=sum(frame.success and not frame.label for frame in both),
        missed_successes=sum(frame.label and not frame.success for frame in both),
        delay=None if judged is None or labelled is None else judged - labelled,
        source=next((frame.source for frame in frames), ""),
    )


def _first(values: Sequence[bool | None]) -> int | None:
    return next((place for place, value in enumerate(values) if value), None)


def write_frames(path: Path, bags: Mapping[str, Sequence[Frame]]) -> None:
    """A CSV file of each bag's frames, whole or not there; empty where nothing was said. Raises OSError."""
    with whole(path) as part, part.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        for bag, frames in bags.items():
            for frame in frames:
                flags = ["" if value is None else int(value) for value in (frame.success, frame.label)]
                table.writerow(
                    [bag, frame.stamp_ns, "" if frame.probability is None else repr(frame.probability), *flags, frame.source]
                )


def read_frames(path: Path) -> dict[str, list[Frame]]:
    """What `write_frames` wrote."""
    bags: dict[str, list[Frame]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            probability = float(row["probability"]) if row["probability"] else None
            success, label = (bool(int(row[name])) if row[name] else None for name in ("success", "label"))
            frame = Frame(int(row["stamp_ns"]), probability, success, label, row["source"])
            bags.setdefault(row["bag"], []).append(frame)
    return bags
