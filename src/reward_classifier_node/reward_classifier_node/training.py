# SPDX-License-Identifier: Apache-2.0
"""Trains the classifier: the small ResNet with all above it, then on kept features of the frozen trunk, then calibration."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hilserl_core.task import TaskSpec
from reward_classifier_node.augmentation import augmented
from reward_classifier_node.calibration import Scores, choose_threshold, cross_entropy, fit_temperature, least_in_a_row, scores
from reward_classifier_node.data import LabelledFrames, Split, check
from reward_classifier_node.model import Classifier, Shape
from reward_classifier_node.settings import SMALL_RESNET, ClassifierSettings
from reward_classifier_node.trunk import new_trunk

_FRAMES_AT_A_TIME = 32
Progress = Callable[[str, int, int, float], None]
"""Told the stage, what is done of how much, and the newest loss (NaN where there is none)."""


def _silent(stage: str, done: int, total: int, loss: float) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Trained:
    """classifier: calibrated. rows, logits: (K,) indices and logits of the held-out frames that are decided.

    history: rows with stage, update, and loss on training and held-out frames.
    """

    classifier: Classifier
    threshold: float
    target_reached: bool
    temperature: float
    rows: np.ndarray
    logits: np.ndarray
    heldout: Scores
    heldout_loss: float
    history: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Features:
    """What the frozen trunk makes of the frames. values: (1 + variants, N, cameras, C, 4, 4) fp16, plain frames first."""

    values: Tensor

    def batch(self, variants: Tensor, rows: Tensor) -> Tensor:
        """variants, rows: (B,) -> (B, cameras, C, 4, 4) float32."""
        return self.values[variants, rows].float()


def train(
    frames: LabelledFrames, split: Split, settings: ClassifierSettings, task: TaskSpec, progress: Progress = _silent
) -> tuple[Trained, Trained]:
    """The classifier, and for comparison one trained LeRobot's way: same trunk, but only the head ever learns.

    The same seed, frames and thread count give the same weights. Raises DataError and ClassifierError before training starts.
    """
    check(frames, split, task)
    every, split = split.heldout, split.without(frames.undecided(settings.undecided_before, settings.undecided_after))
    start = time.monotonic()
    with torch.random.fork_rng(devices=[]), _threads(settings.threads):
        torch.manual_seed(settings.seed)
        classifier = Classifier(Shape.of(settings, task), new_trunk(settings))
        untrained = copy.deepcopy(classifier)
        history: list[dict[str, Any]] = []
        if settings.backbone == SMALL_RESNET and settings.trunk_updates:
            history += train_whole(classifier, frames, split, settings, progress)
        untrained.encoder.load_state_dict(classifier.encoder.state_dict())
        features = keep_features(classifier, frames, split, settings, progress)
        ours = _finished(classifier, features, frames, split, every, settings, progress, history, start)
        start = time.monotonic()
        theirs = _finished(untrained, features, frames, split, every, settings, progress, [], start, head_only=True)
    return ours, theirs


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many for torch meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_whole(
    classifier: Classifier, frames: LabelledFrames, split: Split, settings: ClassifierSettings, progress: Progress = _silent
) -> list[dict[str, Any]]:
    """Train trunk and all above it from pixels, one cycle of the learning rate. The trunk is frozen afterwards."""
    updates, rows_of = settings.trunk_updates, _balanced(frames.labels, split.train, settings.trunk_batch_size, settings.seed)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=settings.trunk_learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: _one_cycle(done / updates))
    history, recent = [], []
    every = max(1, updates // 8)
    for update in range(1, updates + 1):
        rows = next(rows_of)
        classifier.train()
        images = augmented(_pixels(frames.images[rows]), settings, generator).unflatten(0, (len(rows), -1))
        loss = _loss(classifier.logits(classifier.features(images)), frames.labels[rows])
        _step(loss, optimizer, schedule)
        recent.append(float(loss.detach()))
        progress("image model", update, updates, recent[-1])
        if update % every == 0 or update == updates:
            logits = pixel_logits(classifier, frames.images[split.heldout])
            heldout = _balanced_loss(logits, frames.labels[split.heldout])
            history.append({"stage": "image model", "update": update, "train": float(np.mean(recent)), "heldout": heldout})
            recent.clear()
    classifier.eval()
    return history


def keep_features(
    classifier: Classifier, frames: LabelledFrames, split: Split, settings: ClassifierSettings, progress: Progress = _silent
) -> Features:
    """The trunk's features of all frames, and of augmented variants of the training frames, each computed once."""
    classifier.encoder.requires_grad_(False)
    classifier.eval()
    generator = torch.Generator().manual_seed(settings.seed + 2)
    count, cameras = frames.images.shape[:2]
    values: Tensor | None = None
    with torch.no_grad():
        for variant in range(1 + settings.variants):
            chosen = np.arange(count) if variant == 0 else split.train
            for start in range(0, len(chosen), _FRAMES_AT_A_TIME):
                rows = chosen[start : start + _FRAMES_AT_A_TIME]
                images = _pixels(frames.images[rows])
                images = augmented(images, settings, generator) if variant else images
                found = classifier.features(images.unflatten(0, (len(rows), cameras))).half()
                if values is None:
                    values = torch.zeros((1 + settings.variants, count, *found.shape[1:]), dtype=torch.float16)
                values[variant, torch.from_numpy(rows)] = found
                progress("features", variant * count + start + len(rows), (1 + settings.variants) * count, math.nan)
    return Features(values)


def train_above(
    classifier: Classifier,
    features: Features,
    frames: LabelledFrames,
    split: Split,
    settings: ClassifierSettings,
    progress: Progress = _silent,
    head_only: bool = False,
) -> list[dict[str, Any]]:
    """Train what is above the trunk on kept features, stopped early: the classifier is left with its best held-out loss."""
    stage = "head only" if head_only else "above the image model"
    trained = list(classifier.classifier_head.parameters()) if head_only else classifier.above_trunk()
    rows_of = _balanced(frames.labels, split.train, settings.batch_size, settings.seed + 3)
    generator = torch.Generator().manual_seed(settings.seed + 4)
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    labels = frames.labels[split.heldout]
    best = _balanced_loss(feature_logits(classifier, features, split.heldout), labels)
    kept, looks, recent = _state(classifier), 0, []
    history = [{"stage": stage, "update": 0, "train": math.nan, "heldout": best}]
    for update in range(1, settings.updates + 1):
        rows = next(rows_of)
        variants = torch.randint(len(features.values), (len(rows),), generator=generator)
        _above_mode(classifier)
        loss = _loss(classifier.logits(features.batch(variants, torch.from_numpy(rows))), frames.labels[rows])
        _step(loss, optimizer)
        recent.append(float(loss.detach()))
        progress(stage, update, settings.updates, recent[-1])
        if update % settings.check_every and update != settings.updates:
            continue
        heldout = _balanced_loss(feature_logits(classifier, features, split.heldout), labels)
        history.append({"stage": stage, "update": update, "train": float(np.mean(recent)), "heldout": heldout})
        recent.clear()
        if heldout < best:
            best, kept, looks = heldout, _state(classifier), 0
        else:
            looks += 1
            if looks >= settings.patience:
                break
    classifier.load_state_dict(kept, strict=False)
    classifier.eval()
    return history


def pixel_logits(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """(N, cameras, S, S, 3) uint8 -> (N,) float32, dropout off."""
    classifier.eval()
    with torch.no_grad():
        parts = [
            classifier.logits(classifier.features(_pixels(part).unflatten(0, (len(part), -1))))
            for part in np.split(images, range(_FRAMES_AT_A_TIME, len(images), _FRAMES_AT_A_TIME))
        ]
    return torch.cat(parts).numpy()


def feature_logits(classifier: Classifier, features: Features, rows: np.ndarray) -> np.ndarray:
    """(N,) float32 of plain frames, dropout off."""
    classifier.eval()
    with torch.no_grad():
        return classifier.logits(features.values[0, torch.from_numpy(rows)].float()).numpy()


def _finished(
    classifier: Classifier, features: Features, frames: LabelledFrames, split: Split, every: np.ndarray,
    settings: ClassifierSettings, progress: Progress, history: list[dict[str, Any]], start: float, head_only: bool = False,
) -> Trained:  # fmt: skip
    """every: held-out frames with those undecided, in the order of time."""
    history = history + train_above(classifier, features, frames, split, settings, progress, head_only)
    share = float(frames.labels[split.train].mean())
    with torch.no_grad():  # batches were balanced, what will be seen is not
        classifier.classifier_head[-1].bias += math.log(share / (1 - share))
    decided = np.isin(every, split.heldout)
    logits = pixel_logits(classifier, frames.images[every])
    temperature = fit_temperature(logits[decided], frames.labels[every][decided])
    classifier.fold_temperature(temperature)
    logits = logits / temperature
    threshold, reached = _threshold(logits, frames, every, decided, settings)
    logits, labels = logits[decided], frames.labels[split.heldout]
    found = scores(1 / (1 + np.exp(-logits)), labels, threshold)
    return Trained(
        classifier, threshold, reached, temperature, split.heldout, logits, found,
        cross_entropy(logits, labels), history, time.monotonic() - start,
    )  # fmt: skip


def _threshold(
    logits: np.ndarray, frames: LabelledFrames, rows: np.ndarray, decided: np.ndarray, settings: ClassifierSettings
) -> tuple[float, bool]:
    """Chosen for so many frames in a row, as the node decides; rows (K,) in the order of time, logits and decided (K,) of them.

    Where no held-out success lasts that long: for single frames.
    """
    labels, episodes = frames.labels[rows], frames.episodes[rows]
    least, success, counts = (
        least_in_a_row(values, episodes, settings.debounce) for values in (logits, labels * 1.0, decided * 1.0)
    )
    counts, success = counts > 0, success > 0
    if not success[counts].any():
        return choose_threshold(logits[decided], labels[decided], settings.target_precision, settings.least_recall)
    return choose_threshold(least[counts], success[counts], settings.target_precision, settings.least_recall)


def _pixels(images: np.ndarray) -> Tensor:
    """(N, cameras, S, S, 3) uint8 -> (N * cameras, 3, S, S) float32 in [0, 255]."""
    return torch.from_numpy(images).flatten(0, 1).permute(0, 3, 1, 2).float()


def _balanced(labels: np.ndarray, rows: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of rows, (size,), half of them successes."""
    rng = np.random.default_rng([seed, 13])
    positive, negative = rows[labels[rows]], rows[~labels[rows]]
    while True:
        yield np.concatenate([rng.choice(positive, size // 2), rng.choice(negative, size - size // 2)])


def _loss(logits: Tensor, labels: np.ndarray) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels).float())


def _balanced_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Cross-entropy with both classes counting the same, as in training."""
    return (cross_entropy(logits[labels], labels[labels]) + cross_entropy(logits[~labels], labels[~labels])) / 2


def _step(loss: Tensor, optimizer: torch.optim.Optimizer, schedule: Any = None) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if schedule is not None:
        schedule.step()


def _one_cycle(progress: float) -> float:
    """Up within a tenth, down along a cosine."""
    return max(0.02, progress / 0.1) if progress < 0.1 else 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def _above_mode(classifier: Classifier) -> None:
    """Dropout above the trunk; the trunk's batch statistics stay as they are."""
    classifier.train()
    classifier.encoder.eval()


def _state(classifier: Classifier) -> dict[str, Tensor]:
    """What training above the trunk can change, by name."""
    above = {id(parameter) for parameter in classifier.above_trunk()}
    return {name: value.detach().clone() for name, value in classifier.named_parameters() if id(value) in above}
