# SPDX-License-Identifier: Apache-2.0
"""A table of labels: from which frame on an episode shows success, and from which on it is only the way back.

The columns are `episode,success_start,env_reset_start,failure_ranges`, frame numbers count from 0. Frames before
`success_start` have reward 0, frames from it on have reward 1, frames inside a failure range (both ends included, several
separated by `;`) have reward 0 again, and frames from `env_reset_start` on do not belong to the episode. An empty
`success_start` is an episode without success, an empty `env_reset_start` one that is kept to its end.

The notes that came with the original table of 15 episodes count 537 positive and 759 negative frames; these rules give 522
and 774, exactly one per episode less. The notes probably count frames from 1. What the rules say is what is built here.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

COLUMNS = ("episode", "success_start", "env_reset_start", "failure_ranges")


class LabelError(ValueError):
    """A table that cannot be read, contradicts itself, or does not fit the dataset."""


@dataclass(frozen=True)
class EpisodeLabels:
    """The labels of one episode, in frames from 0."""

    episode: int
    success_start: int | None = None
    env_reset_start: int | None = None
    failure_ranges: tuple[tuple[int, int], ...] = ()
    line: int = field(default=0, compare=False)  # in the file, for messages

    @classmethod
    def of_frames(cls, episode: int, shown: np.ndarray) -> EpisodeLabels:
        """The labels that say of each frame what `shown`, (n,) bool, says; every frame is kept."""
        if not shown.any():
            return cls(episode)
        start = int(np.argmax(shown))
        bounds = np.flatnonzero(np.diff(shown[start:].astype(np.int8), prepend=1, append=1)) + start  # of the failures
        return cls(episode, start, None, tuple((int(a), int(b) - 1) for a, b in zip(bounds[::2], bounds[1::2], strict=True)))

    def kept(self, length: int) -> np.ndarray:
        """Which of `length` recorded frames stay. Shape (length,), bool."""
        end = length if self.env_reset_start is None else self.env_reset_start
        return np.arange(length) < end

    def rewards(self, length: int) -> np.ndarray:
        """Reward of each frame that stays. Shape (kept,), float32, 0 or 1."""
        frames = np.flatnonzero(self.kept(length))
        positive = np.zeros(len(frames), dtype=bool) if self.success_start is None else frames >= self.success_start
        for first, last in self.failure_ranges:
            positive &= (frames < first) | (frames > last)
        return positive.astype(np.float32)

    def row(self) -> dict[str, str]:
        """As the file spells it."""
        ranges = ";".join(f"{first}-{last}" for first, last in self.failure_ranges)
        numbers = ("" if value is None else str(value) for value in (self.success_start, self.env_reset_start))
        return dict(zip(COLUMNS, (str(self.episode), *numbers, ranges), strict=True))


@dataclass(frozen=True)
class LabelTable:
    """The labels of a dataset, one entry per episode. name: the file they came from, or what else said so, for messages."""

    name: str
    episodes: Mapping[int, EpisodeLabels]

    def check_lengths(self, lengths: Mapping[int, int]) -> None:
        """Raise LabelError when the table does not name exactly the episodes of `lengths`, or frames they do not have."""
        missing, unknown = sorted(set(lengths) - set(self.episodes)), sorted(set(self.episodes) - set(lengths))
        if missing:
            raise LabelError(f"{self.name} has no line for episode {_listed(missing)}: every episode needs one")
        if unknown:
            raise LabelError(f"{self.name} labels episode {_listed(unknown)}, the dataset has episodes 0 to {max(lengths)}")
        for episode, length in lengths.items():
            labels = self.episodes[episode]
            checks = [("success_start", labels.success_start, length - 1)]
            checks += [("env_reset_start", labels.env_reset_start, length)]  # behind the last frame says the same as nothing
            checks += [("failure_ranges", last, length - 1) for _, last in labels.failure_ranges]
            for column, value, limit in checks:
                if value is not None and value > limit:
                    allowed = f"at most {limit}, because episode {episode} has {length} frames"
                    raise _error(self.name, labels.line, column, value, allowed)

    def changed(self, changes: Iterable[str]) -> LabelTable:
        """The table with changes like `3.success_start=70` or `4.env_reset_start=`. Raises LabelError for others."""
        rows = {episode: labels.row() for episode, labels in self.episodes.items()}
        for change in changes:
            match = re.fullmatch(r"(\d+)\.(\w+)=(.*)", change)
            if not match or match[2] not in COLUMNS[1:]:
                raise LabelError(
                    f"cannot read the change {change!r}: write EPISODE.COLUMN=VALUE, COLUMN of {_listed(COLUMNS[1:])}"
                )
            if int(match[1]) not in rows:
                raise LabelError(f"the change {change!r} names an episode that {self.name} does not have")
            rows[int(match[1])][match[2]] = match[3]
        return LabelTable(
            self.name, {episode: _parsed(self.name, self.episodes[episode].line, row) for episode, row in rows.items()}
        )


def read_labels(path: Path) -> LabelTable:
    """Read a table. Raises LabelError with file, line, column, value and what is allowed."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            head = [name.strip() for name in next(reader, [])]
            if tuple(head) != COLUMNS:
                raise LabelError(f"{path}, line 1 is {','.join(head)!r}, expected {','.join(COLUMNS)!r}")
            episodes: dict[int, EpisodeLabels] = {}
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(COLUMNS):
                    raise LabelError(f"{path}, line {reader.line_num} has {len(cells)} columns, expected {len(COLUMNS)}")
                labels = _parsed(path, reader.line_num, dict(zip(COLUMNS, cells, strict=True)))
                if labels.episode in episodes:
                    allowed = f"an episode once; line {episodes[labels.episode].line} has it already"
                    raise _error(path, labels.line, "episode", labels.episode, allowed)
                episodes[labels.episode] = labels
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"cannot read the labels {path}: {getattr(error, 'strerror', None) or error}") from error
    if not episodes:
        raise LabelError(f"{path} labels no episode, expected one line for each")
    return LabelTable(str(path), episodes)


def write_labels(table: LabelTable, path: Path) -> Path:
    """Write the table to `path`, or where there is one already, as its next version `<name>.vN.csv`. Returns the new file.

    Nothing is ever overwritten, and a full disk leaves no part of a file. Raises LabelError.
    """
    folder, name = path.parent, path.name.split(".")[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = [int(m[1]) for file in folder.iterdir() if (m := re.fullmatch(rf"{re.escape(name)}\.v(\d+)\.csv", file.name))]
        for number in itertools.count(max(taken, default=0) + 1):
            try:
                file = path.open("x", newline="")
                break
            except FileExistsError:
                path = folder / f"{name}.v{number}.csv"
        try:
            with file:
                write_rows(table, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise
    except OSError as error:
        raise LabelError(f"cannot write the labels {path}: {error.strerror}") from error
    return path


def write_rows(table: LabelTable, file: TextIO) -> None:
    """Write the table as CSV into an open text file."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.episodes[episode].row() for episode in sorted(table.episodes))


def _parsed(path: Path | str, line: int, row: Mapping[str, str]) -> EpisodeLabels:
    episode = _number(path, line, "episode", row["episode"])
    if episode is None:
        raise _error(path, line, "episode", "", "a number from 0")
    success = _number(path, line, "success_start", row["success_start"])
    reset = _number(path, line, "env_reset_start", row["env_reset_start"])
    if reset == 0:
        raise _error(path, line, "env_reset_start", 0, "a frame from 1, or nothing: an episode keeps at least one frame")
    if success is not None and reset is not None and success >= reset:
        raise _error(path, line, "success_start", success, f"a frame before env_reset_start, which is {reset}")
    ranges = tuple(_range(path, line, part.strip(), reset) for part in row["failure_ranges"].split(";") if part.strip())
    return EpisodeLabels(episode, success, reset, ranges, line)


def _number(path: Path | str, line: int, column: str, text: str) -> int | None:
    text = text.strip()
    if not re.fullmatch(r"[0-9]{0,9}", text):
        raise _error(path, line, column, text, "a frame number from 0" if column != "episode" else "a number from 0")
    return int(text) if text else None


def _range(path: Path | str, line: int, text: str, reset: int | None) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})\s*-\s*([0-9]{1,9})", text)
    if not match or int(match[1]) > int(match[2]):
        raise _error(path, line, "failure_ranges", text, "FIRST-LAST with FIRST at most LAST, several separated by ;")
    if reset is not None and int(match[2]) >= reset:
        raise _error(path, line, "failure_ranges", text, f"frames before env_reset_start, which is {reset}")
    return int(match[1]), int(match[2])


def _error(path: Path | str, line: int, column: str, value: object, allowed: str) -> LabelError:
    where = f"{path}, line {line}" if line else str(path)
    return LabelError(f"{where}, {column} is {str(value)!r}, allowed: {allowed}")


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
