# SPDX-License-Identifier: Apache-2.0
"""The problem both sides are measured on: a task of two 128x128 cameras, and made-up steps in the shape of real ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hilserl_core.step import Mode, Step
from hilserl_core.task import TaskSpec

BATCH = 256
UTD = 2
EPISODE_TICKS = 100  # 10 s at 10 Hz, where an episode times out

TASK = TaskSpec(
    cameras=("wrist", "front"),
    camera_sizes=(128, 128, 128, 128),
    crops=(0, 0, 128, 128, 0, 0, 128, 128),
    rotations_deg=(0, 0),
)
DEMO_TASK = TaskSpec(cameras=("wrist",), camera_sizes=(128, 128), crops=(0, 0, 128, 128), rotations_deg=(0,))
DEMO_BATCH = 128


def steps(count: int, seed: int = 0, task: TaskSpec = TASK, episode_ticks: int = EPISODE_TICKS) -> Iterator[Step]:
    """`count` actions in episodes of `episode_ticks`, each with its final observation, so a little more than `count` steps.

    Images are noise over a gradient: neither the networks nor the stores look at what they show. Every second episode ends in
    success, the others time out.
    """
    rng = np.random.default_rng(seed)
    size = task.image_size
    gradient = np.linspace(0, 200, size, dtype=np.float32)[:, None, None]
    sequence = actions = episode = 0
    while actions < count:
        length = min(episode_ticks, count - actions)
        success = episode % 2 == 1
        for index in range(length + 1):
            sequence += 1
            last = index == length
            images = {camera: (gradient + rng.integers(0, 56, (size, size, 3))).astype(np.uint8) for camera in task.cameras}
            yield Step(
                run_id="bench",
                sequence=sequence,
                episode=episode,
                index=index,
                mode=Mode.TRAINING,
                stamp_ns=int(1e9 * sequence * task.tick_s),
                is_first=index == 0,
                is_last=last,
                is_terminal=last and success,
                state=rng.uniform(-1.0, 1.0, task.state_size).astype(np.float32),
                images=images,
                action=None if last else rng.uniform(-1.0, 1.0, task.action_size).astype(np.float32),
                reward=None if last else float(success and index == length - 1),
                intervention=False,
                success=success and index >= length - 1,
                policy_version=1,
            )
        actions += length
        episode += 1
