# SPDX-License-Identifier: Apache-2.0
"""Where the episodes of a converted dataset came from, and which image a reward in it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_recorder.convert.bag import find_bags
from dataset_recorder.dataset import Dataset, DatasetError, Episode, column, episode_rows, read_json
from hilserl_core.task import TaskError, TaskSpec

CONVERSION = "meta/conversion.json"  # the report of `reach-grasp convert`
LABELS = "meta/labels.csv"  # the table a dataset was labelled with


@dataclass(frozen=True)
class Origin:
    """The bag of an episode as it was named when it was converted, and how its rows were made: `steps` or `mapping`."""

    bag: Path
    source: str


def origins(dataset: Dataset) -> dict[int, Origin]:
    """The origin of each episode. Raises DatasetError when the dataset does not say."""
    path = dataset.root / CONVERSION
    if not path.is_file():
        raise DatasetError(f"{dataset.root} has no {CONVERSION}, so it was not made from bags by `reach-grasp convert`")
    try:
        found = {item["episode_index"]: Origin(Path(item["bag"]), item["source"]) for item in _reports(dataset)}
    except KeyError as error:
        raise DatasetError(f"{path} does not name the bag of each episode: convert the bags again") from error
    missing = [episode.index for episode in dataset.episodes if episode.index not in found]
    if missing:
        raise DatasetError(f"{path} does not name the bag of episode {missing[0]}: convert the bags again")
    return found


def recorded_task(root: Path) -> TaskSpec | None:
    """The task under which a dataset's steps were recorded; None where the dataset does not say. Raises DatasetError."""
    if not (path := root / CONVERSION).is_file() or not (values := read_json(path).get("task")):
        return None
    try:
        return TaskSpec.from_dict(values)
    except (TaskError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} names a task that cannot be: {error}; convert the bags again") from error


def bags_of(dataset: Dataset, places: Sequence[Path] = ()) -> dict[int, Path]:
    """Where the bag of each episode is: among the bags in `places` that of its name, else where it was when it was converted.

    Names are compared from their end, `run-1/000003`, as far as it takes to tell bags apart. Raises DatasetError, BagError.
    """
    named = {index: origin.bag for index, origin in origins(dataset).items()}
    if not places:
        missing = [bag for bag in named.values() if not bag.exists()]
        if missing:
            raise DatasetError(f"the bag {missing[0]} is not there any more: say where the bags are now with --bags")
        return named
    found = find_bags(places)
    return {index: _same_name(bag, found) for index, bag in named.items()}


def shown_rewards(dataset: Dataset, episode: Episode) -> np.ndarray:
    """The reward that each row's own image shows, (n,).

    In a labelled dataset that is the row's. In one converted from steps and not labelled since, a row's reward was
    computed from the image after it: rewards then move on by one row, and the first image has none.
    """
    rewards = column(episode_rows(dataset, episode), "next.reward").reshape(-1)
    if late_rewards(dataset):
        return np.concatenate([np.zeros(1, rewards.dtype), rewards[:-1]])
    return rewards


def late_rewards(dataset: Dataset) -> bool:
    """Whether a row's reward belongs to the image after it."""
    if (dataset.root / LABELS).is_file() or not (dataset.root / CONVERSION).is_file():
        return False
    return any(item.get("source") == "steps" for item in _reports(dataset))


def _reports(dataset: Dataset) -> list[dict[str, Any]]:
    """What `convert` reported of each episode."""
    reports = read_json(dataset.root / CONVERSION).get("episodes", [])
    if not isinstance(reports, list) or not all(isinstance(item, dict) for item in reports):
        raise DatasetError(f"{dataset.root / CONVERSION} is damaged: convert the bags again")
    return reports


def _same_name(bag: Path, found: Sequence[Path]) -> Path:
    """The one of `found` whose path ends most like that of `bag`. Raises DatasetError for none or several."""
    left, wanted = [path for path in found if path.absolute().name == bag.name], bag.absolute().parts
    for depth in range(2, len(wanted) + 1):
        if len(left) <= 1:
            break
        left = [path for path in left if path.absolute().parts[-depth:] == wanted[-depth:]] or left
    if len(left) != 1:
        what = f"none of the {len(found)} bags found" if not left else f"each of {left[0]} and {left[1]}"
        raise DatasetError(f"{what} could be {bag}, which the dataset was made from: name the folder with those bags")
    return left[0]
