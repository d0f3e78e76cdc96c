# SPDX-License-Identifier: Apache-2.0
"""reach-grasp estop, and the page that tells a person to type it, with a driver that waits for its arm."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hilserl_ros.testing import Rig, node_command
from reach_grasp.command import main
from reach_grasp.verbs import estop

SAFETY = (Path(__file__).parents[3] / "docs" / "safety.md").read_text()
LONG_S = 60.0


@pytest.fixture
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Rig]:
    """A follower whose arm is not there, or one in each of the namespaces that a test names."""
    monkeypatch.setattr(estop, "CONFIRM_S", LONG_S)
    rig = Rig(7, LONG_S)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(rig.domain))
    for number, place in enumerate(getattr(request, "param", [""])):
        command = node_command("so101_driver", "follower_node", ["port:=nowhere"])
        own = ["-p", f"estop_file:={tmp_path / str(number)}", "-r", f"__ns:=/{place}"] if place else []
        rig.spawn([*command, *own])
    yield rig
    rig.close()


@pytest.mark.parametrize("driver", [["left", "right"]], indirect=True)
def test_a_stop_without_a_namespace_stops_every_driver_and_a_clear_names_the_one_it_could_mean(
    driver: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> set[str]:
        return {place for name, place in driver.node.get_node_names_and_namespaces() if name == "follower"}

    driver.until(lambda: len(found()) == 2, "both drivers")
    monkeypatch.setattr(estop, "_SEEK_S", 10.0)
    assert main(["estop"]) == 0
    said = capsys.readouterr().out
    for place in ("left", "right"):
        assert f"the driver in /{place} confirms: the arm is stopped; 'reach-grasp estop --clear --namespace {place}'" in said
    assert main(["estop", "--clear", "--yes", "--namespace", "left"]) == 0
    driver.processes[1].kill()
    driver.until(lambda: len(found()) == 1, "the other driver to be forgotten")
    monkeypatch.setattr(estop, "CONFIRM_S", 5.0)
    assert main(["estop", "--clear", "--yes"]) == 1
    assert "there is one in /left: 'reach-grasp estop --clear --namespace left'" in capsys.readouterr().out


def documented() -> list[list[str]]:
    """Commands that the safety page tells a person to type, one list of words for each line."""
    blocks = re.findall(r"```bash\n(.*?)```", SAFETY, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_safety_page_stop_and_go_on(driver: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    lines = documented()
    assert lines == [["reach-grasp", "estop"], ["reach-grasp", "estop", "--clear"]] and "ros2 " not in SAFETY
    assert main(lines[0][1:]) == 0
    assert "the driver confirms: the arm is stopped" in capsys.readouterr().out
    state = list((Path(os.environ["XDG_STATE_HOME"]) / "reach-grasp" / "estop").glob("follower-*"))
    assert len(state) == 1 and state[0].read_text().startswith("emergency stop by a message")
    assert main([*lines[1][1:], "--yes"]) == 0
    assert "cleared: " in capsys.readouterr().out and state[0].read_text() == "clear\n"


def test_beside_somebody_elses_driver_a_stop_is_never_called_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Our commands end, but nobody of us knows what that driver does."""
    monkeypatch.setattr(estop, "CONFIRM_S", LONG_S)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    rig = Rig(7, LONG_S)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(rig.domain))
    rig.run("so101_driver", "command_relay_node", [])
    try:
        assert main(["estop"]) == 1
        said = capsys.readouterr().out
        assert said.startswith("NOT CONFIRMED: our commands no longer reach the arm") and "use the switch" in said
        (state,) = (tmp_path / "reach-grasp" / "estop").glob("relay-*")
        assert state.read_text().startswith("emergency stop by a message")
        assert main(["estop", "--clear", "--yes"]) == 0
        assert "cleared: " in capsys.readouterr().out and state.read_text() == "clear\n"
    finally:
        rig.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["estop"], "NOT CONFIRMED: no driver says that the arm is stopped; use the switch of the arm's supply"),
        (["estop", "--clear", "--yes"], "not cleared: no driver offers /left/follower/estop; start it"),
    ],
)
def test_without_a_driver_nothing_is_confirmed(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estop, "CONFIRM_S", 0.2)
    assert main([*words, "--namespace", "left"]) == 1
    assert said in capsys.readouterr().out


def test_what_is_no_namespace_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estop", "--namespace", "a b"]) == 2
    assert "'a b' is no namespace" in capsys.readouterr().err
