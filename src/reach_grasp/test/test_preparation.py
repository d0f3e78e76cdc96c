# SPDX-License-Identifier: Apache-2.0
"""From a demo's bags to its labelled dataset, also where an earlier sitting was killed on the way."""

from __future__ import annotations

import io

from dataset_recorder.check import check
from dataset_recorder.testing import bags
from reach_grasp.demo.preparation import Dataset
from reach_grasp.demo.progress import TimeLeft
from reach_grasp.demo.settings import DemoSettings
from reach_grasp.running.display import Display
from reach_grasp.running.folder import open_folder

SETTINGS = DemoSettings(minutes=0.5, demonstrations=1)


def record(folder):
    """A bag of eight steps: the cube is held in the last two frames that a step begins with, and in the one after."""
    steps = bags.episode(8)
    stamps = [step.header.stamp.sec * 10**9 + step.header.stamp.nanosec for step in steps]
    said = [("/steps", bags.STEP, ns, step) for ns, step in zip(stamps, steps, strict=True)]
    for index, ns in enumerate(stamps):
        held = index >= 6
        truth = bags.message(
            bags.REWARD, header=bags.header(ns), probability=float(held), reward=0.0, success=False, artifact="simulation"
        )
        said.append(("/truth", bags.REWARD, ns, truth))
    bags.write_bag(folder / "recording/bags/run/000000", sorted(said, key=lambda item: item[2]))


def prepared(path):
    """What a sitting leaves: the demo's notes on its dataset."""
    with open_folder(path, SETTINGS) as folder:
        Dataset(folder, Display(io.StringIO()), TimeLeft(folder.settings)).run()
        return dict(folder.state["dataset"])


def test_a_sitting_that_was_killed_before_it_noted_the_dataset_converts_again(tmp_path):
    path = tmp_path / "demo"
    with open_folder(path, SETTINGS):
        record(path)
        (path / "dataset/meta").mkdir(parents=True)
        (path / "dataset/meta/info.json").write_text("{}")  # half a dataset
    found = prepared(path)
    assert found["episodes"] == 1 and found["positive"] == 2
    assert check(path / "labelled") == []


def test_a_sitting_that_was_killed_while_labelling_labels_again_and_does_not_convert(tmp_path):
    path = tmp_path / "demo"
    with open_folder(path, SETTINGS):
        record(path)
    first = prepared(path)
    (path / "labelled/meta/info.json").unlink()
    assert prepared(path) == first
    assert check(path / "labelled") == []
