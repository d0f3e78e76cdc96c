# SPDX-License-Identifier: Apache-2.0
"""Small classifiers and synthetic episodes: a red square in the middle is a success, elsewhere it is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hilserl_core.task import TaskSpec
from reward_classifier_node.data import LabelledFrames
from reward_classifier_node.model import Classifier, Shape
from reward_classifier_node.settings import ClassifierSettings
from reward_classifier_node.trunk import new_trunk

TASK = TaskSpec()
TWO_CAMERAS = replace(
    TASK, cameras=("wrist", "front"), camera_sizes=(640, 480) * 2, crops=(0, 80, 480, 480) * 2, rotations_deg=(0, 0)
)
SETTINGS = ClassifierSettings(
    trunk_widths=(4, 4, 8, 8), trunk_updates=12, trunk_batch_size=8, updates=60, batch_size=16, check_every=10,
    variants=1, latent_dim=16, hidden_dim=16, learning_rate=3e-3, heldout=0.3, undecided_before=0, shift=0.02,
)  # fmt: skip


def make_frames(episodes: int = 8, length: int = 8, task: TaskSpec = TASK, seed: int = 0) -> LabelledFrames:
    """Every fourth episode fails, the others succeed from half-way on."""
    rng = np.random.default_rng(seed)
    size, count = task.image_size, episodes * length
    images = rng.integers(60, 100, (count, len(task.cameras), size, size, 3), dtype=np.uint8)
    labels = np.zeros(count, bool)
    for row in range(count):
        episode, index = divmod(row, length)
        labels[row] = episode % 4 != 3 and index >= length // 2
        top = size // 2 - 16 if labels[row] else rng.integers(0, size // 8)
        left = size // 2 - 16 if labels[row] else rng.integers(0, size - 32)
        images[row, :, top : top + 32, left : left + 32] = (220, 30, 30)
    return LabelledFrames(images, labels, np.repeat(np.arange(episodes), length))


def make_classifier(task: TaskSpec = TASK, seed: int = 0, settings: ClassifierSettings = SETTINGS) -> Classifier:
    """Random, batch statistics and last weights included, so that no two inputs or layers look alike."""
    torch.manual_seed(seed)
    classifier = Classifier(Shape.of(settings, task), new_trunk(settings))
    for name, value in classifier.encoder.named_buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if name.endswith("var") else value.normal_(0, 0.2)
    return classifier


def lerobot_probabilities(model: Any, folder: Path, frames: np.ndarray, task: TaskSpec) -> np.ndarray:
    """The way LeRobot goes: its saved preprocessor, then `predict`. frames: (N, cameras, S, S, 3) uint8."""
    from lerobot.processor import PolicyProcessorPipeline

    preprocessor = PolicyProcessorPipeline.from_pretrained(folder, config_filename="classifier_preprocessor.json")
    images = torch.from_numpy(frames).permute(1, 0, 4, 2, 3).float() / 255
    batch = preprocessor(dict(zip(task.image_keys, images, strict=True)))
    with torch.no_grad():
        return model.predict([batch[key] for key in model.config.input_features]).probabilities.numpy()
