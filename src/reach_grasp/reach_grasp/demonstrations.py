# SPDX-License-Identifier: Apache-2.0
"""Successful episodes of a LeRobot dataset as the demonstrations that a run begins with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilserl_core.step import Mode, Step, StepError, check_step
from hilserl_core.task import ACTION_NAMES, TaskSpec
from reach_grasp.errors import CommandError
from reach_grasp.joint_units import RADIANS, in_radians

if TYPE_CHECKING:
    from dataset_recorder.dataset import Dataset, Episode
    from reward_classifier_node.artifact import Artifact

FOLDER, FACTS = "demonstrations", "imported.json"  # of a run


@dataclass(frozen=True)
class Imported:
    """What a run begins with. failed: episodes left out, since nothing in them is a success. steps: of all episodes."""

    dataset: str
    episodes: int
    failed: int
    steps: int
    classifier: str = ""  # what judged the frames; empty where the dataset's rewards count


def imported(run: Path) -> Imported | None:
    """What was imported into a run's folder, None for nothing. Raises CommandError when that cannot be read."""
    file = run / FOLDER / FACTS
    if not file.is_file():
        return None
    try:
        return Imported(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(f"cannot read {file}: {error}; remove {file.parent} and import again") from None


def import_dataset(
    root: Path,
    run: Path,
    task: TaskSpec,
    artifact: Artifact | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    joint_units: str = RADIANS,
) -> Imported:
    """Write the dataset's successful episodes into `run`/demonstrations, where the learner finds them when it starts.

    A dataset v2.1 is first made v3.0, beside it, by LeRobot's converter.

    An episode ends with its first success: where `next.reward` is above one half for the first time, or with the first frame
    of those that the classifier takes for a success too, debounced as in its node. artifact: that classifier. progress:
    episodes done and in all. joint_units: of `observation.state`, see `in_radians`. Raises CommandError for a dataset that
    does not fit the task, holds no success or cannot be read, and when the run has begun already.
    """
    from dataset_recorder.dataset import DatasetError, open_dataset
    from dataset_recorder.upgrade import upgrade
    from dataset_recorder.video import VideoError
    from hilserl_core.step_log import StepLog, StepLogError
    from reward_classifier_node.errors import ClassifierError

    begun = [*run.glob("journal/*.steps"), *run.glob("checkpoints/*")]
    if begun:
        raise CommandError(f"{run} is a run that has begun ({begun[0]} is there): name the folder of a new run")
    target, partial = run / FOLDER, run / f".{FOLDER}.partial"
    try:
        dataset = open_dataset(upgrade(root))
        _check(dataset, task)
        shutil.rmtree(partial, ignore_errors=True)
        used, steps = 0, 0
        with closing(StepLog(partial)) as log:
            for number, episode in enumerate(dataset.episodes):
                rows = list(_steps(dataset, episode, used, steps, task, artifact, joint_units))
                for step in rows:
                    log.append(step.sequence, _payload(step, task))
                used, steps = used + bool(rows), steps + len(rows)
                progress(number + 1, len(dataset.episodes))
        if not used:
            judge = "the classifier sees none in its frames" if artifact else "label it first (reach-grasp label)"
            raise CommandError(f"no episode of {root} holds a success: {judge}")
        judged = artifact.identity if artifact else ""
        facts = Imported(str(dataset.root.resolve()), used, len(dataset.episodes) - used, steps, judged)
        with (partial / FACTS).open("w") as file:
            file.write(json.dumps(vars(facts), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except (DatasetError, VideoError, StepError, ClassifierError, StepLogError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename or run}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            run.rmdir()  # when there is nothing in it
    return facts


def _payload(step: Step, task: TaskSpec) -> bytes:
    from rclpy.serialization import serialize_message

    from hilserl_ros.convert import step_to_message

    return serialize_message(step_to_message(step, task))


def _check(dataset: Dataset, task: TaskSpec) -> None:
    """Raise CommandError unless rows and images are what the task's policy sees and does."""
    wanted = {"observation.state": [task.state_size], "action": [len(ACTION_NAMES)]}
    for key, shape in wanted.items():
        feature = dataset.features.get(key)
        found = "is missing" if feature is None else f"has shape {list(feature['shape'])}"
        if feature is None or list(feature["shape"]) != shape:
            raise CommandError(
                f"{key} of {dataset.root} {found}, expected {shape} for the task {task.name} ({_meaning(key, task)}): "
                "make it with reach-grasp record and convert"
            )
    missing = [key for key in task.image_keys if key not in dataset.cameras]
    if missing:
        raise CommandError(f"{dataset.root} has no images {missing[0]}, it has {', '.join(dataset.cameras) or 'none'}")
    if dataset.fps != round(task.fps):
        raise CommandError(f"{dataset.root} has {dataset.fps} frames a second, expected the task's {task.fps:g}")


def _meaning(key: str, task: TaskSpec) -> str:
    return ", ".join(ACTION_NAMES if key == "action" else task.state)


def _steps(
    dataset: Dataset, episode: Episode, number: int, before: int, task: TaskSpec, artifact: Artifact | None, joint_units: str
) -> Iterator[Step]:
    """The steps of an episode up to its first success; none without one. before: steps of the episodes before it."""
    from dataset_recorder.dataset import column
    from reward_classifier_node.data import network_frame

    rows = dataset.rows(episode)
    images = {
        camera: [network_frame(image, task, place) for image in dataset.images(episode, key)]
        for place, (camera, key) in enumerate(zip(task.cameras, task.image_keys, strict=True))
    }
    for camera, found in images.items():
        if len(found) != rows.num_rows:
            raise CommandError(
                f"episode {episode.index} of {dataset.root} has {rows.num_rows} rows and {len(found)} images of {camera}"
            )
    last = _success_row(dataset, episode, images, artifact)
    if last is None:
        return
    states = in_radians(column(rows, "observation.state").astype(np.float32), task, joint_units)
    actions = column(rows, "action").astype(np.float32)
    for index in range(last + 2):
        is_last, row = index > last, min(index, rows.num_rows - 1)  # of a success nothing after it counts
        step = Step(
            run_id="",
            sequence=before + index + 1,
            episode=number,
            index=index,
            mode=Mode.DEMONSTRATION,
            stamp_ns=round(index * 1e9 * task.tick_s),
            is_first=index == 0,
            is_last=is_last,
            is_terminal=is_last,
            state=states[row],
            images={camera: found[row] for camera, found in images.items()},
            action=None if is_last else actions[row],
            reward=None if is_last else task.success_reward * (index == last),
            intervention=not is_last,
            success=index >= last,
            policy_version=0,
        )
        check_step(step, task)
        yield step


def _success_row(
    dataset: Dataset, episode: Episode, images: dict[str, list[np.ndarray]], artifact: Artifact | None
) -> int | None:
    """The row whose action led to the first success, None without one."""
    from dataset_recorder.dataset import column
    from dataset_recorder.origin import late_rewards, shown_rewards
    from reward_classifier_node.api import judge_frames

    rewarded = "next.reward" in dataset.features
    if artifact is not None:
        shown = judge_frames(artifact, {camera: np.stack(found) for camera, found in images.items()}).success
        shown &= shown_rewards(dataset, episode) > 0.5 if rewarded else True
    elif not rewarded:
        raise CommandError(f"{dataset.root} has no next.reward: label it first (reach-grasp label), or give --artifact")
    elif late_rewards(dataset):
        late = np.flatnonzero(column(dataset.rows(episode), "next.reward").reshape(-1) > 0.5)
        return int(late[0]) if late.size else None
    else:
        shown = shown_rewards(dataset, episode) > 0.5
    frames = np.flatnonzero(shown)
    return max(int(frames[0]) - 1, 0) if frames.size else None
