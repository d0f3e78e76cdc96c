# SPDX-License-Identifier: Apache-2.0
"""Bags to datasets: frames a second of our conversion, from a bag on disk, against LeRobot's writer, from memory."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets import LeRobotDataset

from benchmarks.registry import Options
from benchmarks.rows import Better, Row, Target
from benchmarks.timing import Timed, take_turns
from dataset_recorder.convert import conversion
from dataset_recorder.testing import bags
from dataset_recorder.testing.datasets import priority_kept

_EPISODES = 3
_SIZES = {"convert_128": (128, 128, 100), "convert_640": (480, 640, 50)}  # height, width, frames of an episode


def run(options: Options) -> Iterator[Row]:
    """The rows of this group."""
    for name, (height, width, frames) in _SIZES.items():
        if options.wanted(name):
            yield _row(name, options.scratch / name, height, width, frames // 2 if options.quick else frames, options.quick)


def _row(name: str, scratch: Path, height: int, width: int, frames: int, quick: bool) -> Row:
    episodes = [bags.episode(frames, n, 1 + n * (frames + 1), side=(height, width)) for n in range(_EPISODES)]
    bag = bags.write_steps(scratch / "bag", itertools.chain.from_iterable(episodes))
    rows = [[_frame(step) for step in episode if len(step.action)] for episode in episodes]
    ours, lerobot = scratch / "ours", scratch / "lerobot"
    sides = {
        "ours": Timed(_afresh(ours, lambda: conversion.convert([bag], conversion.Options(ours)))),
        "lerobot": Timed(_afresh(lerobot, lambda: _lerobot(lerobot, rows, height, width))),
    }
    take_turns(sides, rounds=2 if quick else 5)
    total = frames * _EPISODES
    error = {side: _error(folder, rows) for side, folder in (("ours", ours), ("lerobot", lerobot))}
    size = {side: sum(file.stat().st_size for file in (scratch / side).rglob("*.mp4")) for side in sides}
    return Row(
        name=name,
        ours=total / sides["ours"].median_s,
        lerobot=total / sides["lerobot"].median_s,
        unit="frames/s",
        better=Better.HIGHER,
        target=Target("ratio", 8.0),
        note="Ours reads the bag from disk, LeRobot gets decoded frames from memory. Both write rows, videos and statistics, "
        f"with their default encoders: H.264 {size['ours'] / total:,.0f} bytes a frame, mean error {error['ours']:.2f} of 255; "
        f"AV1 {size['lerobot'] / total:,.0f} bytes, {error['lerobot']:.2f}.",
        conditions={
            "cameras": 2,
            "width": width,
            "height": height,
            "episodes": _EPISODES,
            "frames": total,
            "seconds_ours": sides["ours"].spread_s,
            "seconds_lerobot": sides["lerobot"].spread_s,
        },
    )


def _afresh(folder: Path, call: Callable[[], object]) -> Callable[[], None]:
    """The call with its folder removed before."""

    def run() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        call()

    return run


def _frame(step: Any) -> dict[str, Any]:
    pictures = {
        f"observation.images.{image.header.frame_id}": image.data.reshape(image.height, image.width, 3) for image in step.images
    }
    return {
        **pictures,
        "observation.state": step.state,
        "action": step.action,
        "next.reward": np.array([step.reward], np.float32),
        "next.done": np.array([step.success]),
        "task": "grasp",
    }


def _lerobot(folder: Path, episodes: list[list[dict]], height: int, width: int) -> None:
    pictures = {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.images.wrist": pictures,
        "observation.images.front": pictures,
        "observation.state": {"dtype": "float32", "shape": (18,), "names": None},
        "action": {"dtype": "float32", "shape": (4,), "names": None},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("bench/set", fps=10, features=features, root=folder)
    with priority_kept():
        for rows in episodes:
            for row in rows:
                dataset.add_frame(dict(row))
            dataset.save_episode()
        dataset.finalize()


def _error(folder: Path, episodes: list[list[dict]]) -> float:
    """Mean absolute difference of every tenth decoded frame to what was written, of 255. Raises when a frame is missing."""
    dataset = LeRobotDataset("bench/set", root=folder, video_backend="pyav")
    rows = [row for episode in episodes for row in episode]
    if len(dataset) != len(rows):
        raise AssertionError(f"{folder} has {len(dataset)} frames of {len(rows)}")
    key = "observation.images.wrist"
    shown = ((index, dataset[index][key].numpy().transpose(1, 2, 0) * 255) for index in range(0, len(rows), 10))
    return float(np.mean([np.abs(picture - rows[index][key]).mean() for index, picture in shown]))
