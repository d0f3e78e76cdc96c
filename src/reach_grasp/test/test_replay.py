# SPDX-License-Identifier: Apache-2.0
"""reach-grasp replay with the real classifier's node over DDS: the same rewards every time, those of the frames themselves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ament_index_python.packages import get_package_share_directory

from dataset_recorder.comparison import read_frames
from dataset_recorder.convert.bag import Bag
from dataset_recorder.tape import Tape
from hilserl_core.task import TaskSpec
from hilserl_ros.images import image_to_rgb
from hilserl_ros.parameters import build
from reach_grasp.command import main
from reward_classifier_node.api import Judged, judge_frames
from reward_classifier_node.artifact import Artifact, read_artifact, write_artifact
from reward_classifier_node.model import Classifier, Shape
from reward_classifier_node.node_settings import ClassifierNodeParameters
from reward_classifier_node.settings import ClassifierSettings
from reward_classifier_node.trunk import new_trunk

GRASP = Path(__file__).parents[2] / "dataset_recorder" / "test" / "data" / "grasp"
TASK = TaskSpec(camera_sizes=(128, 128), crops=(0, 0, 128, 128))


@pytest.fixture
def domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(int(os.environ.get("ROS_DOMAIN_ID", "0")) + 7))


def recorded(bag: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (T, 128, 128, 3) and what the gripper reported (T, 3) of the frames of the episode."""
    with Bag(bag) as opened:
        found = {
            topic: {
                (m := decode()).header.stamp.sec * 10**9 + m.header.stamp.nanosec: m
                for _, _, decode in opened.messages([topic])
            }
            for topic in ("/wrist/image_raw", "/joint_states")
        }
    frames = Tape(bag, ["wrist"], TASK.fps).frames
    images = np.stack([image_to_rgb(found["/wrist/image_raw"][stamp]) for stamp in frames])
    joints = [found["/joint_states"][stamp] for stamp in frames]
    return images, np.array([(joint.position[-1], joint.velocity[-1], joint.effort[-1]) for joint in joints])


@pytest.fixture
def artifact(tmp_path) -> Artifact:
    """It knows nothing, but its threshold lies among what it says of the frames in which the cube is held."""
    torch.manual_seed(0)
    settings = ClassifierSettings(trunk_widths=(4, 4, 8, 8), latent_dim=16, hidden_dim=16)
    classifier = Classifier(Shape.of(settings, TASK), new_trunk(settings))
    threshold = float(np.quantile(classifier.probabilities(recorded(GRASP)[0][20:, None]), 0.3))
    write_artifact(tmp_path / "classifier", classifier, TASK, threshold, {})
    return read_artifact(tmp_path / "classifier", TASK)


def expected(artifact: Artifact) -> Judged:
    """What the classifier says of the frames, with the gate of the installed parameters."""
    file = Path(get_package_share_directory("reach_grasp")) / "config" / "sim.yaml"
    parameters = build(ClassifierNodeParameters, yaml.safe_load(file.read_text())["/**/reward_classifier"]["ros__parameters"])
    images, grippers = recorded(GRASP)
    return judge_frames(artifact, {"wrist": images}, rule=parameters.rule(artifact.threshold), grippers=grippers)


def test_replays_give_the_same_rewards_every_time_and_those_of_the_frames(domain, artifact, tmp_path, capsys):
    shutil.copytree(GRASP, tmp_path / "bags" / "again")
    output, words = tmp_path / "out" / "replay.csv", ["--classifier", str(tmp_path / "classifier")]
    assert main(["replay", str(GRASP), str(tmp_path / "bags"), *words, "--output", str(output)]) == 0
    first, again = read_frames(output).values()
    assert main(["replay", f"bag:={GRASP}", *words, "--output", str(output)]) == 0
    (anew,) = read_frames(output).values()
    assert first == again == anew, "one after another, and by nodes that were started anew"
    judged = expected(artifact)
    np.testing.assert_allclose([frame.probability for frame in first], judged.probabilities, atol=1e-5)
    assert [frame.success for frame in first] == judged.success.tolist()
    assert 0 < judged.success.sum() < sum(frame.label for frame in first) == 31, "not the gate alone, which the label is like"
    said = capsys.readouterr().out
    assert "data/grasp" in said and "bags/again" in said
    agreeing = 2 * sum(frame.success == frame.label for frame in first)
    assert f"{agreeing} of 88 frames as labelled" in said and f"frame by frame: {output}" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "replay needs a bag: reach-grasp replay BAG... --classifier FOLDER"),
        (["nowhere"], "nowhere does not exist"),
        (["TORN"], "its recording was cut off: run `reach-grasp repair "),
        ([str(GRASP)], "replay needs the folder of a classifier: name it with --classifier"),
        ([str(GRASP), "--classifier", "/nowhere"], "the classifier /nowhere does not exist"),
        ([str(GRASP), "--classifier", str(GRASP), "--rate", "fast"], "rate is 'fast', allowed is a number"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GRASP, tmp_path / "TORN")
    (tmp_path / "TORN" / "metadata.yaml").unlink()
    assert main(["replay", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_what_a_node_refuses_is_one_sentence(domain, artifact, tmp_path, capsys):
    words = ["--classifier", str(tmp_path / "classifier"), "--output", str(tmp_path / "replay.csv")]
    assert main(["replay", str(GRASP), *words, "--sim", "false"]) == 2
    error = capsys.readouterr().err
    assert "another task" in error and error.count("\n") == 1 and str(tmp_path / "replay.log") in error
