# SPDX-License-Identifier: Apache-2.0
"""reach-grasp convert: what it prints, and its errors in one sentence."""

from __future__ import annotations

import json

import pytest

from dataset_recorder.testing import bags
from reach_grasp.command import main


def test_it_writes_a_dataset_and_says_what_it_found(tmp_path, capsys):
    steps = bags.episode(5) + bags.episode(4, 1, 7)
    bag = bags.write_steps(tmp_path / "bag", [*steps, steps[2]])
    assert main(["convert", str(bag), "--repo-id", "me/set", "--root", str(tmp_path / "set"), "--modes", "demonstration"]) == 0
    printed = capsys.readouterr().out
    assert "2 episodes, 9 frames" in printed and "1 duplicate steps dropped" in printed
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["total_frames"] == 9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["bag", "--fps", "0"], "--fps is 0"),
        (["bag", "--mapping", "none.yaml"], "none.yaml cannot be read"),
        (["bag", "--mapping", "none.yaml", "--fps", "10"], "--modes and --fps are for bags with steps"),
        (["bag", "--modes", "evaluation"], "no episode to convert"),
    ],
)
def test_an_error_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    bags.write_steps(tmp_path / "bag", bags.episode(3))
    assert main(["convert", *arguments, "--repo-id", "me/set"]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed and printed.count("\n") == 1 and "Traceback" not in printed
    assert not (tmp_path / "datasets").exists()


def test_repair_of_a_bag_in_which_nothing_can_be_read_is_no_success_and_loses_nothing(tmp_path, capsys):
    bag = bags.write_steps(tmp_path / "bag", bags.episode(3))
    file = next(bag.glob("*.mcap"))
    torn = file.read_bytes()[:300]
    file.write_bytes(torn)
    assert main(["repair", str(bag)]) == 1
    printed = capsys.readouterr().out
    assert "no message could be read" in printed and "mended" not in printed
    assert torn.endswith((bag / f"{file.name}.cut").read_bytes())


@pytest.mark.parametrize("name", ["mex", "me/", "/set", "me/a/b", "../set", "me/my set"])
def test_the_name_of_a_dataset_needs_an_owner(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    bags.write_steps(tmp_path / "bag", bags.episode(3))
    assert main(["convert", "bag", "--repo-id", name]) == 2
    assert f"--repo-id is {name!r}, expected OWNER/NAME" in capsys.readouterr().err and not (tmp_path / "datasets").exists()


def test_a_folder_that_is_no_checkpoint_is_refused_before_anything_starts(tmp_path, capsys):
    (tmp_path / "run" / "checkpoints" / "last").mkdir(parents=True)
    words = ["eval", "--run", str(tmp_path / "eval"), "--checkpoint"]
    assert main([*words, str(tmp_path / "run")]) == 2
    assert f"is no checkpoint, it holds no pretrained_model: name {tmp_path}/run/checkpoints/last" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "run" / "checkpoints")]) == 2
    assert "is no checkpoint" in capsys.readouterr().err and not (tmp_path / "eval").exists()
