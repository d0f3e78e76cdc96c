# SPDX-License-Identifier: Apache-2.0
"""The display of a system in the terminal, and the last words of a system that is stopped."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from hilserl_interfaces.msg import EpisodeStatus, LearnerStatus, Reward, Step
from reach_grasp.running import scene as scenes
from reach_grasp.running.display import Display, Snapshot, Turn
from reach_grasp.running.episodes import Episode
from reach_grasp.running.problems import LOGGED_S, SILENT_S, Problem, Problems
from reach_grasp.running.scene import Scene

SNAPSHOT = Snapshot(
    stage="training",
    detail="120 of 6000 steps",
    progress=0.02,
    number=4,
    stages=4,
    turn=Turn.PERSON,
    task="put the cube back, then press F5",
    fields=(("phase", "waits until you are ready"), ("drives", "nobody"), ("episode", "7, tick 0 of 100"), ("updates/s", "43")),
    waits="no progress for 0:14: waits for you",
    problems=(
        Problem("follower", "servo 3: overload " + "x" * 200, True, 3.0),
        Problem("wrist_camera", "no frame", False, 65.0),
    ),
    title="reach-grasp train  outputs/train",
    log="outputs/train/train.log",
)  # fmt: skip


def shown(snapshot: Snapshot, width: int) -> Console:
    console = Console(file=io.StringIO(), width=width, record=True, force_terminal=True, color_system="truecolor")
    console.print(snapshot.panel(width))
    return console


@pytest.mark.parametrize("width", [80, 160])
def test_the_panel_fills_the_terminal(width):
    console = shown(SNAPSHOT, width)
    lines = console.export_text(clear=False).splitlines()
    assert {len(line) for line in lines} == {width}
    assert len(lines) <= 24, "a small terminal holds it"
    text = "\n".join(lines)
    for part in ("stage 4 of 4  training", "120 of 6000 steps", "▶ YOU: put the cube back, then press F5", SNAPSHOT.waits,
                 "✗ follower", "! wrist_camera", "1:05 ago", "…", "Ctrl-C stops; log: outputs/train/train.log"):  # fmt: skip
        assert part in text
    rows = [line for line in lines if any(label in line for label, _ in SNAPSHOT.fields)]
    assert len(rows) == 2 and all(value in "".join(rows) for _, value in SNAPSHOT.fields)
    assert "put the cube back" in console.export_svg(title="panel").replace("&#160;", " ")


def test_nothing_but_the_persons_turn_stands_on_colour():
    for turn in Turn:
        styled = shown(replace(SNAPSHOT, turn=turn), 80).export_text(styles=True)
        (line,) = (line for line in styled.splitlines() if "put the cube back" in line)
        assert ("30;43m" in line) is (turn is Turn.PERSON), "black on yellow"
        assert ("37;41m" in line) is (turn is Turn.HOLD), "white on red"


def test_without_a_terminal_there_are_plain_lines_and_not_too_many():
    output, calm = io.StringIO(), replace(SNAPSHOT, turn=Turn.SYSTEM, problems=(), waits="")
    with Display(output) as display:
        for _ in range(50):
            display.show(calm)
        display.show(SNAPSHOT)
        display.show(SNAPSHOT)
        display.show(replace(calm, stage="evaluation"))
        display.say("done")
    lines = output.getvalue().splitlines()
    assert "\x1b" not in output.getvalue() and len(lines) == 6
    assert lines[0].startswith("training 2%, 120 of 6000 steps, phase waits until you are ready, drives nobody")
    assert lines[1].startswith("error: follower: servo 3: overload") and lines[2] == "warning: wrist_camera: no frame"
    assert "▶ YOU: put the cube back" in lines[3] and "no progress for 0:14" in lines[3]
    assert lines[4].startswith("evaluation") and lines[5] == "done"


def test_a_pipe_without_a_reader_ends_the_display():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as output, Display(output) as display:
        display.show(SNAPSHOT)
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            display.show(SNAPSHOT)


def test_a_problem_stays_as_long_as_it_is_there():
    problems = Problems()
    problems.diagnose("follower: servo 3", "overload", False, 0.0)
    problems.diagnose("follower: servo 3", "overload", False, 5.0)
    assert problems.current(5.0) == [Problem("follower", "servo 3: overload", False, 5.0)]
    problems.diagnose("follower: servo 3", "status 0", None, 6.0)
    assert problems.current(6.0) == []
    problems.diagnose("leader: arm", "limp", True, 7.0)
    assert problems.current(7.0 + SILENT_S + 0.1) == [], "its node is gone"


def test_each_node_has_one_line_its_newest_error_first():
    problems = Problems()
    problems.log("actor", "first", True, 0.0)
    problems.log("actor", "second\nline", True, 1.0)
    problems.log("sim", "slow", False, 2.0)
    problems.diagnose("sim: arm", "broken", True, 1.5)
    problems.diagnose("camera: wrist", "dark", False, 3.0)
    found = [(problem.node, problem.text) for problem in problems.current(3.0)]
    assert found == [("sim", "arm: broken"), ("actor", "second line"), ("camera", "wrist: dark")]
    assert [problem.node for problem in problems.current(LOGGED_S + 1.5)] == ["sim"], "what was logged once is forgotten"


def episode(number: int, success: bool) -> Episode:
    return Episode("training", number, success, 50, 10, 50 * (number + 1), number, 3, float(success))


class Heard:
    """A monitor that has heard what it is given."""

    def __init__(self, status: EpisodeStatus | None, learner=None, reward=None, threshold=None, sources=(), recent=()) -> None:
        self.episode, self.learner, self.reward, self.threshold, self.heard_s = status, learner, reward, threshold, 0.0
        self.sources, self.recent, self.problems = (lambda: list(sources)), (lambda: list(recent)), (lambda now_s: [])


@pytest.fixture
def clock(monkeypatch):
    """The time that the scene sees; set its attribute s."""
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(scenes, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


def scene() -> Scene:
    return Scene("reach-grasp train", ("starting", "demonstrations", "imitation", "training"), Path("log"), 100)


def test_the_fields_tell_who_drives_and_who_judges_and_how_it_goes(clock):
    status = EpisodeStatus(mode=Step.MODE_TRAINING, phase=EpisodeStatus.RUNNING, episode=6, index=37, policy_version=9)
    learner = LearnerStatus(phase="pretraining", progress=0.45)
    recent = [episode(i, i % 4 > 0) for i in range(20)]
    reward = Reward(probability=0.31, artifact="classifier 1a2b")
    found = scene().snapshot(Heard(status, learner, reward, 0.87, recent=recent), "training", "", 0.5)
    fields = dict(found.fields)
    assert (found.number, found.stages, found.turn) == (4, 4, Turn.SYSTEM)
    assert fields["drives"] == "policy" and fields["episode"] == "7, tick 37 of 100"
    assert fields["success seen"] == "0.31, needs 0.87"
    assert fields["success, last 20"] == "75%" and fields["help, last 20"] == "20%"
    assert fields["learner"] == "pretraining 45%" and fields["policy version"] == "9"
    recent = [*recent[4:], *(replace(episode(i, False), judged=False) for i in range(4))]
    fields = dict(scene().snapshot(Heard(status, learner, reward, 0.87, recent=recent), "training", "", 0.5).fields)
    assert fields["success, last 20"] == "75%, 4 unjudged"


@pytest.mark.parametrize(
    ("phase", "intervention", "mode", "sources", "drives"),
    [
        (EpisodeStatus.RUNNING, True, Step.MODE_TRAINING, ["leader"], "person, leader"),
        (EpisodeStatus.RUNNING, False, Step.MODE_DEMONSTRATION, [], "nobody"),
        (EpisodeStatus.RUNNING, False, Step.MODE_EVALUATION, [], "policy"),
        (EpisodeStatus.RESETTING, False, Step.MODE_TRAINING, [], "reset motion"),
        (EpisodeStatus.HOLDING, True, Step.MODE_TRAINING, ["leader"], "nobody"),
    ],
)
def test_who_drives(phase, intervention, mode, sources, drives):
    assert scenes.driver(EpisodeStatus(phase=phase, intervention=intervention, mode=mode), sources) == drives


@pytest.mark.parametrize(
    ("phase", "text", "turn", "task"),
    [
        (EpisodeStatus.AWAITING_READY, "put the cube back, then press F5", Turn.PERSON, "put the cube back, then press F5"),
        (EpisodeStatus.AWAITING_VERDICT, "", Turn.PERSON, "say success or failure"),
        (EpisodeStatus.PAUSED, "", Turn.PERSON, "resume, when you are ready"),
        (EpisodeStatus.HOLDING, "no wrist for 1.2 s", Turn.HOLD, "no wrist for 1.2 s"),
        (EpisodeStatus.RUNNING, "hold: 12 ticks left", Turn.INFO, "hold: 12 ticks left"),
        (EpisodeStatus.RUNNING, "", Turn.SYSTEM, "nothing to do"),
        (EpisodeStatus.WAITING, "waiting for the first policy", Turn.SYSTEM, "nothing to do: waiting for the first policy"),
    ],
)
def test_what_the_person_must_do(clock, phase, text, turn, task):
    found = scene().snapshot(Heard(EpisodeStatus(phase=phase, text=text)), "demonstrations", "", 0.0)
    assert (found.turn, found.task) == (turn, task)


@pytest.mark.parametrize(
    ("status", "more", "reason"),
    [
        (None, "", "the first status of the actor"),
        (EpisodeStatus(phase=EpisodeStatus.WAITING, text="waiting for the first policy"), "", "the first policy"),
        (EpisodeStatus(phase=EpisodeStatus.IDLE), "", "the recorder"),
        (EpisodeStatus(phase=EpisodeStatus.AWAITING_READY, text="press F5"), "", "you: press F5"),
        (
            EpisodeStatus(phase=EpisodeStatus.DONE),
            "the recorder to close the bag bags/1",
            "the recorder to close the bag bags/1",
        ),
    ],
)
def test_after_ten_seconds_without_progress_the_reason_is_told(clock, status, more, reason):
    watched, heard = scene(), Heard(status)
    for clock.s in (0.0, 9.9):
        heard.heard_s = clock.s
        assert watched.snapshot(heard, "demonstrations", "0 of 20", 0.0, more).waits == ""
    clock.s = heard.heard_s = 10.0
    assert watched.snapshot(heard, "demonstrations", "0 of 20", 0.0, more).waits == f"no progress for 0:10: waits for {reason}"
    assert watched.snapshot(heard, "demonstrations", "1 of 20", 0.0, more).waits == "", "there was some"


def test_an_actor_that_has_gone_silent_is_what_is_waited_for(clock):
    watched, heard = scene(), Heard(EpisodeStatus(phase=EpisodeStatus.RUNNING))
    watched.snapshot(heard, "training", "", 0.0)
    clock.s = 65.0
    assert watched.snapshot(heard, "training", "", 0.0).waits.endswith("waits for the actor, which was last heard 1:05 ago")


def test_teleoperation_tells_who_drives_and_what_to_mend(clock):
    watched = Scene("reach-grasp teleop", ("starting", "driving"), Path("log"))
    heard = Heard(None)
    heard.told = {}
    found = watched.teleoperation(heard, "gamepad")
    assert (found.stage, found.turn) == ("starting", Turn.SYSTEM)
    heard.told = {"gamepad: input": "the person drives", "follower: arm": "ready", "follower: servo 1": "status 0"}
    found = watched.teleoperation(heard, "gamepad")
    assert (found.stage, found.turn, found.task) == ("driving", Turn.INFO, "take the gamepad and drive")
    assert dict(found.fields) == {"gamepad": "the person drives", "follower": "ready"}
    heard.problems = lambda now_s: [Problem("gamepad", "unplugged", True, 1.0), Problem("follower", "hot", False, 2.0)]
    found = watched.teleoperation(heard, "gamepad")
    assert (found.turn, found.task, found.fields) == (Turn.PERSON, "mend the gamepad: unplugged", ())
    assert [problem.node for problem in found.problems] == ["follower"]


def test_the_short_wait_of_lockstep_for_each_policy_does_not_flicker(clock):
    status = EpisodeStatus(mode=Step.MODE_TRAINING, phase=EpisodeStatus.WAITING, text="waiting for the policy of step 209")
    status.policy_version, status.index = 28, 37
    found = scene().snapshot(Heard(status), "training", "", 0.5)
    assert (found.turn, found.task) == (Turn.SYSTEM, "nothing to do")
    assert dict(found.fields)["phase"] == "running" and dict(found.fields)["drives"] == "policy"


STAY = "import signal, time\nopen({file!r}, 'a').write(str(os.getpid()) + '\\n')\nsignal.pause()"


@pytest.fixture
def training(prefix, tmp_path, wait_for):
    """A started `reach-grasp train` whose nodes do nothing, and the ids of their processes."""
    file = tmp_path / "pids"
    for package, name in (
        ("so101_sim", "sim"),
        ("so101_sim", "operator"),
        ("hilserl_actor", "actor"),
        ("hilserl_learner", "learner"),
    ):
        prefix.add(package, f"{name}_node", STAY.format(file=str(file)))
    process = subprocess.Popen(
        [sys.executable, "-m", "reach_grasp.command", "train", "--run", str(tmp_path / "run"), "--real_time_factor", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def pids() -> list[int]:
        return [int(line) for line in file.read_text().split()] if file.is_file() else []

    assert wait_for(lambda: len(pids()) == 4 or process.poll() is not None) and process.poll() is None
    yield process, pids
    process.kill()
    process.wait()


def test_train_into_a_pipe_that_closes_leaves_nothing_behind(training):
    process, pids = training
    assert process.stdout.readline().startswith("starting 0%, the nodes")
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == ""
    assert not any(psutil.pid_exists(pid) for pid in pids())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_says_what_is_kept_and_how_to_go_on(training, number, code):
    process, pids = training
    assert process.stdout.readline()
    process.send_signal(number)
    told, complained = process.communicate(timeout=30)
    assert process.returncode == code and complained == ""
    lines = told.splitlines()
    assert lines[0] == "stopping: the nodes write what they hold"
    assert lines[1] == "stopped: nothing was done yet"
    assert lines[2].startswith("go on with: reach-grasp train --run ") and lines[2].endswith("--real_time_factor 0")
    assert not any(psutil.pid_exists(pid) for pid in pids())
