# SPDX-License-Identifier: Apache-2.0
"""Which benchmark makes which rows: a benchmark is a module here with `run(options)`, which yields rows as it measures them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """quick: fewer rounds and smaller stores, for a first look; figures of a quick run are not for reports.

    scratch: an empty folder for files, deleted afterwards. only: the beginning of the names of the rows wanted.
    """

    quick: bool
    scratch: Path
    only: str = ""

    def wanted(self, row: str) -> bool:
        """Whether this row was asked for."""
        return row.startswith(self.only)


# module -> the rows it makes, in the table's order
GROUPS: dict[str, tuple[str, ...]] = {
    "replay": ("replay_bytes_per_step", "replay_bytes_per_step_optimize_memory", "replay_sample"),
    "update": (
        "update_frozen_features",
        "update_frozen_pixels",
        "update_trainable",
        "update_frozen_features_demo_dims",
    ),
    "messages": ("policy_message_bytes", "policy_message_bytes_resnet10", "episode_bytes"),
    "graph": ("policy_to_action", "step_to_learner", "tick", "tick_jitter_10hz", "tick_jitter_30hz"),
    "recorder": ("recorder_kept", "recorder_cpu", "recorder_frame"),
    "bus": ("bus_cycle", "bus_cycle_cpu"),
    "driver": ("driver_jitter", "driver_rate", "driver_cpu"),
    "camera": ("camera_cpu", "camera_latency"),
    "convert": ("convert_128", "convert_640"),
    "classifier_latency": (
        "classifier_latency",
        "classifier_answered",
        "classifier_latency_two_cameras",
        "classifier_latency_resnet10",
    ),
    "classifier_training": ("classifier_training", "classifier_training_update"),
    "memory": ("learner_memory_features", "learner_memory_pixels"),
}


def rows_of(only: str | None) -> dict[str, tuple[str, ...]]:
    """Group -> its rows that were asked for: those of the group called `only`, or whose name starts with it; all for None.

    Raises ValueError for a name that nothing has.
    """
    if only is None:
        return GROUPS
    if only in GROUPS:
        return {only: GROUPS[only]}
    chosen = {group: tuple(name for name in names if name.startswith(only)) for group, names in GROUPS.items()}
    chosen = {group: names for group, names in chosen.items() if names}
    if not chosen:
        rows = ", ".join(name for names in GROUPS.values() for name in names)
        raise ValueError(f"no benchmark is called '{only}'; groups: {', '.join(GROUPS)}; rows: {rows}")
    return chosen
