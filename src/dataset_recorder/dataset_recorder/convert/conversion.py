# SPDX-License-Identifier: Apache-2.0
"""The whole road from bags to a dataset: find the episodes, write those that are not written yet, put the dataset in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from dataset_recorder.convert.bag import Bag, find_bags
from dataset_recorder.convert.errors import BagError, ConversionError
from dataset_recorder.convert.mapping import Mapping
from dataset_recorder.convert.recordings import RecordingEpisode, read_recording
from dataset_recorder.convert.steps import StepEpisode, fps_of, read_step_episodes
from dataset_recorder.convert.writer import DatasetSpec, DatasetWriter
from dataset_recorder.video import VideoError
from hilserl_core.step import Mode
from hilserl_core.task import TaskSpec
from hilserl_ros.images import ImageError


@dataclass(frozen=True)
class Options:
    """root: folder of the dataset. mapping: for bags without `steps`. modes: which episodes of `steps` to take.

    fps, task: None for what the bags say. workers: episodes written at a time, None for as many as there are cores.
    """

    root: Path
    repo_id: str = ""
    mapping: Mapping | None = None
    modes: tuple[Mode, ...] = (Mode.DEMONSTRATION, Mode.TRAINING)
    fps: int | None = None
    task: str | None = None
    robot_type: str = "so101"
    workers: int | None = None


@dataclass(frozen=True)
class Progress:
    """begin(frames, frames already there), bag(path) before a bag is read, frames(count) as they are encoded.

    One call at a time, though frames are encoded in several threads.
    """

    begin: Callable[[int, int], None] = lambda total, done: None
    bag: Callable[[Path], None] = lambda path: None
    frames: Callable[[int], None] = lambda count: None


@dataclass(frozen=True)
class Result:
    """What was written. resumed: episodes that an earlier, interrupted run had finished."""

    root: Path
    episodes: int
    frames: int
    resumed: int
    duplicates: int
    gaps: int
    unfinished: int
    dropped: int
    left_out: int  # messages that cannot be used


def convert(paths: Sequence[Path], options: Options, progress: Progress | None = None) -> Result:
    """Write the episodes of these bags, or of the bags in these folders, as a LeRobot dataset v3.0.

    An interrupted call goes on where it was when it is repeated. Raises ConversionError with a sentence for the user.
    """
    progress = progress or Progress()
    if options.root.exists():
        raise ConversionError(f"{options.root} exists already: choose another --root or remove it")
    episodes, skipped, identities = _read(find_bags(paths), options, progress)
    if not episodes:
        found = ", ".join(f"{value} {key}" for key, value in _totals(skipped).items() if value) or "none at all"
        wanted = ", ".join(mode.name.lower() for mode in options.modes)
        raise ConversionError(f"the bags hold no episode to convert: modes wanted are {wanted}, episodes left out: {found}")
    mapping = options.mapping
    fps = options.fps or (mapping.fps if mapping else fps_of(episodes))
    told = next((item.task for item in episodes if isinstance(item, StepEpisode) and item.task is not None), None)
    task = options.task or (mapping.task if mapping else (told or TaskSpec()).name)
    plan = {"bags": identities, "modes": [int(mode) for mode in options.modes], "mapping": repr(mapping)}
    robot = mapping.robot_type if mapping else options.robot_type
    one_at_a_time = Lock()

    def encoded(count: int) -> None:
        with one_at_a_time:
            progress.frames(count)

    writer = DatasetWriter(DatasetSpec(options.root, fps, task, robot, plan), encoded)
    pending = [index for index in range(len(episodes)) if not writer.is_finished(index)]
    total, left = sum(item.length for item in episodes), sum(episodes[index].length for index in pending)
    progress.begin(total, total - left)
    _write(writer, episodes, pending, options.workers or os.cpu_count() or 1)
    recorded = {"task": told.as_dict()} if told is not None else {}
    writer.finish(len(episodes), {"repo_id": options.repo_id, "fps": fps, **recorded, "left_out": skipped})
    reports = [item.report for item in episodes]
    return Result(
        root=options.root,
        episodes=len(episodes),
        frames=total,
        resumed=len(episodes) - len(pending),
        duplicates=sum(report.get("duplicates", 0) for report in [*reports, *skipped]),
        gaps=sum(len(report.get("gaps", ())) for report in reports),
        unfinished=sum(not report.get("ended", True) for report in reports),
        dropped=sum(report.get("dropped", 0) for report in reports),
        left_out=sum(len(item["left_out"]) for report in reports for item in report.get("features", ())),
    )


def _read(
    bags: Sequence[Path], options: Options, progress: Progress
) -> tuple[list[StepEpisode | RecordingEpisode], list[dict[str, Any]], list[dict[str, Any]]]:
    """Episodes of all bags in their order, what was left out of each, and what tells the bags from others."""
    episodes, skipped, identities, seen = [], [], [], set()
    for path in bags:
        progress.bag(path)
        with Bag(path) as bag:
            identities.append(bag.identity)
            if options.mapping is not None:
                episodes.append(read_recording(bag, options.mapping))
                continue
            found, left_out = read_step_episodes(bag, options.modes, seen)
        episodes += found
        skipped.append(left_out)
        for item in found:
            if item.task_digest != episodes[0].task_digest:
                raise ConversionError(
                    f"{item.bag} was made under task {item.task_digest}, {episodes[0].bag} under {episodes[0].task_digest}: "
                    "convert them into datasets of their own"
                )
    return episodes, skipped, identities


def _write(writer: DatasetWriter, episodes: Sequence, pending: Sequence[int], workers: int) -> None:
    """Write the pending episodes, several at a time; the first error, or Ctrl-C, ends all of them."""

    def write(index: int) -> None:
        episode = episodes[index]
        try:
            with writer.episode(index, episode.length) as target:
                episode.write(target)
        except (ImageError, ConversionError, VideoError) as error:
            raise ConversionError(str(error) if isinstance(error, BagError) else f"{episode.bag}: {error}") from error

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(write, index) for index in pending]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            writer.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _totals(skipped: Sequence[dict[str, Any]]) -> dict[str, int]:
    keys = ("other_mode", "without_action")
    return {key.replace("_", " "): sum(item.get(key, 0) for item in skipped) for key in keys}
