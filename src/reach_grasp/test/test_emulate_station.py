# SPDX-License-Identifier: Apache-2.0
"""reach-grasp emulate-station, as a program of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from reach_grasp.command import main
from so101_driver.bus import Bus
from so101_sim.station.files import device_names
from so101_sim.station.settings import StationSettings

PAGE = Path(__file__).parents[3] / "docs" / "twin.md"


def test_the_table_of_devices_is_printed_and_the_devices_are_gone_at_the_end(tmp_path: Path, capsys):
    mine = tmp_path / "twin.yaml"  # named like a node, and in the twin's folder
    mine.write_text("/**/twin: {ros__parameters: {sight_delay_s: 0.1}}\n")
    words = ["emulate-station", "--folder", str(tmp_path), "--seed", "4", "--follower-id", "left"]
    words += ["--truth", "--hand-config", str(mine)]
    process = subprocess.Popen([sys.executable, "-m", "reach_grasp.command", *words], stdout=subprocess.PIPE, text=True)
    try:
        devices = dict(process.stdout.readline().rstrip("\n").split(" -> ") for _ in range(6))
        assert devices == json.loads((tmp_path / "devices.json").read_text())
        station = yaml.safe_load((tmp_path / "station.yaml").read_text())
        assert station["/**/follower"]["ros__parameters"] == {"port": devices["/dev/ttyACM0"], "calibration": "left"}
        with Bus(devices["/dev/ttyACM1"], reply_timeout_s=30.0) as bus:
            bus.check()
        assert main(words) == 2 and "another twin runs in" in capsys.readouterr().err
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0].startswith("real-time factor ")
        assert "sight_delay_s" in mine.read_text()
        assert process.returncode == 0 and not Path(devices["/dev/ttyACM0"]).is_symlink()
        assert json.loads((tmp_path / "twin.json").read_text())["packets"]["leader"] > 0
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--folder", "/proc/twin"], "/proc/twin"),
        (["--set", "servo.backlsh_rad=1"], "did you mean servo.backlash_rad"),
        (["--port", "70000"], "--port is 70000"),
        (["--set", "world.start_m=3,0,0"], "cannot reach"),
    ],
)
def test_what_cannot_be_emulated_is_said_in_one_sentence(words, sentence, capsys, tmp_path):
    assert main(["emulate-station", "--folder", str(tmp_path), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_the_page_names_every_setting_with_its_default_and_every_device():
    text = PAGE.read_text()
    settings = StationSettings()
    for part, table in {"servo": settings.servo, "wrist": settings.wrist, "scene": settings.scene, "arm": settings.arm}.items():
        for item in fields(table):
            name = f"`{part}.{item.name}`"
            (row,) = (line for line in text.splitlines() if line.startswith("|") and name in line)
            assert f"`{getattr(table, item.name)}`" in row, f"{name} is {getattr(table, item.name)}: mend docs/twin.md"
    assert all(f"`{device}`" in text for device in device_names(Path("/tmp/twin"), {"wrist": "a", "front": "b"}))
