# SPDX-License-Identifier: Apache-2.0
"""A small dataset that LeRobot itself recorded; tests import `bag_fixtures` and `recorder_station` by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dataset_recorder.testing.datasets import priority_kept

sys.path.insert(0, str(Path(__file__).parent))

LENGTHS = (12, 9, 15)
CAMERAS = ("observation.images.wrist", "observation.images.front")


def picture(episode: int, frame: int, camera: int) -> np.ndarray:
    """What a camera sees: four plain quarters whose colours say episode, frame and camera. (64, 64, 3) uint8."""
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:32, :32] = (40 + 60 * episode, 30, 30)
    image[:32, 32:] = (30, 15 * frame + 20, 30)
    image[32:, :32] = (30, 30, 60 + 120 * camera)
    image[32:, 32:] = 220
    return image


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """Three episodes from two cameras; tests must not change it."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root = tmp_path_factory.mktemp("recorded") / "dataset"
    camera = {"dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
    features = {
        **dict.fromkeys(CAMERAS, camera),
        "observation.state": {"dtype": "float32", "shape": (5,), "names": None},
        "action": {"dtype": "float32", "shape": (4,), "names": ["delta_x", "delta_y", "delta_z", "gripper"]},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("test/recorded", 10, features, root=root)
    random = np.random.default_rng(0)
    for episode, length in enumerate(LENGTHS):
        for frame in range(length):
            dataset.add_frame({
                **{name: picture(episode, frame, number) for number, name in enumerate(CAMERAS)},
                "observation.state": np.array([episode, frame, *random.normal(size=3)], dtype=np.float32),
                "action": random.uniform(-1, 1, 4).astype(np.float32),
                "next.done": np.array([frame == length - 1]),
                "next.success": np.array([False]),
                "task": ("grasp the red cube", "reach")[episode % 2],
            })  # fmt: skip
        with priority_kept():
            dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


@pytest.fixture
def start(tmp_path) -> Iterator[Callable]:
    """Starts a recorder with parameters; gives the station and the process."""
    from recorder_station import Station

    station = Station(tmp_path / "bags")
    yield station.begin
    station.close()
