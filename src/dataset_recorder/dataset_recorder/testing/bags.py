# SPDX-License-Identifier: Apache-2.0
"""Made-up bags, written with rosbags' own writer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ament_index_python.packages import get_package_share_directory
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

STEP = "hilserl_interfaces/msg/Step"
TICK_NS = 100_000_000
REWARD, EVENT = "hilserl_interfaces/msg/Reward", "hilserl_interfaces/msg/EpisodeEvent"


@cache
def store() -> Typestore:
    """The standard types, and ours from their .msg text."""
    types = get_typestore(Stores.ROS2_KILTED)
    messages = Path(get_package_share_directory("hilserl_interfaces")) / "msg"
    for name in (STEP, REWARD, EVENT):
        types.register(get_types_from_msg((messages / f"{Path(name).name}.msg").read_text(), name))
    return types


def message(name: str, /, **fields: Any) -> Any:
    """A message of a type such as sensor_msgs/msg/Image."""
    return store().types[name](**fields)


def header(stamp_ns: int, frame: str = "") -> Any:
    """A header."""
    stamp = message("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return message("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image(pixels: np.ndarray, stamp_ns: int, frame: str, encoding: str = "rgb8", padding: int = 0) -> Any:
    """An image message of (height, width, channels) uint8."""
    height, width, channels = pixels.shape
    data = np.pad(pixels.reshape(height, width * channels), ((0, 0), (0, padding))).ravel()
    fields = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0, "step": width * channels + padding}
    return message("sensor_msgs/msg/Image", header=header(stamp_ns, frame), **fields, data=data)


def pictures(count: int, height: int, width: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames like a camera's: a shaded table with a little noise, and a red square that moves. (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    table = np.stack([80 + y * 90 // height, 90 + x * 80 // width, 100 + (x + y) * 60 // (height + width)], -1)
    noise = [random.normal(0, 2, table.shape) for _ in range(4)]
    side = height // 6
    for index in range(count):
        frame = (table + noise[index % 4]).clip(0, 255).astype(np.uint8)
        top, left = int(height * (0.4 + 0.3 * np.sin(index / 9))), int(width * (0.4 + 0.3 * np.cos(index / 11)))
        frame[top : top + side, left : left + side] = (210, 40, 35)
        yield frame


def episode(
    actions: int,
    episode: int = 0,
    first: int = 1,
    mode: int = 0,
    side: tuple[int, int] = (64, 64),
    ended: bool = True,
    **more: Any,
) -> list[Any]:
    """Step messages of an episode: `actions` steps with one, and the last without. first: sequence of the first step."""
    random = np.random.default_rng(1000 * first + episode)
    views = {name: pictures(actions + 1, *side, seed=seed) for seed, name in enumerate(more.get("cameras", ("wrist", "front")))}
    steps = []
    for index in range(actions + 1):
        last = index == actions
        stamp = 10**9 * 1_700_000_000 + (first + index) * TICK_NS
        fields = {
            "header": header(stamp),
            "run_id": more.get("run_id", "run"),
            "task_digest": more.get("task_digest", "0123456789abcdef"),
            "sequence": first + index,
            "episode": episode,
            "index": index,
            "mode": mode,
            "is_first": index == 0,
            "is_last": last,
            "is_terminal": last and more.get("terminal", True),
            "state": random.normal(size=18).astype(np.float32),
            "images": [image(next(frames), stamp, name) for name, frames in views.items()],
            "action": np.empty(0, np.float32) if last else random.uniform(-1, 1, 4).astype(np.float32),
            "reward": float(index == actions - 1),
            "has_reward": not last,
            "intervention": index % 3 == 0,
            "success": index >= actions - 1,
            "policy_version": 7,
        }
        steps.append(message(STEP, **fields))
    return steps if ended else steps[:-1]


def write_steps(path: Path, steps: Iterable[Any], custom: dict[str, str] | None = None) -> Path:
    """A bag with these steps on /steps in the order given."""
    return write_bag(
        path, (("/steps", STEP, 10**9 * 1_700_000_000 + n * TICK_NS, step) for n, step in enumerate(steps)), custom
    )


def write_bag(
    path: Path, messages: Iterable[tuple[str, str, int, Any]], custom: dict[str, str] | None = None, plugin: str = "mcap"
) -> Path:
    """A bag of (topic, type, time received [ns], message)."""
    with Writer(path, version=9, storage_plugin=StoragePlugin[plugin.upper()]) as writer:
        for key, value in (custom or {}).items():
            writer.set_custom_data(key, value)
        connections: dict[str, Any] = {}
        for topic, kind, received, value in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store())
            writer.write(connections[topic], received, store().serialize_cdr(value, kind))
    return path
