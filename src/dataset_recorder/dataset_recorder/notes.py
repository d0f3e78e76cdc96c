# SPDX-License-Identifier: Apache-2.0
"""Notes about an episode in its bag's metadata."""

from __future__ import annotations

import importlib.metadata
import json

from dataset_recorder.episodes import Episode
from hilserl_core.task import TaskSpec

_VERSIONS = ("lerobot", "mujoco", "numpy", "rosbags", "torch")


def notes_of(task: TaskSpec, episode: Episode) -> dict[str, str]:
    """The task, the episode and the versions of what made it, for `custom_data` in metadata.yaml."""
    versions = {}
    for name in _VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "task": json.dumps(task.as_dict(), sort_keys=True),
        "task_digest": task.digest(),
        "run_id": episode.run,
        "episode": str(episode.number),
        "versions": json.dumps(versions, sort_keys=True),
    }
