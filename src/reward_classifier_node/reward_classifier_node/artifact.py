# SPDX-License-Identifier: Apache-2.0
"""The classifier's folder: LeRobot's layout plus task, threshold and metrics; written beside, checked on reading."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_model

from hilserl_core.disk import sync
from hilserl_core.normalization import IMAGE_MEAN, IMAGE_STD
from hilserl_core.task import TaskError, TaskSpec
from reward_classifier_node.errors import ClassifierError
from reward_classifier_node.model import Classifier, Shape, lerobot_config
from reward_classifier_node.trunk import load_trunk, save_trunk

if TYPE_CHECKING:
    from lerobot.rewards.classifier.configuration_classifier import RewardClassifierConfig

_CONFIG, _WEIGHTS, _TRUNK, _TASK = "config.json", "model.safetensors", "trunk", "task_spec.json"
_FACTS, _MANIFEST, _PREPROCESSOR = "classifier.json", "manifest.json", "classifier_preprocessor.json"


@dataclass(frozen=True)
class Artifact:
    """classifier: ready to use. threshold: a probability above it is a success. facts: metrics, settings and data_sha256.

    task: what it was checked against. identity: the folder's name and twelve digits of a hash of its content.
    """

    classifier: Classifier
    threshold: float
    facts: dict[str, Any]
    task: TaskSpec
    identity: str


def check_replaceable(folder: Path) -> None:
    """Raises ClassifierError when the folder holds something else than a classifier of ours, which must not be lost."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / _FACTS).is_file())):
        raise ClassifierError(f"{folder} exists and is no classifier: name another folder to write to")


def write_artifact(
    folder: Path, classifier: Classifier, task: TaskSpec, threshold: float, facts: dict[str, Any],
    pages: dict[str, bytes] | None = None,
) -> None:  # fmt: skip
    """Write the folder; a kill at any instant leaves what was there before (at worst beside it, as .old-*), or the new one.

    facts: JSON types. pages: further files by name, such as a report. LeRobot reads the trunk from the absolute path of
    `folder`/trunk: see `lerobot_config_of` once the folder has moved. Raises ClassifierError when it cannot be written.
    """
    folder = folder.absolute()
    check_replaceable(folder)
    partial = folder.with_name(f".partial-{folder.name}-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _write_files(partial, folder, classifier, task, {"threshold": threshold, **facts})
        for name, content in (pages or {}).items():
            (partial / name).write_bytes(content)
        _seal(partial)
        old = folder.with_name(f".old-{folder.name}-{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ClassifierError(f"cannot write the classifier {folder}: {error}; what was there before is kept") from error


def read_artifact(folder: Path, task: TaskSpec | None, trust_remote_code: bool = False) -> Artifact:
    """Load our folder, or one that LeRobot saved: threshold 0.5, no facts; of its task only cameras and image size are known.

    task: None for the one the folder was made for; LeRobot's is then to take images as they come, neither cropped nor turned.
    Raises ClassifierError naming the difference when it was made for another task, and naming the file when one is missing or
    damaged. Never runs code of the folder's trunk unless trust_remote_code says so.
    """
    name = folder.resolve().name
    folder = _inner(folder)
    _check_manifest(folder)
    config, shape = _checked_config(folder, task)
    task = _task_of(folder, shape) if task is None else task
    mean, std = _read_normalization(folder, shape)
    classifier = Classifier(shape, load_trunk(_trunk_of(folder, config), trust_remote_code), mean, std)
    try:
        missing, unexpected = load_model(classifier, folder / _WEIGHTS, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ClassifierError(f"cannot read {folder / _WEIGHTS}: {error}") from error
    # A counter that batch normalisation makes up where a file holds it under its other name; nothing reads it.
    wrong = [name for name in {*missing, *unexpected} if not name.endswith("num_batches_tracked")]
    if wrong:
        raise ClassifierError(f"{folder / _WEIGHTS} does not fit its {_CONFIG}: {sorted(wrong)[0]} is missing or unknown")
    bad = [name for name, value in classifier.state_dict().items() if not torch.isfinite(value.float()).all()]
    if bad:
        raise ClassifierError(f"{folder / _WEIGHTS} holds parameters that are not finite: {bad[0]}")
    facts = _read_json(folder / _FACTS) if (folder / _FACTS).exists() else {}
    sealed = folder / _MANIFEST
    digest = _digest(sealed if sealed.exists() else folder / _WEIGHTS)
    return Artifact(classifier.eval(), float(facts.get("threshold", 0.5)), facts, task, f"{name} {digest[:12]}")


def check_artifact(folder: Path, task: TaskSpec) -> None:
    """What `read_artifact` refuses that can be seen without loading the network. Raises ClassifierError."""
    _checked_config(_inner(folder), task)


def lerobot_config_of(folder: Path) -> RewardClassifierConfig:
    """For `Classifier.from_pretrained(folder, config=...)` of LeRobot where the folder has moved since it was written."""
    from lerobot.configs.rewards import RewardModelConfig

    config = RewardModelConfig.from_pretrained(folder)
    config.model_name = str((folder / _TRUNK).absolute())
    return config


def _write_files(partial: Path, final: Path, classifier: Classifier, task: TaskSpec, facts: dict[str, Any]) -> None:
    from lerobot.rewards.classifier.processor_classifier import make_classifier_processor

    config = lerobot_config(classifier.shape, str(final / _TRUNK))
    config._save_pretrained(partial)
    save_model(classifier, str(partial / _WEIGHTS))
    save_trunk(classifier.encoder, partial / _TRUNK)
    statistics = {
        key: {name: torch.tensor(value, dtype=torch.float32).view(3, 1, 1) for name, value in (("mean", mean), ("std", std))}
        for key, mean, std in zip(classifier.shape.image_keys, classifier.mean, classifier.std, strict=True)
    }
    for pipeline in make_classifier_processor(config, statistics):
        pipeline.save_pretrained(partial)
    (partial / _TASK).write_text(json.dumps(task.as_dict(), indent=2) + "\n")
    (partial / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")


def _inner(folder: Path) -> Path:
    """Where the files are: LeRobot's training puts them one folder down."""
    if not folder.is_dir():
        raise ClassifierError(f"there is no classifier {folder}: make one with reach-grasp train-classifier")
    inner = folder / "pretrained_model"
    return inner if inner.is_dir() else folder


def _checked_config(folder: Path, task: TaskSpec | None) -> tuple[dict[str, Any], Shape]:
    """LeRobot's configuration and the network's shape, which fit the task where one is given."""
    config = _read_json(folder / _CONFIG)
    if config.get("type") != "reward_classifier":
        raise ClassifierError(f"{folder} holds a {config.get('type')!r}, expected a 'reward_classifier'")
    if config.get("model_type", "cnn") != "cnn" or config.get("num_classes", 2) != 2:
        raise ClassifierError(f"{folder} is of type {config.get('model_type')!r}, expected a convolutional one of two classes")
    shape = _shape(folder, config)
    if task is not None:
        _check_task(folder, shape, task)
    return config, shape


def _trunk_of(folder: Path, config: dict[str, Any]) -> str | Path:
    """Where the image model is: in the folder, or where LeRobot was told to take it from."""
    own, named = folder / _TRUNK, config["model_name"]
    if own.is_dir():
        return own
    if Path(named).is_absolute() and not Path(named).is_dir():
        raise ClassifierError(f"the image model {named} of the classifier {folder} is gone: put it into {own}")
    return named


def _seal(folder: Path) -> None:
    """Force everything onto the disk; the manifest comes last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {str(path.relative_to(folder)): _digest(path) for path in files}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _check_manifest(folder: Path) -> None:
    if not (folder / _MANIFEST).exists():  # LeRobot writes none; ours always has one
        if (folder / _FACTS).exists():
            raise ClassifierError(f"the classifier {folder} was not written to its end: {_MANIFEST} is missing")
        return
    for name, digest in _read_json(folder / _MANIFEST).items():
        if not (folder / name).is_file():
            raise ClassifierError(f"the classifier {folder} cannot be used: {name} is missing")
        if _digest(folder / name) != digest:
            raise ClassifierError(f"the classifier {folder} cannot be used: {name} is damaged")


def _shape(folder: Path, config: dict[str, Any]) -> Shape:
    try:
        keys = tuple(key for key in config["input_features"] if key.startswith("observation.image"))
        sizes = {tuple(config["input_features"][key]["shape"]) for key in keys}
        if len(sizes) != 1 or (found := sizes.pop())[1] != found[2]:
            raise ClassifierError(f"{folder / _CONFIG} has images {sorted(sizes)}, expected squares of one size")
        embeddings, dropout = config["image_embedding_pooling_dim"], config["dropout_rate"]
        return Shape(keys, found[1], embeddings, config["latent_dim"], config["hidden_dim"], dropout)
    except (KeyError, TypeError, IndexError) as error:
        raise ClassifierError(f"{folder / _CONFIG} lacks {error}") from error


def _check_task(folder: Path, shape: Shape, task: TaskSpec) -> None:
    if (folder / _TASK).exists():
        differences = task.differences(_task_in(folder))
    else:
        mine = replace(shape, image_keys=task.image_keys, image_size=task.image_size)
        differences = [
            f"{name}: {getattr(mine, name)} here, {getattr(shape, name)} there"
            for name in ("image_keys", "image_size")
            if getattr(mine, name) != getattr(shape, name)
        ]
    if differences:
        raise ClassifierError(f"the classifier {folder} was made for another task: {'; '.join(differences)}")


def _task_of(folder: Path, shape: Shape) -> TaskSpec:
    """What the folder was made for. LeRobot's names cameras and size alone."""
    if (folder / _TASK).exists():
        return _task_in(folder)
    cameras = tuple(key.removeprefix("observation.images.") for key in shape.image_keys)
    count, size = len(cameras), shape.image_size
    task = TaskSpec(
        cameras=cameras,
        camera_sizes=(size, size) * count,
        crops=(0, 0, size, size) * count,
        rotations_deg=(0,) * count,
        image_size=size,
    )
    if task.image_keys != shape.image_keys:
        raise ClassifierError(f"the classifier {folder} judges {list(shape.image_keys)}, expected observation.images.<camera>")
    return task


def _task_in(folder: Path) -> TaskSpec:
    try:
        return TaskSpec.from_dict(_read_json(folder / _TASK))
    except (TaskError, TypeError) as error:
        raise ClassifierError(f"cannot read {folder / _TASK}: {error}") from error


def _read_normalization(folder: Path, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """(cameras, 3) mean and deviation of the preprocessor's first normalisation; ImageNet's where LeRobot saved none."""
    mean, std = (np.tile(value, (len(shape.image_keys), 1)) for value in (IMAGE_MEAN, IMAGE_STD))
    if not (folder / _PREPROCESSOR).exists():
        return mean, std
    steps = _read_json(folder / _PREPROCESSOR).get("steps", [])
    found = [step for step in steps if step.get("registry_name") == "normalizer_processor" and "state_file" in step]
    if not found:
        raise ClassifierError(f"{folder / _PREPROCESSOR} has no normalisation with data")
    mode = found[0].get("config", {}).get("norm_map", {}).get("VISUAL", "MEAN_STD")
    if mode != "MEAN_STD":
        raise ClassifierError(f"the classifier {folder} normalises images by {mode}, here it is by mean and deviation")
    file = folder / found[0]["state_file"]
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ClassifierError(f"cannot read {file}: {error}") from error
    for index, key in enumerate(shape.image_keys):
        if f"{key}.mean" not in tensors:
            raise ClassifierError(f"{file} lacks the mean and deviation of {key}")
        mean[index], std[index] = tensors[f"{key}.mean"].flatten().numpy(), tensors[f"{key}.std"].flatten().numpy()
        if not ((mean[index] >= 0) & (mean[index] <= 1) & (std[index] > 0) & (std[index] <= 1)).all():
            raise ClassifierError(
                f"the classifier {folder} normalises {key} by mean {mean[index].tolist()} and deviation {std[index].tolist()}, "
                "here images are from 0 to 1"
            )
    return mean, std


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ClassifierError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise ClassifierError(f"cannot read {path}: it is not a JSON object")
    return value


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
