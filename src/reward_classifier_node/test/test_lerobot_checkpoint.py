# SPDX-License-Identifier: Apache-2.0
"""What LeRobot's own training program leaves behind is loaded by us, judges alike, and drives the node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from classifier_fixtures import lerobot_probabilities, make_classifier, make_frames
from classifier_station import TASK, TICK_NS, TWO
from lerobot.datasets import LeRobotDataset
from lerobot.rewards.classifier.modeling_classifier import Classifier as LeRobotClassifier
from safetensors.torch import load_file

from hilserl_ros.convert import to_ns
from reward_classifier_node.api import judge_frames
from reward_classifier_node.artifact import Artifact, read_artifact
from reward_classifier_node.data import LabelledFrames
from reward_classifier_node.errors import ClassifierError

STEPS, SIZE = 3, TWO.image_size
MEAN = "embedder.embedder.normalization.running_mean"


def _record(root: Path, frames: LabelledFrames) -> None:
    """A dataset v3.0 by LeRobot itself."""
    picture = {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    scalars = {"next.reward": (1,), "action": (4,)}
    features = dict.fromkeys(TWO.image_keys, picture) | {
        key: {"dtype": "float32", "shape": shape, "names": None} for key, shape in scalars.items()
    }
    dataset = LeRobotDataset.create("test/set", 10, features, root=root)
    for episode in np.unique(frames.episodes):
        for row in np.flatnonzero(frames.episodes == episode):
            images = dict(zip(TWO.image_keys, frames.images[row], strict=True))
            reward = np.array([frames.labels[row]], np.float32)
            dataset.add_frame({**images, "next.reward": reward, "action": np.zeros(4, np.float32), "task": "grasp"})
        dataset.save_episode()
    dataset.finalize()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `backbone` and LeRobot's run on it, `run`.

    lerobot-train 0.6.1 cannot train a reward classifier from a dataset alone: for a policy it takes the features from the
    dataset, for a reward model it does not, `input_features` stays empty, and the first update ends with "RuntimeError: hstack
    expects a non-empty TensorList" in Classifier.predict. Naming them on the command line is enough. `num_cameras`, 2 by
    default, has to be right too, or the head does not fit.
    """
    folder = tmp_path_factory.mktemp("lerobot")
    _record(folder / "set", make_frames(4, 6, TWO))
    make_classifier(TWO, seed=3).encoder.save_pretrained(folder / "backbone")
    image = {"type": "VISUAL", "shape": [3, SIZE, SIZE]}
    command = [
        sys.executable, "-m", "lerobot.scripts.lerobot_train",
        "--dataset.repo_id=test/set", f"--dataset.root={folder / 'set'}",
        "--reward_model.type=reward_classifier", f"--reward_model.model_name={folder / 'backbone'}",
        f"--reward_model.input_features={json.dumps(dict.fromkeys(TWO.image_keys, image))}",
        f"--reward_model.num_cameras={len(TWO.cameras)}", "--reward_model.device=cpu", "--reward_model.push_to_hub=false",
        f"--steps={STEPS}", "--batch_size=4", "--num_workers=0", "--log_freq=1", "--env_eval_freq=0", "--wandb.enable=false",
        f"--output_dir={folder / 'run'}",
    ]  # fmt: skip
    cache = {"HF_HOME": str(folder / "huggingface"), "HF_LEROBOT_HOME": str(folder / "lerobot")}
    environment = os.environ | cache | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return folder


@pytest.fixture
def checkpoint(trained) -> Path:
    """As a user names it; the link that LeRobot makes."""
    return trained / "run" / "checkpoints" / "last"


def _same(artifact: Artifact, folder: Path) -> None:
    frames = make_frames(2, task=TWO, seed=9).images
    model = LeRobotClassifier.from_pretrained(folder)
    expected = lerobot_probabilities(model, folder, frames, TWO)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(artifact.classifier.probabilities(frames), expected, atol=1e-4)


@pytest.mark.parametrize("inner", [".", "pretrained_model"])
def test_a_checkpoint_of_lerobot_train_judges_alike(trained, checkpoint, inner):
    artifact = read_artifact(checkpoint / inner, TWO)
    assert (artifact.threshold, artifact.facts, artifact.task) == (0.5, {}, TWO)
    _same(artifact, checkpoint / "pretrained_model")
    # LeRobot's training moves the batch statistics of the image model that it calls frozen; ours are the moved ones.
    before = load_file(trained / "backbone" / "model.safetensors")[MEAN]
    assert not np.allclose(artifact.classifier.encoder.state_dict()[MEAN], before)


def test_without_a_task_images_are_taken_as_they_come(checkpoint):
    artifact = read_artifact(checkpoint, None)
    assert artifact.task.image_keys == TWO.image_keys and artifact.task.image_size == SIZE
    assert artifact.task.crops == TWO.crops and artifact.task.rotations_deg == TWO.rotations_deg
    frames = make_frames(1, task=TWO, seed=9).images
    judged = judge_frames(artifact, {camera: frames[:, place] for place, camera in enumerate(TWO.cameras)})
    np.testing.assert_allclose(judged.probabilities, artifact.classifier.probabilities(frames), atol=1e-6)


def test_another_task_is_refused(checkpoint):
    with pytest.raises(ClassifierError, match="image_keys"):
        read_artifact(checkpoint, TASK)


def test_an_image_model_that_is_gone_is_named_and_may_be_put_into_the_folder(trained, checkpoint, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(checkpoint / "pretrained_model", moved)
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"model_name": "/nowhere/backbone"}))
    with pytest.raises(ClassifierError, match=r"image model /nowhere/backbone .* is gone: put it into .*moved/trunk"):
        read_artifact(moved, TWO)
    shutil.copytree(trained / "backbone", moved / "trunk")
    _same(read_artifact(moved, TWO), checkpoint / "pretrained_model")


def test_the_node_judges_with_it(station, checkpoint):
    station.start(checkpoint, "lockstep:=true", task=TWO)
    frames = make_frames(1, task=TWO, seed=9).images
    expected = read_artifact(checkpoint, TWO).classifier.probabilities(frames)
    for tick, (wrist, front) in enumerate(frames, 1):
        station.show(front, tick, "front")
        assert station.answer(wrist, tick).probability == pytest.approx(expected[tick - 1], abs=1e-4)
    assert to_ns(station.rewards[-1].header.stamp) == len(frames) * TICK_NS
