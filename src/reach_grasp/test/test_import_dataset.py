# SPDX-License-Identifier: Apache-2.0
"""A dataset's successful episodes as demonstrations of a run, and what the learner finds there."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.serialization import deserialize_message

from dataset_recorder.convert.writer import DatasetSpec, DatasetWriter
from dataset_recorder.origin import LABELS
from dataset_recorder.testing.datasets import as_v21
from hilserl_core.kinematics import Kinematics
from hilserl_core.step import Mode
from hilserl_core.step_log import StepLog
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_learner.intake import Intake
from reach_grasp import demonstrations
from reach_grasp.command import main
from reach_grasp.demonstrations import import_dataset, imported
from reach_grasp.errors import CommandError
from reach_grasp.systems import nodes_of
from so101_description import joint_limits, urdf_path

TASK = TaskSpec(camera_sizes=(64, 64), crops=(0, 0, 64, 64), image_size=64)
REWARDS = {0: [0, 0, 0, 1, 1, 1], 1: [0, 0, 0, 0], 2: [0, 0, 0, 0, 1]}


def make(root, fps=10, labelled=False, source="steps", report=None, **changed):
    """Three episodes, the second without success; frame k of an episode is grey 20 + 30 k."""
    writer = DatasetWriter(DatasetSpec(root, fps, "grasp", "so101"))
    for episode, rewards in REWARDS.items():
        count = len(rewards)
        with writer.episode(episode, count) as rows:
            for frame in range(count):
                rows.image("wrist", np.full((64, 64, 3), 20 + 30 * frame, np.uint8))
            columns = {
                "observation.state": np.arange(count, dtype=np.float32)[:, None] + np.zeros(18, np.float32),
                "action": np.full((count, 4), 0.5, np.float32),
                "next.reward": np.array(rewards, np.float32),
            } | changed
            rows.rows({key: value[:count] for key, value in columns.items()}, report={"source": source, "bag": "x"})
    writer.finish(len(REWARDS), report or {})
    if labelled:
        (root / LABELS).write_text("")
    return root


def restored(run):
    return list(Intake(run, TASK).restore())


def test_successful_episodes_become_demonstrations_that_end_with_their_success(tmp_path):
    facts = import_dataset(make(tmp_path / "set"), tmp_path / "run", TASK)
    assert (facts.episodes, facts.failed, facts.steps) == (2, 1, 5 + 6)
    steps = restored(tmp_path / "run")
    assert [step.sequence for step in steps] == list(range(1, 12))
    first, second = steps[:5], steps[5:]
    assert [step.reward for step in first] == [0.0, 0.0, 0.0, 1.0, None]
    # The last row's reward is about an image that is not in the dataset: a terminal observation is never looked at.
    assert [step.reward for step in second] == [0.0, 0.0, 0.0, 0.0, 1.0, None]
    for episode in (first, second):
        assert [step.index for step in episode] == list(range(len(episode)))
        assert episode[-1].is_terminal and episode[-1].success and episode[-1].action is None
        assert all(step.intervention and step.mode is Mode.DEMONSTRATION for step in episode[:-1])
    assert {step.run_id for step in steps} == {""}
    for step in first:
        assert step.state[0] == step.index
        assert step.images["wrist"].mean() == pytest.approx(20 + 30 * step.index, abs=2)
    np.testing.assert_array_equal(first[0].action, np.full(4, 0.5, np.float32))


def test_the_task_is_the_one_that_the_dataset_was_recorded_with(tmp_path, capsys):
    """A station's task is not the simulation's, and nobody should have to say which it was."""
    report = {"task": TASK.as_dict()}
    assert main(["import-dataset", str(make(tmp_path / "set", report=report)), "--run", str(tmp_path / "run")]) == 0
    payloads = [payload for _, payload in StepLog(tmp_path / "run/demonstrations").records()]
    assert {deserialize_message(payload, StepMessage).task_digest for payload in payloads} == {TASK.digest()}
    report["task"]["wings"] = 2
    damaged = make(tmp_path / "damaged", report=report)
    assert main(["import-dataset", str(damaged), "--run", str(tmp_path / "other")]) == 2
    assert "conversion.json names a task that cannot be" in capsys.readouterr().err


def test_labels_are_about_the_image_they_stand_beside(tmp_path):
    import_dataset(make(tmp_path / "set", labelled=True), tmp_path / "run", TASK)
    first = restored(tmp_path / "run")[:4]
    assert [step.reward for step in first] == [0.0, 0.0, 1.0, None]
    assert first[-1].state[0] == 3, "the first frame with the label is the last observation"


def test_a_classifier_has_to_agree(tmp_path, monkeypatch):
    artifact = SimpleNamespace(identity="judge 123")

    def judge(found, frames):
        assert found is artifact
        brightness = frames["wrist"].mean(axis=(1, 2, 3))
        return SimpleNamespace(success=(brightness < 25) | (brightness > 135))  # frame 0, wrongly; frame 4 and on

    monkeypatch.setattr("reward_classifier_node.api.judge_frames", judge)
    facts = import_dataset(make(tmp_path / "set", labelled=True), tmp_path / "run", TASK, artifact)
    assert (facts.episodes, facts.failed, facts.classifier) == (2, 1, "judge 123")
    steps = restored(tmp_path / "run")
    assert [step.reward for step in steps] == 2 * [0.0, 0.0, 0.0, 1.0, None]


def test_a_dataset_v21_is_taken_too(tmp_path):
    facts = import_dataset(as_v21(make(tmp_path / "set"), tmp_path / "old"), tmp_path / "run", TASK)
    assert (facts.episodes, facts.failed, facts.steps) == (2, 1, 9)  # nothing says that rewards are about later images
    assert facts.dataset == str(tmp_path / "old_v30")
    assert [step.reward for step in restored(tmp_path / "run")[:4]] == [0.0, 0.0, 1.0, None]


def lerobot_states(count):
    """States (count, S) as LeRobot records them: degrees, the gripper from 0 to 100, pose angles of another convention."""
    joints = np.array([10.0, -90.0, 80.0, 40.0, 90.0, 50.0], np.float32)
    return np.tile(np.concatenate([joints, joints / 10, np.full(6, 7.0, np.float32)]), (count, 1))


def test_states_in_lerobots_units_become_radians_with_the_pose_of_their_joints(tmp_path):
    root = make(tmp_path / "set", **{"observation.state": lerobot_states(6)})
    import_dataset(root, tmp_path / "run", TASK, joint_units="lerobot")
    state = restored(tmp_path / "run")[0].state
    low, high = joint_limits()["gripper"]
    expected = [*np.radians([10, -90, 80, 40, 90]), (low + high) / 2]
    np.testing.assert_allclose(state[:6], expected, atol=1e-6)
    np.testing.assert_allclose(state[6:12], [*np.radians([1, -9, 8, 4, 9]), 0.05 * (high - low)], atol=1e-6)
    pose = Kinematics(urdf_path(), TASK.joints).forward(np.array(expected))
    np.testing.assert_allclose(state[12:], [*pose.position, *pose.euler], atol=1e-5)


def test_states_in_other_units_are_refused_with_the_option_that_reads_them(tmp_path, capsys):
    root = make(tmp_path / "set", **{"observation.state": lerobot_states(6)})
    task = tmp_path / "task.yaml"
    task.write_text(json.dumps({"/**": {"ros__parameters": {"task": {"image_size": 64}}}}))
    words = ["import-dataset", str(root), "--run", str(tmp_path / "run"), "--task", str(task)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "shoulder_lift at 90 rad with --joint-units rad, more than a whole turn" in said
    assert "need --joint-units lerobot" in said and not (tmp_path / "run").exists()
    assert main([*words, "--joint-units", "lerobot"]) == 0


def test_the_systems_count_what_was_imported(tmp_path):
    import_dataset(make(tmp_path / "set"), tmp_path / "run", TASK)
    for wanted, left, total in ((2, 0, 2), (5, 3, 5), (0, 0, 2)):
        specs = {spec.name: spec for spec in nodes_of("train", {"run": str(tmp_path / "run"), "demonstrations": str(wanted)})}
        assert specs["actor"].parameters["demonstrations"] == left
        assert specs["learner"].parameters["training.demonstrations"] == total


def test_a_failed_import_leaves_nothing_and_a_second_replaces_the_first(tmp_path, monkeypatch):
    run = tmp_path / "run"
    import_dataset(make(tmp_path / "set"), run, TASK)
    monkeypatch.setitem(REWARDS, 1, [0, 1, 1, 1])
    assert import_dataset(make(tmp_path / "again"), run, TASK).episodes == 3
    before = restored(run)

    def broken(step, task):
        raise OSError(28, "No space left on device", "here")

    monkeypatch.setattr(demonstrations, "_payload", broken)
    with pytest.raises(CommandError, match="here: No space left on device"):
        import_dataset(tmp_path / "set", run, TASK)
    assert [path.name for path in run.iterdir() if path.name != "journal"] == ["demonstrations"]
    assert len(restored(run)) == len(before)
    assert imported(run).episodes == 3


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"action": np.zeros((6, 6), np.float32)},
            r"action of .* has shape \[6\], expected \[4\] .*make it with reach-grasp record",
        ),
        ({"observation.state": np.zeros((6, 6), np.float32)}, r"observation.state of .* has shape \[6\], expected \[18\]"),
        ({"next.reward": np.zeros(6, np.float32)}, r"no episode of .* holds a success: label it first"),
        ({"fps": 30}, r"has 30 frames a second, expected the task's 10"),
        ({"action": np.full((6, 4), 5.0, np.float32)}, r"action \[5.0, .* leaves \[-1, 1\]"),
    ],
)
def test_a_dataset_that_does_not_fit_is_one_sentence(tmp_path, changed, sentence):
    root = make(tmp_path / "set", **changed)
    with pytest.raises(CommandError, match=sentence):
        import_dataset(root, tmp_path / "run", TASK)
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_begun_keeps_its_demonstrations(tmp_path, capsys):
    root, run = make(tmp_path / "set"), tmp_path / "run"
    (run / "journal").mkdir(parents=True)
    (run / "journal" / "000000000001.steps").touch()
    assert main(["import-dataset", str(root), "--run", str(run)]) == 2
    assert "000000000001.steps is there): name the folder of a new run" in capsys.readouterr().err
    assert main(["import-dataset", str(tmp_path / "none"), "--run", str(tmp_path / "new")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_the_command_says_what_comes_next(tmp_path, capsys):
    task = tmp_path / "task.yaml"
    values = {"camera_sizes": [64, 64], "crops": [0, 0, 64, 64], "image_size": 64}
    task.write_text(json.dumps({"/**": {"ros__parameters": {"task": values}}}))
    words = ["import-dataset", str(make(tmp_path / "set")), "--run", str(tmp_path / "run"), "--task", str(task)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "2 demonstrations, 11 steps" in said and "1 episodes without success left out" in said
    assert f"next: reach-grasp train --run {tmp_path / 'run'} --demonstrations 2" in said
