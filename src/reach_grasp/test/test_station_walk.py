# SPDX-License-Identifier: Apache-2.0
"""docs/station.md from step 4 on, then docs/tutorial-station.md, as printed, on the twin: from the doctor to an evaluation.

The twin's scripted hand is the person at leader and keys. Who types, and moves arms to calibrate and to try them, is here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from shell import Terminal

from so101_sim.station import calibrating
from so101_sim.station.channel import RemoteHands

DOCS = Path(__file__).parents[3] / "docs"
STATION, TUTORIAL = (DOCS / name for name in ("station.md", "tutorial-station.md"))
FIRST_STEP = "\n4. "

# All that is added to the printed commands, so that the walk is short; files are those of SMALL.
ADDED = {
    "record": "--config station.yaml:small.yaml --demonstrations 2",
    "train-classifier": "--config classifier.yaml",
    "train": "--config station.yaml:small.yaml --demonstrations 2 --steps 30",
    "eval": "--config station.yaml:small.yaml --episodes 1",
}
SMALL = {
    "small.yaml": {
        "/**": {"policy": {"image_encoder_hidden_dim": 4, "latent_dim": 16}},
        "/**/actor": {"hold_ticks": 10},
        "/**/learner": {
            "training": {"encoder_updates": 10, "imitation_updates": 30, "critic_updates": 10},
            "sac": {"batch_size": 32},
        },
    },
    "classifier.yaml": {
        "/**/train_classifier": {
            "classifier": {"trunk_widths": [8, 8, 8, 8], "trunk_updates": 40, "updates": 40, "variants": 0},
        },
    },
    "hand.yaml": {"/**/hand": {"hand": {"reset_s": 0.2}, "person": {"failures_every": 2, "speed": [0.6, 0.6]}}},
}
TWIN = "reach-grasp emulate-station --folder twin --hand scripted --hand-config hand.yaml"
TWIN += " --set arm.hand_velocity_rad_s=12 --set wrist.fps=10"


def sections(page: Path, begin: str = "") -> Iterator[tuple[str, list[str]]]:
    """Steps or chapters of a page that have commands: the text of each, and its commands as printed."""
    text = page.read_text()
    text = text[text.index(begin) :]
    for section in re.split(r"\n(?=\d+\. \*\*|## )", text):
        blocks = re.findall(r"^( *)```bash\n(.*?)^\1```", section, re.MULTILINE | re.DOTALL)
        if commands := [command for _, block in blocks for command in commands_of(textwrap.dedent(block))]:
            yield section, commands


def commands_of(block: str) -> list[str]:
    """A command goes on in the next line behind a backslash, or up to the END of a here-document."""
    return re.findall(r"^(?:.*<<'END'\n(?:.*\n)*?END|(?:.*\\\n)*.+)$", block, re.MULTILINE)


class Walker:
    """Types each command of a page, and does what the page says to do meanwhile."""

    def __init__(
        self,
        terminals: Sequence[Terminal],
        devices: Mapping[str, str],
        hands: RemoteHands,
        wait_for: Callable[..., bool],
    ) -> None:
        """terminals: the second is for what is typed while the first is busy. devices: a station's names to the twin's."""
        self.terminal, self.other = terminals
        self.devices, self.hands, self._wait_for = devices, hands, wait_for
        self._calibrated: set[str] = set()

    def walk(self, section: str, commands: list[str]) -> None:
        """Do one step. What goes on until Ctrl-C is ended when the step is."""
        driving = False
        for command in commands:
            verb = command.split()[1]
            terminal = self.other if driving else self.terminal
            terminal.type(self._on_the_twin(command, verb))
            if verb == "teleop":
                driving = True
                self._drive(section, command)
            elif verb == "calibrate":
                self._calibrate(command.split()[2])
            elif verb == "doctor":
                self._look()
            else:
                if "--clear" in command:
                    terminal.until(r"\[y/N\]")
                    terminal.type("y")
                assert terminal.status() == 0, terminal.said
            if verb == "train":
                assert re.search(r"next: reach-grasp eval .* --sim false --config station.yaml", terminal.said), terminal.said
        if driving:
            assert self.terminal.interrupt() == 130, self.terminal.said

    def _on_the_twin(self, command: str, verb: str) -> str:
        for real, ours in self.devices.items():
            command = command.replace(real, ours)
        assert "/dev/" not in command, f"{command}: a device that emulate-station does not print"
        return f"{command} {ADDED[verb]}" if verb in ADDED else command

    def _look(self) -> None:
        """The doctor finds nothing but what is still to be done."""
        code, said = self.terminal.status(), self.terminal.said
        problems = re.findall(r"^problem +(.*)$", said, re.MULTILINE)
        missing = {"follower", "leader"} - self._calibrated
        assert len(problems) == len(missing), said
        assert all(f"reach-grasp calibrate {arm} --port" in said for arm in missing) and code == bool(missing), said

    def _calibrate(self, arm: str) -> None:
        terminal = self.terminal
        terminal.until(r"Do you hold it\? \[y/N\]")
        terminal.type("y")
        terminal.until("press Enter: ")
        calibrating.move(self.hands, arm, calibrating.middles())
        terminal.type("")
        terminal.until("Press Enter when done.")
        for pose in calibrating.sweep():
            calibrating.move(self.hands, arm, pose)
        terminal.type("")
        terminal.until(r"into the servos\? \[y/N\]")
        terminal.type("y")
        assert terminal.status() == 0, terminal.said
        self.hands.release(arm)
        self._calibrated.add(arm)

    def _drive(self, section: str, command: str) -> None:
        """Wait for what the page says that the panel says; then the follower moves as the person wants."""
        self.terminal.until(re.escape(re.search(r"says `([^`]+)`", section)[1]))
        if "--teleop keyboard" in command:
            keys = ("KEY_LEFTSHIFT", "KEY_LEFT")
            self.hands.down(*keys)
            self._until(lambda joints: joints["follower"]["shoulder_pan"] < -0.3, "the follower to go to the left")
            self.hands.up(*keys)
            return
        self._until(lambda joints: _apart(joints) < 0.1, "the leader to come to the follower")
        goal = self.hands.feel()["leader"]["shoulder_pan"] + 0.5
        self.hands.hold("leader", {"shoulder_pan": goal})
        self._until(lambda joints: joints["follower"]["shoulder_pan"] > goal - 0.1, "the follower to do as the leader does")
        self.hands.release("leader")

    def _until(self, condition: Callable[[Mapping[str, Mapping[str, float]]], bool], what: str) -> None:
        found = self._wait_for(lambda: condition(self.hands.feel()), 60.0)
        assert found, f"waited in vain for {what}: {self.terminal.said[-4000:]}"


def _apart(joints: Mapping[str, Mapping[str, float]]) -> float:
    """Largest difference [rad] between leader and follower in any joint."""
    return max(abs(angle - joints["follower"][joint]) for joint, angle in joints["leader"].items())


@pytest.mark.skipif(
    not Path(sys.prefix, "bin", "reach-grasp").is_file(), reason="the command of the pages is made by make setup"
)
def test_the_pages_run_as_printed_on_the_twin(tmp_path: Path, wait_for: Callable[..., bool]) -> None:
    environment = _environment(tmp_path)
    for name, nodes in SMALL.items():
        (tmp_path / name).write_text(yaml.safe_dump({node: {"ros__parameters": values} for node, values in nodes.items()}))
    (tmp_path / ".venv").symlink_to(sys.prefix)  # the pages are read in the repository
    twin, *terminals = (Terminal(tmp_path, environment) for _ in range(3))
    with twin, terminals[0], terminals[1]:
        twin.type(f"source .venv/bin/activate; {TWIN}")
        twin.until(r"/dev/input/\S+ -> \S+\n")
        devices = dict(re.findall(r"^(/dev/\S+) -> (\S+)$", twin.said, re.MULTILINE))
        assert devices == json.loads((tmp_path / "twin" / "devices.json").read_text())
        with contextlib.closing(RemoteHands(tmp_path / "twin" / "hand")) as hands:
            walker = Walker(terminals, devices, hands, wait_for)
            for section, commands in (*sections(STATION, FIRST_STEP), *sections(TUTORIAL)):
                walker.walk(section, commands)
        assert twin.interrupt() == 0, twin.said
    table = tmp_path / "outputs" / "table"
    assert json.loads((table / "eval" / "evaluation.json").read_text())["judged"] == 1
    assert (table / "run" / "checkpoints" / "last").is_dir()


def _environment(folder: Path) -> dict[str, str]:
    """Everything that a person keeps at home is kept below the folder."""
    own = {"HF_LEROBOT_CALIBRATION": str(folder / "calibration"), "XDG_STATE_HOME": str(folder / "state")}
    return {**os.environ, **own, "ROS_DOMAIN_ID": str(int(os.environ["ROS_DOMAIN_ID"]) + 7)}


@pytest.mark.parametrize("page", [STATION, TUTORIAL])
def test_every_device_of_the_commands_is_in_the_table(page: Path) -> None:
    commands = " ".join(command for _, found in sections(page) for command in found)
    shown = set(re.findall(r"^\| `(/dev/[^`]+)` \|", STATION.read_text(), re.MULTILINE))
    assert set(re.findall(r"/dev/[\w./-]+", commands)) <= shown
