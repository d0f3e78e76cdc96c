# SPDX-License-Identifier: Apache-2.0
"""reach-grasp emulate-bus, as a program of its own that a driver finds on its serial device."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reach_grasp.command import main
from so101_driver.bus import Bus


def test_a_driver_finds_the_emulated_arm_and_faults_are_reported(tmp_path: Path):
    words = ["emulate-bus", "--port", str(tmp_path / "arm"), "--faults", "hot=3,hot_c=66", "--baud", "0"]
    process = subprocess.Popen([sys.executable, "-m", "reach_grasp.command", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == str(tmp_path / "arm")
        with Bus(str(tmp_path / "arm"), reply_timeout_s=30.0) as bus:
            bus.check()
            assert bus.read(3, "Present_Temperature") == 66
        process.send_signal(signal.SIGINT)
        assert "packets; no faults" in process.communicate(timeout=60)[0]
        assert process.returncode == 0 and not (tmp_path / "arm").is_symlink()
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--faults", "lots=1"], "there is no fault 'lots', only lost, "),
        (["--baud=-1"], "--baud is -1, allowed is a whole number from 0"),
        (["--port", "/proc/arm"], "/proc/arm cannot be made a link to the device"),
    ],
)
def test_what_cannot_be_emulated_is_said_in_one_sentence(words, sentence, capsys):
    assert main(["emulate-bus", *words]) == 2
    assert sentence in capsys.readouterr().err
