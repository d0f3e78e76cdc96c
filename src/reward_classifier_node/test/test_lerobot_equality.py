# SPDX-License-Identifier: Apache-2.0
"""LeRobot's Classifier loads our folder, we load its folder, and both give the same probabilities."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from classifier_fixtures import SETTINGS, TASK, TWO_CAMERAS, lerobot_probabilities, make_classifier, make_frames
from lerobot.rewards.classifier.modeling_classifier import Classifier as LeRobotClassifier
from lerobot.rewards.classifier.processor_classifier import make_classifier_processor

from reward_classifier_node.artifact import lerobot_config_of, read_artifact, write_artifact
from reward_classifier_node.errors import ClassifierError
from reward_classifier_node.model import Shape, lerobot_config


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing may come from the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("task", [TASK, TWO_CAMERAS], ids=["one camera", "two cameras"])
def test_lerobot_gives_our_probabilities(tmp_path, task):
    classifier, frames = make_classifier(task), make_frames(2, task=task).images
    write_artifact(tmp_path / "ours", classifier, task, 0.7, {})
    model = LeRobotClassifier.from_pretrained(tmp_path / "ours")
    expected = classifier.probabilities(frames)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(lerobot_probabilities(model, tmp_path / "ours", frames, task), expected, atol=1e-4)
    np.testing.assert_allclose(read_artifact(tmp_path / "ours", task).classifier.probabilities(frames), expected, atol=1e-6)


def test_a_moved_folder_needs_no_other_file(tmp_path):
    classifier, frames = make_classifier(), make_frames(1).images
    write_artifact(tmp_path / "first", classifier, TASK, 0.7, {})
    moved = tmp_path / "elsewhere" / "second"
    shutil.move(tmp_path / "first", moved)
    expected = classifier.probabilities(frames)
    np.testing.assert_allclose(read_artifact(moved, TASK).classifier.probabilities(frames), expected, atol=1e-6)
    model = LeRobotClassifier.from_pretrained(moved, config=lerobot_config_of(moved))
    np.testing.assert_allclose(lerobot_probabilities(model, moved, frames, TASK), expected, atol=1e-4)


@pytest.mark.parametrize("task", [TASK, TWO_CAMERAS], ids=["one camera", "two cameras"])
def test_we_give_lerobots_probabilities_with_the_statistics_it_saved(tmp_path, task):
    make_classifier(task, seed=3).encoder.save_pretrained(tmp_path / "backbone")
    torch.manual_seed(4)
    config = lerobot_config(Shape.of(SETTINGS, task), str(tmp_path / "backbone"))
    theirs = LeRobotClassifier(config).eval()
    stats = {
        key: {"mean": torch.full((3, 1, 1), 0.3 + 0.1 * place), "std": torch.full((3, 1, 1), 0.2 + 0.1 * place)}
        for place, key in enumerate(task.image_keys)
    }
    theirs.save_pretrained(tmp_path / "theirs")
    for pipeline in make_classifier_processor(config, stats):
        pipeline.save_pretrained(tmp_path / "theirs")
    frames = make_frames(2, task=task).images
    expected = lerobot_probabilities(theirs, tmp_path / "theirs", frames, task)
    artifact = read_artifact(tmp_path / "theirs", task)
    assert artifact.threshold == 0.5 and expected.std() > 1e-3
    np.testing.assert_allclose(artifact.classifier.probabilities(frames), expected, atol=1e-4)
    with pytest.raises(ClassifierError, match="image_keys"):
        read_artifact(tmp_path / "theirs", TWO_CAMERAS if task is TASK else TASK)
