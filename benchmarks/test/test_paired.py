# SPDX-License-Identifier: Apache-2.0
"""The comparison of demos that differ in one setting, on made-up reports."""

import json
import math
import sys

import pytest

from benchmarks import paired
from benchmarks.paired import compare, paired_interval, text
from reach_grasp.demo.settings import DemoSettings


def test_the_interval_of_paired_proportions():
    low, middle, high = paired_interval([(True, True)] * 90 + [(True, False)] * 6 + [(False, True)] * 2 + [(False, False)] * 2)
    # Cells with half a pair more: 6.5 and 2.5 of 102.
    centre, width = (2.5 - 6.5) / 102, 1.959964 * math.sqrt((6.5 + 2.5) - (2.5 - 6.5) ** 2 / 102) / 102
    assert (low, middle, high) == pytest.approx((centre - width, -0.04, centre + width))
    low, middle, high = paired_interval([(True, True)] * 50)
    assert middle == 0.0 and low == -high < 0.0, "no difference seen is not no difference"


def report(seed, successes, false=0, **settings):
    return {
        "settings": DemoSettings(seed=seed, eval_episodes=len(successes), **settings).as_dict(),
        "seed": seed, "success_rate": sum(successes) / len(successes), "wall_minutes": 1.0, "ticks_ratio": 0.6,
        "evaluation": {"final": [{"success": success} for success in successes]},
        "classifier": {"judged_episodes": 300, "false_successes": false, "missed_successes": 1},
    }  # fmt: skip


def test_worlds_are_compared_one_by_one():
    reports = {
        "simulation": [report(0, [True] * 9 + [False]), report(1, [True] * 10)],
        "classifier": [report(0, [False] + [True] * 9, 2), report(1, [True] * 10)],
    }
    found = compare(reports)
    assert found["successes"] == {"simulation": 19, "classifier": 19}
    assert found["difference"] == 0.0 and found["difference_interval"][1] > 0.05
    judged = found["classifiers"]["classifier"]
    assert (judged["training_episodes"], judged["false_successes"], judged["missed_successes"]) == (600, 2, 2)
    assert "classifier false success in 2 of 600 training episodes = 0.33 %" in text(found)


def test_a_setting_whose_demos_have_no_classifier_is_compared_by_success_alone():
    without = {**report(0, [True, False]), "classifier": None}
    found = compare({"simulation": [without], "classifier": [report(0, [True, True], 1)]})
    assert found["difference"] == 0.5
    assert list(found["classifiers"]) == ["classifier"]


def write(folder, *reports):
    """Reports where the comparison of drivers looks for them."""
    for content in reports:
        place = folder / f"{content['settings']['driver']}-{content['seed']}"
        place.mkdir()
        (place / "report.json").write_text(json.dumps(content))


def run(monkeypatch, folder):
    words = ["--compare", "driver", "--seeds", "0", "1", "--episodes", "4", "--output", str(folder)]
    monkeypatch.setattr(sys, "argv", ["paired", *words])
    return paired.main()


def test_finished_demos_are_read_and_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paired.subprocess, "run", lambda *_, **__: pytest.fail("a demo was run"))
    write(tmp_path, *(report(seed, [True] * 4) for seed in (0, 1)), report(0, [True] * 4, driver="bus"))
    write(tmp_path, report(1, [True, True, True, False], driver="bus"))
    assert run(monkeypatch, tmp_path) == 0
    shown = capsys.readouterr().out
    assert "none       8 of 8 (seed 0 100.0 %, seed 1 100.0 %)\nbus        7 of 8" in shown
    assert "difference -12.50 points" in shown
    assert json.loads((tmp_path / "paired_driver.json").read_text())["successes"] == {"none": 8, "bus": 7}


def test_a_missing_demo_is_run_with_its_settings(tmp_path, monkeypatch):
    asked = []

    def demo(words, check):
        options = dict(zip(words[4::2], words[5::2], strict=True))
        asked.append(options)
        write(tmp_path, report(int(options["--seed"]), [True] * 4, driver=options["--driver"]))

    monkeypatch.setattr(paired.subprocess, "run", demo)
    assert run(monkeypatch, tmp_path) == 0
    assert [(options["--driver"], options["--seed"]) for options in asked] == [
        ("none", "0"), ("bus", "0"), ("none", "1"), ("bus", "1"),
    ]  # fmt: skip
    assert {(options["--reward"], options["--eval-episodes"]) for options in asked} == {("classifier", "4")}
    assert asked[1]["--output"] == str(tmp_path / "bus-0")


def test_a_demo_of_other_settings_is_not_compared(tmp_path, monkeypatch):
    write(tmp_path, report(0, [True] * 4, reward="simulation"))
    with pytest.raises(SystemExit, match="none-0 holds a demo of other settings"):
        run(monkeypatch, tmp_path)
