# SPDX-License-Identifier: Apache-2.0
"""reach-grasp calibrate, release and doctor, with a person who types at a pseudo-terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reach_grasp.command import main
from so101_driver import bus as driver_bus
from so101_driver import calibrate, motors
from so101_driver.calibration import calibration_folder, read_calibration
from so101_driver.doctor import network, station
from so101_driver.doctor.finding import Finding, Level
from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_arm
from so101_sim.bus.plant import COUNTS_PER_RAD

LONG_S = 60.0


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch) -> Iterator[BusEmulator]:
    """An arm whose driver has all the time there is, and a place of its own for calibrations."""
    monkeypatch.setattr(driver_bus, "_PATIENCE_S", LONG_S)
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path))
    mountings, arm = standard_arm()
    with BusEmulator(arm, mountings, line=INSTANT) as found:
        yield found


class Terminal:
    """What the command sees as its terminal, and a thread that plays the person at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._master, slave = pty.openpty()
        self._slave = os.fdopen(slave, "r")
        self._screen, self._read = "", 0
        monkeypatch.setattr(sys, "stdin", self._slave)
        monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(slave), "w", buffering=1))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self._screen += os.read(self._master, 4096).decode(errors="replace")

    def answer(self, question: str, words: str) -> None:
        """Wait for a question, then answer it."""
        self.wait_for(question)
        self.type(words)

    def type(self, words: str) -> None:
        """Type and press Enter."""
        os.write(self._master, f"{words}\n".encode())

    def wait_for(self, question: str) -> None:
        """Until something is on the screen that was not waited for before."""
        end = time.monotonic() + LONG_S
        while question not in self._screen[self._read :]:
            assert time.monotonic() < end, f"no {question!r} in {self._screen!r}"
            time.sleep(0.005)
        self._read = self._screen.index(question, self._read) + len(question)


def move(emulator: BusEmulator) -> None:
    """Each joint half a radian to both sides, and each place is looked at."""
    middle = [shaft.position_rad for shaft in emulator.plant.shafts()]
    for place in (0.5, -0.5, 0.0):
        for index, rest in enumerate(middle):
            emulator.plant.push(index, rest + place)
        emulator.advance(0.01)
        looked, end = emulator.handled + 2, time.monotonic() + LONG_S
        while emulator.handled < looked:
            assert time.monotonic() < end, "nobody looks at the arm"
            time.sleep(0.005)


def played(script: Callable[[], None], words: list[str]) -> int:
    """The command's exit code while a person does something."""
    failures: list[BaseException] = []

    def play() -> None:
        try:
            script()
        except AssertionError as error:
            failures.append(error)

    person = threading.Thread(target=play, daemon=True)
    person.start()
    code = main(words)
    person.join(LONG_S)
    assert not failures, failures
    return code


def test_an_arm_is_calibrated_at_a_terminal_and_back_again(emulator, monkeypatch):
    words = ["calibrate", "follower", "--port", emulator.device, "--id", "mine"]
    terminal, file = Terminal(monkeypatch), calibration_folder("follower") / "mine.json"

    def person() -> None:
        terminal.answer("Do you hold it?", "y")
        terminal.answer("hold the arm there and press Enter", "")
        terminal.wait_for("max")
        move(emulator)
        terminal.type("")
        terminal.answer("into the servos?", "y")

    assert played(person, words) == 0
    found = read_calibration(file)
    half = round(0.5 * COUNTS_PER_RAD)
    assert found["elbow_flex"].range_max - found["elbow_flex"].range_min == pytest.approx(2 * half, abs=1)
    assert emulator.servo(3).memory.word(9) == found["elbow_flex"].range_min
    assert played(lambda: terminal.answer("Do it?", "y"), [*words, "--undo"]) == 0
    assert not file.exists() and emulator.servo(3).memory.word(9) == 0


def test_who_does_not_agree_changes_nothing(emulator, monkeypatch):
    words = ["calibrate", "leader", "--port", emulator.device, "--id", "mine"]
    terminal = Terminal(monkeypatch)
    assert played(lambda: terminal.answer("Do you hold it?", ""), words) == 1
    assert emulator.servo(3).memory.word(9) == 0 and not calibration_folder("leader").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["calibrate", "follower", "--id", "mine"], "calibrate guides a person who moves the arm, and there is no terminal"),
        (["calibrate", "follower", "--id", "../mine", "--yes"], "--id '../mine' cannot name a file"),
        (["calibrate", "leader", "--id", "mine", "--undo"], "nothing to undo"),
        (["release"], "(--yes agrees), and there is no terminal to answer at"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(emulator, monkeypatch, capsys, words, sentence):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main([*words, "--port", emulator.device]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


def test_ctrl_c_while_the_arm_is_moved_leaves_everything(emulator, monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "find_by_hand", interrupt)
    monkeypatch.setattr("reach_grasp.terminal.need_terminal", lambda _: None)
    assert main(["calibrate", "follower", "--port", emulator.device, "--id", "mine", "--yes"]) == 130
    assert "file and servos are as they were, the arm is limp" in capsys.readouterr().out


def test_release_frees_an_arm(emulator, capsys):
    with driver_bus.Bus(emulator.device, reply_timeout_s=LONG_S) as bus:
        for servo in bus.ids:
            bus.write(servo, "Torque_Enable", 1)
    assert main(["release", "--port", emulator.device, "--yes"]) == 0
    assert "servo 1, 2, 3, 4, 5, 6 confirmed: no torque" in capsys.readouterr().out
    assert all(servo.limp for servo in emulator.servos)


def test_release_names_the_servos_that_did_not_confirm(emulator, monkeypatch, capsys):
    monkeypatch.setattr(motors, "let_go", lambda _: (4,))
    assert main(["release", "--port", emulator.device, "--yes"]) == 1
    said = capsys.readouterr().out
    assert "servo 1, 2, 3, 5, 6 confirmed" in said and "servo 4 did not confirm: check its cable" in said


@pytest.mark.parametrize(("level", "code"), [(Level.OK, 0), (Level.WARNING, 0), (Level.PROBLEM, 1)])
def test_the_doctors_exit_code_and_json(monkeypatch, capsys, level, code):
    monkeypatch.setattr(network, "_LEARNER_S", 0.1)
    monkeypatch.setattr(network, "_DISCOVERY_S", 0.0)
    monkeypatch.setattr(station, "examine_machine", lambda _: [Finding("disk", level, "as it is", "a cure")])
    assert main(["doctor", "--json"]) == code
    found = {item["check"]: item for item in json.loads(capsys.readouterr().out)}
    assert found["disk"] == {"check": "disk", "level": level.value, "text": "as it is", "cure": "a cure"}
    assert found["follower arm"]["level"] == "skipped"


def test_the_doctor_says_a_line_for_each_finding(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(network, "_LEARNER_S", 0.1)
    monkeypatch.setattr(network, "_DISCOVERY_S", 0.0)
    assert main(["doctor", "--follower-port", str(tmp_path / "arm"), "--cameras", "99"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "skipped", "warning", "problem") for line in lines)
    (line,) = (line for line in lines if "follower port" in line)
    assert line.startswith("problem ") and line.endswith("; plug the arm's USB cable in")
