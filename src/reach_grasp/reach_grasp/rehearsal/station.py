# SPDX-License-Identifier: Apache-2.0
"""The twin of the station beside the rehearsal: started as a user starts it, and calibrated by its hands at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reach_grasp import guard
from reach_grasp.errors import CommandError
from reach_grasp.interrupt import heed
from reach_grasp.process import stop

COMMAND = (sys.executable, "-m", "reach_grasp.command")
"""The reach-grasp command in the environment of this process."""
DEVICES, REPORT, HANDS, PERSON = "devices.json", "twin.json", "hand", "person.yaml"
_START_S, _ANSWER_S, _POLL_S = 60.0, 60.0, 0.1
_MIDDLE, _MOVE, _DONE = "press Enter: ", "Press Enter when done.", "calibrated: "


class Station:
    """A running `reach-grasp emulate-station`. Use it as a context manager; it ends with this process, however that ends."""

    def __init__(self, folder: Path, seed: int, log: Path, environment: Mapping[str, str], hand: bool = True) -> None:
        """folder: of the twin. hand: a scripted hand stands for the person. Nothing is started yet."""
        words = ["emulate-station", "--folder", str(folder), "--seed", str(seed)]
        words += ["--hand", "scripted", "--hand-config", str(folder / PERSON), "--truth"] if hand else []
        self.folder, self.log = folder, log
        self._words, self._environment = words, dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Station:
        self.folder.mkdir(parents=True, exist_ok=True)
        # A classifier has to see what is no success: every second demonstration fails on purpose.
        person = {"person": {"failures_every": 2}, "hand": {"judges": False}}  # in evaluation the classifier judges
        (self.folder / PERSON).write_text(json.dumps({"/**/hand": {"ros__parameters": person}}) + "\n")  # JSON is YAML
        devices = self.folder / DEVICES
        devices.unlink(missing_ok=True)
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                [*COMMAND, *self._words],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=lambda: guard.die_with_parent(signal.SIGTERM),
            )
        end_s = time.monotonic() + _START_S
        try:
            while not devices.is_file():
                heed()
                self.check()
                if time.monotonic() > end_s:
                    raise CommandError(f"the twin of the station did not start within {_START_S:g} s (see {self.log})")
                time.sleep(_POLL_S)
        except BaseException:
            stop(self._process)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    def check(self) -> None:
        """Raise CommandError when the twin has ended."""
        if self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise CommandError(f"the twin of the station has ended: {last} (see {self.log})")

    @property
    def devices(self) -> dict[str, str]:
        """Device name of a real station, as the documentation writes it, to the twin's. Raises CommandError."""
        try:
            return json.loads((self.folder / DEVICES).read_text())
        except (OSError, ValueError) as error:
            raise CommandError(f"{self.folder / DEVICES} cannot be read: {error}") from error


def calibrate(station: Station, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run `reach-grasp calibrate` at a terminal of its own while the twin's hands move the arm; returns what it printed.

    words: the command's arguments, the kind of arm first behind `calibrate`. Raises CommandError when it fails.
    """
    from so101_sim.station import calibrating
    from so101_sim.station.channel import RemoteHands
    from so101_sim.station.settings import StationError

    arm = words[1]
    with (
        contextlib.closing(RemoteHands(station.folder / HANDS)) as hands,
        _Terminal([*words, "--yes"], environment) as terminal,
    ):
        try:
            terminal.wait_for(_MIDDLE)
            calibrating.move(hands, arm, calibrating.middles(), terminal.read)
            terminal.enter()
            terminal.wait_for(_MOVE)
            for pose in calibrating.sweep():
                calibrating.move(hands, arm, pose, terminal.read)
            terminal.enter()
            terminal.wait_for(_DONE)
            hands.release(arm)
        except (OSError, StationError) as error:
            raise CommandError(f"the {arm} of the twin cannot be calibrated: {error}") from error
        return terminal.finish()


class _Terminal:
    """A command at a pseudo-terminal, with somebody who reads it and presses Enter."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._words, self.text = list(words), ""
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [*COMMAND, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm", "COLUMNS": "120"},
            start_new_session=True,
            preexec_fn=lambda: guard.die_with_parent(signal.SIGTERM),
        )
        os.close(slave)

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)
        os.close(self._master)

    def read(self, wait_s: float = 0.02) -> None:
        """Take what was printed within a moment."""
        heed()
        if select.select([self._master], [], [], wait_s)[0]:
            with contextlib.suppress(OSError):  # the other end is closed
                self.text += os.read(self._master, 65536).decode(errors="replace")

    def wait_for(self, part: str) -> None:
        """Read until a part of the text is there. Raises CommandError when the command ends first, or takes too long."""
        self._until(lambda: part in self.text, f"'{part}'")

    def enter(self) -> None:
        """Press Enter."""
        os.write(self._master, b"\n")

    def finish(self) -> str:
        """Wait for the command's end and return its text. Raises CommandError when it failed."""
        self._until(lambda: self._process.poll() is not None, "its end")
        self.read()
        if self._process.returncode:
            raise self._failed()
        return self.text

    def _until(self, there: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + _ANSWER_S
        while not there():
            ended = self._process.poll() is not None
            self.read()
            if there():
                return
            if ended:
                raise self._failed()
            if time.monotonic() > end_s:
                raise CommandError(f"reach-grasp {' '.join(self._words)}: {what} did not come within {_ANSWER_S:g} s")

    def _failed(self) -> CommandError:
        last = next((line.strip() for line in reversed(self.text.splitlines()) if line.strip()), "")
        return CommandError(f"reach-grasp {' '.join(self._words)} ended with {self._process.returncode}: {last}")
