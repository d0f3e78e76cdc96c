# SPDX-License-Identifier: Apache-2.0
"""reach-grasp train-classifier: a dataset in, a classifier and its report out, or one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from hilserl_core.task import TaskSpec
from reach_grasp.command import main
from reward_classifier_node.artifact import read_artifact

SETTINGS = """/**/train_classifier:
  ros__parameters:
    classifier: {trunk_widths: [4, 4, 8, 8], trunk_updates: 2, trunk_batch_size: 4, updates: 4, batch_size: 8, check_every: 2,
      variants: 1, heldout: 0.4, undecided_before: 1, undecided_after: 0}
"""


@pytest.fixture
def dataset(tmp_path):
    features = {
        "observation.images.wrist": {"dtype": "image", "shape": (128, 128, 3), "names": ["height", "width", "channels"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    written = LeRobotDataset.create("test/d", fps=10, features=features, root=tmp_path / "d", use_videos=False)
    for _ in range(4):
        for index in range(6):
            image = np.full((128, 128, 3), 200 if index >= 4 else 50, np.uint8)
            reward = np.array([float(index >= 4)], np.float32)
            written.add_frame({"observation.images.wrist": image, "next.reward": reward, "task": "grasp"})
        written.save_episode()
    written.finalize()
    return tmp_path / "d"


def test_the_command_writes_a_classifier_for_the_simulated_task(dataset, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(SETTINGS)
    assert main(["train-classifier", str(dataset), "--config", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "a")]) == 0
    task = replace(TaskSpec(), camera_sizes=(128, 128), crops=(0, 0, 128, 128))
    facts = read_artifact(tmp_path / "a", task).facts
    assert facts["frames"] == 24 and facts["positive"] == 8 and facts["undecided"] == 4
    assert (tmp_path / "a" / "report.html").is_file()
    printed = capsys.readouterr().out
    assert "head only" in printed
    assert "nothing was measured on failures" in printed  # all four episodes succeeded
    assert "nothing was measured on failures" in (tmp_path / "a" / "report.html").read_text()
    words = ["label", str(dataset), "--review", str(tmp_path / "review"), "--artifact"]
    assert main([*words, str(tmp_path / "a")]) == 0
    pages = [(tmp_path / "review" / f"episode_{n:03d}.html").read_text() for n in range(4)]
    assert [page.count('class="told"') for page in pages] == [6] * 4
    capsys.readouterr()
    assert main(["label", str(dataset), "--review", str(tmp_path / "again"), "--artifact", str(tmp_path / "d")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "d") in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "again").exists()


def test_what_is_wrong_is_one_sentence(dataset, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(SETTINGS.replace("heldout", "heldot"))
    for words, said in (
        ([str(tmp_path / "none")], "is not a LeRobot dataset"),
        ([str(dataset), "--config", str(tmp_path / "c.yaml")], "unknown setting classifier.heldot"),
        ([str(dataset), "--output", str(tmp_path)], "is no classifier"),
    ):
        assert main(["train-classifier", *words]) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.strip().splitlines()) == 1
