# SPDX-License-Identifier: Apache-2.0
"""The demo over real ROS with nodes that only pretend to learn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reach_grasp import command
from reach_grasp.demo.settings import DemoSettings
from reach_grasp.running.folder import open_folder

FAKE = Path(__file__).with_name("fake_nodes.py")
REPORT_FIELDS = [
    "seed",
    "success_rate",
    "eval_episodes",
    "robot_minutes",
    "wall_minutes",
    "env_steps",
    "episodes",
    "demonstrations",
    "interventions",
    "intervention_rate",
    "updates",
    "updates_per_second",
    "ticks_per_second",
    "steps_sent",
    "steps_received",
    "steps_duplicated",
    "policy_versions_published",
    "policy_versions_applied",
    "versions",
    "classifier",
    "dataset",
]
IMPORTED = {"dataset": "here", "episodes": 3, "failed": 2, "steps": 90}
CLASSIFIER = {
    "heldout_accuracy": 0.995,
    "heldout_precision": 0.999,
    "heldout_recall": 0.97,
    "heldout_frames": 400,
    "threshold": 0.9,
    "target_reached": True,
    "head_only": {"accuracy": 0.9, "precision": 0.8, "recall": 0.7, "threshold": 0.5},
    "train_seconds": 80.0,
}
DATASET = {"convert_frames_per_second": 900.0, "episodes": 5, "frames": 200, "positive": 95}


@pytest.fixture
def fake_system(prefix):
    """The packages of the nodes, replaced."""
    for package, name in (("hilserl_actor", "actor"), ("hilserl_learner", "learner")):
        words = f"[{sys.executable!r}, {str(FAKE)!r}, {name!r}, *sys.argv[1:]]"
        prefix.add(package, f"{name}_node", f"os.execv({sys.executable!r}, {words})")
    stay = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nwhile True: signal.pause()"
    for name in ("sim_node", "operator_node"):
        prefix.add("so101_sim", name, stay)
    prefix.add("reward_classifier_node", "reward_classifier_node", stay)
    return prefix


def prepare(output: Path) -> None:
    """The folder of a demo in which everything before the training was done."""
    with open_folder(output, DemoSettings(minutes=0.5, demonstrations=3, eval_episodes=12)) as folder:
        folder.state |= {"imported": IMPORTED, "classifier": CLASSIFIER, "dataset": DATASET}
        folder.file("demonstrations", "imported.json").write_text(json.dumps(IMPORTED))
        folder.file("classifier", "any").touch()
        for name in ("recording", "dataset", "classifier", "import"):
            folder.complete(name)


def demo(output: Path, *more: str) -> subprocess.Popen[str]:
    words = ["--output", str(output), "--minutes", "0.5", "--demonstrations", "3", "--eval-episodes", "12", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "reach_grasp.command", "demo", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_an_interrupted_demo_goes_on_and_ends_with_a_report(fake_system, tmp_path, wait_for):
    output = tmp_path / "demo"
    prepare(output)
    first = demo(output)
    history = output / "history" / "episodes.jsonl"
    assert wait_for(lambda: first.poll() is not None or (history.is_file() and "training" in history.read_text()))
    assert first.poll() is None, first.communicate()[0]
    second = demo(output)
    text = second.communicate(timeout=30)[0]
    assert second.returncode == 2
    assert f"reach-grasp: another demo is running in {output}; wait for it or use --output" in text
    first.send_signal(signal.SIGINT)
    text = first.communicate(timeout=60)[0]
    assert first.returncode == 130, text
    assert text.splitlines()[-1].startswith("go on with: reach-grasp demo ")
    assert not (output / "report.json").exists()
    early = len(history.read_text().splitlines())

    for folder in output.rglob("fake.json"):
        folder.with_name("go").touch()
    third = demo(output, "--resume")
    text = third.communicate(timeout=120)[0]
    assert third.returncode == 0, text
    assert "resumed" in text and "evaluation" in text
    assert "success   11 of 12 fresh episodes = 91.7 %" in text
    report = json.loads((output / "report.json").read_text())
    assert [name for name in REPORT_FIELDS if name not in report] == []
    assert report["eval_episodes"] == 12
    assert report["final"]["successes"] == report["bc_only"]["successes"] == 11
    assert report["ticks_ratio"] == pytest.approx(0.5)
    assert report["env_steps"] == 300
    assert report["demonstrations"] == 3
    assert report["steps_sent"] == report["steps_received"] > 300
    assert report["updates"] == 2 * report["steps_sent"]
    assert report["sittings"] == 3
    assert report["classifier"]["heldout_recall"] == 0.97 and report["classifier"]["judged_episodes"] == 0
    assert report["dataset"] == DATASET
    assert report["learner_rss_mb"] == 500
    assert len(history.read_text().splitlines()) > early
    page = (output / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 2
    assert "11 of 12 grasps" in page

    # A finished run is moved aside by the next one, never overwritten.
    fourth = demo(output, "--reward", "simulation")
    assert wait_for(lambda: (tmp_path / "demo.1" / "report.json").is_file(), 30)
    os.killpg(fourth.pid, signal.SIGTERM)
    fourth.communicate(timeout=60)


def evaluate(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> int:
    """The exit status of an evaluation of 12 episodes into `folder`/run."""
    checkpoint = folder / "000100"
    checkpoint.mkdir()
    (checkpoint / "config.json").touch()
    monkeypatch.setenv("ROS_DOMAIN_ID", os.environ.get("ROS_DOMAIN_ID", "97"))
    words = [f"checkpoint:={checkpoint}", f"run:={folder / 'run'}", "episodes:=12", "namespace:=left", *more]
    monkeypatch.setattr(sys, "argv", ["reach-grasp", "eval", *words])
    return command.main()


def test_eval_ends_by_itself_with_its_result(fake_system, tmp_path, capfd, monkeypatch):
    assert evaluate(monkeypatch, tmp_path) == 0
    said = capfd.readouterr()
    assert "11 of 12 = 91.7 % (95 %: " in said.out
    assert said.err == "", "name:=value is ours, not a ROS remapping"
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (result["successes"], result["success_ticks_mean"], len(result["episode"])) == (11, 10.0, 12)


def test_an_evaluation_that_nobody_judged_names_no_percentage(fake_system, tmp_path, capfd, monkeypatch):
    """Before, the evaluation printed "0 of 3 = 0 %" and ended with exit status 0."""
    assert evaluate(monkeypatch, tmp_path, "judge:=person") == 1
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("no result: nobody judged any of the 12 episodes; say success or failure by key") and "%" not in last
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (result["judged"], result["unjudged"], result["success_rate"]) == (0, 12, None)


@pytest.mark.parametrize(
    ("judge", "result"), [("person", "no result: nobody judged any of the 3 episodes"), ("simulation", "3 of 3 =")]
)
def test_an_evaluation_whose_nodes_end_keeps_what_it_has(fake_system, tmp_path, capfd, monkeypatch, judge, result):
    """Before, what had been evaluated was lost, and the exit status was that of a wrong option."""
    monkeypatch.setenv("FAKE_ACTOR_ENDS_AFTER", "3")
    assert evaluate(monkeypatch, tmp_path, f"judge:={judge}") == 1
    said = capfd.readouterr().out.splitlines()
    assert said[-3].startswith("the evaluation ended early: the policy is gone (see ")
    assert said[-2] == "stopped after 3 of 12 episodes" and said[-1].startswith(result)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["episodes"] == 3


def test_a_node_that_refuses_ends_the_demo_with_its_sentence(fake_system, tmp_path):
    fake_system.add("hilserl_learner", "learner_node", "print('[FATAL] [1.0] [learner]: no room for the replay')\nsys.exit(2)")
    prepare(tmp_path / "demo")
    run = demo(tmp_path / "demo")
    text = run.communicate(timeout=60)[0]
    assert run.returncode == 2
    assert "reach-grasp: no room for the replay (see " in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--minutes", "0"], "--minutes is 0, allowed is a number from 0.05 to 100000.0"),
        (["--domain", "300"], "--domain is 300, allowed is a whole number from 1 to 98"),
        (["--output", "/proc/nothing/demo"], "/proc/nothing/demo cannot be made"),
        (["--resume", "--output", "NEW"], "holds no unfinished demo with these settings"),
    ],
)
def test_wrong_options_are_one_sentence(words, sentence, tmp_path, capsys):
    words = [str(tmp_path / "new") if word == "NEW" else word for word in words]
    assert command.main(["demo", "--output", str(tmp_path / "demo"), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_training_ends_when_its_steps_are_taken_and_says_what_is_next(fake_system, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "go").touch()
    words = ["train", "--run", str(tmp_path / "run"), "--steps", "40", "--demonstrations", "2"]
    assert command.main(words) == 0
    said = capfd.readouterr().out
    last = tmp_path / "run" / "checkpoints" / "last"
    assert f"40 steps are taken and learned from: {tmp_path / 'run'}\n" in said
    assert f"next: reach-grasp eval --checkpoint {last}" in said and last.is_dir(), "the nodes ended in order"
    fake_system.add("hilserl_actor", "actor_node", "sys.exit(2)")
    assert command.main(words) == 2
