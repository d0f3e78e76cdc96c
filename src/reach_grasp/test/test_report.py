# SPDX-License-Identifier: Apache-2.0
"""The numbers of a report, and a page that needs nothing but itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from reach_grasp import command
from reach_grasp.demo.settings import DemoSettings
from reach_grasp.report.numbers import evaluation_numbers, wilson
from reach_grasp.report.page import duration, number, percent
from reach_grasp.report.plots import rolling
from reach_grasp.running.folder import open_folder


def episode(mode: str, number: int, success: bool, ticks: int, end: int) -> dict:
    return {
        "mode": mode, "number": number, "success": success, "ticks": ticks, "interventions": 2 if mode == "training" else 0,
        "end_step": end, "seed": 100 + number, "policy_version": 1, "reward": float(success),
    }  # fmt: skip


@pytest.fixture
def finished(tmp_path):
    """The folder of a demo that needs only its report."""
    with open_folder(tmp_path / "demo", DemoSettings(seed=5, minutes=1.0)) as folder:
        folder.append("episodes", episode("demonstration", 0, True, 30, 30))
        for i in range(40):
            folder.append("episodes", episode("training", i, i > 10, 15, 15 * (i + 1)))
            metrics = {"critic_loss": 1.0 / (i + 1), "weird/name": "text", "<b>": float("nan")}
            record = {"optimization_step": 30 * i, "steps_received": 641, "policy_version": 9, "metrics": metrics}
            folder.append("learner", record)
        for name, wins, ticks in (("imitation", 8, 30), ("final", 10, 12)):
            for i in range(10):
                folder.append(f"evaluation_{name}", episode("evaluation", i, i < wins, ticks, ticks * (i + 1)))
        folder.state |= {"done": ["training", "evaluation"], "phases": {"training": 60.0, "evaluation": 30.0}}
        folder.state["dataset"] = {"convert_frames_per_second": 900.0, "episodes": 5, "frames": 200, "positive": 95}
        folder.state["actor"] = {"steps": 600, "interventions": 80, "sequence": 641, "episodes_done": 40, "run_id": "r"}
        folder.save()
    return tmp_path / "demo"


def test_wilson_agrees_with_published_values():
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(100, 100) == (pytest.approx(0.9630, abs=1e-4), 1.0)
    assert wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)


def test_ticks_are_those_of_successes():
    found = evaluation_numbers([{"success": True, "ticks": 10}, {"success": False, "ticks": 100}])
    assert found["success_ticks_mean"] == 10
    assert evaluation_numbers([{"success": False, "ticks": 100}])["success_ticks_mean"] is None


def test_the_report_command_writes_numbers_and_page(finished, capsys):
    assert command.main(["report", str(finished)]) == 0
    assert "success   10 of 10 fresh episodes = 100 % (95 %: 72.2 % to 100 %)" in capsys.readouterr().out
    report = json.loads((finished / "report.json").read_text())
    assert report["ticks_ratio"] == pytest.approx(0.4)
    assert report["bc_only"]["success_rate"] == 0.8
    assert report["intervention_rate"] == pytest.approx(80 / 600)
    assert report["robot_minutes"] == 1.0
    assert report["wall_minutes"] == 1.5
    assert report["ticks_per_second"] == 10.0
    assert [row["success"] for row in report["evaluation"]["imitation"]] == [True] * 8 + [False] * 2
    page = (finished / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "10 of 10 grasps" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "the page must hold everything itself"
    assert "<b>" not in re.sub(r"<b>[^<]*</b>", "", page), "a metric's name must be escaped"
    HTMLParser().feed(page)


def test_a_demo_that_did_not_finish_is_one_sentence(finished, tmp_path, capsys):
    state = json.loads((finished / "demo.json").read_text())
    state["done"] = ["training"]
    (finished / "demo.json").write_text(json.dumps(state))
    assert command.main(["report", str(finished)]) == 2
    assert "is not finished; run it again with the same settings" in capsys.readouterr().err
    assert command.main(["report", str(tmp_path)]) == 2
    assert "holds no demo" in capsys.readouterr().err


def test_words_for_numbers():
    assert [percent(value) for value in (0.95, 0.917, 1.0)] == ["95 %", "91.7 %", "100 %"]
    assert number(12345.6) == "12\u202f346" and number(None) == "–" and number(1.26, 1) == "1.3"
    assert [duration(value) for value in (0.5, 1.0, 10.5)] == ["30 s", "1 min 00 s", "10 min 30 s"]
    assert rolling([0, 1, 1], 2) == [0.0, 0.5, 1.0]
