# SPDX-License-Identifier: Apache-2.0
"""The parameter tables of recorder and player."""

from __future__ import annotations

from dataclasses import dataclass

from dataset_recorder.said import SOURCES
from hilserl_ros.parameters import parameter


@dataclass(frozen=True)
class RecorderParameters:
    """Parameters of the recorder node."""

    folder: str = parameter("bags", "Folder of all bags; below it <run>/<episode>.")
    topics: tuple[str, ...] = parameter(
        (
            "joint_states", "joint_command", "wrist/image_raw", "wrist/camera_info", "front/image_raw", "front/camera_info",
            "teleop", "steps", "reward", "truth", "episode/status", "episode/event", "episode/result",
            "leader/joint_states", "clock", "tf", "tf_static", "robot_description", "/diagnostics",
        ),
        "Topics to record, those of them that somebody publishes when an episode begins.",
    )  # fmt: skip
    required: tuple[str, ...] = parameter(
        (),
        "Topics of these that steps wait for, beside joint_states and the images of the task's cameras: with the actor's "
        "wait_for_recorder no episode begins before they are there.",
    )
    follow_actor: bool = parameter(
        True, "Cut episodes by episode/status; else by the services start_episode and stop_episode alone."
    )
    autostart: bool = parameter(True, "Configure and activate at once; else whoever manages the lifecycle does.")
    acknowledge: bool = parameter(
        False,
        "Without a learner: acknowledge each step once it is in a bag on disk. The actor sends it again until then.",
    )
    queue_mb: int = parameter(
        256,
        "Messages in MB that may wait for the disk; beyond it they are dropped, counted and said.",
        minimum=1,
        maximum=65536,
    )
    reserve_mb: int = parameter(500, "Free disk space in MB below which no bag is begun.", minimum=0, maximum=10_000_000)


@dataclass(frozen=True)
class PlayerParameters:
    """Parameters of the player node."""

    bags: tuple[str, ...] = parameter((), "Bags to play one after another, or folders that hold some.")
    rate: float = parameter(
        0.0,
        "Pace: 1.0 is that of the recording; 0.0 plays the next frame when the reward of the last has come, so that all are "
        "judged. For that the classifier needs lockstep.",
        minimum=0.0, maximum=100.0,
    )  # fmt: skip
    topics: tuple[str, ...] = parameter(
        (), "Topics to play. Empty: all of the bag, but for what would make an arm, an actor or a learner do something."
    )
    labels: str = parameter(
        "auto",
        "What the rewards are compared with, as in label --from; auto: the first of reward, truth and events in the bag.",
        choices=("auto", *SOURCES),
    )
    output: str = parameter("", "CSV file for probability, success and label of each frame of the episode; empty: none.")
    start_timeout_s: float = parameter(600.0, "How long to wait for a classifier that listens.", minimum=1.0, maximum=3600.0)
