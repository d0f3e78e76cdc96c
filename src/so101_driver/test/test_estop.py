# SPDX-License-Identifier: Apache-2.0
"""The emergency stop's latch and its file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from so101_driver import calibration as files
from so101_driver.errors import SafetyError
from so101_driver.estop import EmergencyStop, stop_file


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_stop_is_kept_until_it_is_cleared(tmp_path: Path) -> None:
    file = tmp_path / "not yet there" / "estop"
    latch = EmergencyStop(file)
    assert latch.reason is None
    latch.check()
    latch.stop("a person")
    latch.stop("another person")
    again = EmergencyStop(file)
    assert again.reason == latch.reason and again.reason.startswith("a person, 20")
    with pytest.raises(SafetyError, match=r"a person.*'reach-grasp estop --clear' ends the stop"):
        again.check()
    again.clear()
    assert EmergencyStop(file).reason is None


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"clear, perhaps", b"x" * 100_000])
def test_a_file_that_does_not_say_clear_is_a_stop(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "estop"
    file.write_bytes(text)
    latch = EmergencyStop(file)
    assert latch.reason
    latch.clear()
    assert EmergencyStop(file).reason is None


def test_what_can_be_no_file_is_a_stop_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("")
    for place in ("folder", "fifo", "file/estop"):
        assert str(tmp_path / place) in str(EmergencyStop(tmp_path / place).reason)
    latch = EmergencyStop(tmp_path / "folder")
    with pytest.raises(SafetyError, match="folder cannot be written: Is a directory; the arm stays stopped until it can be"):
        latch.clear()
    assert latch.reason


def test_a_first_start_that_could_keep_no_stop_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", _full)
        latch = EmergencyStop(tmp_path / "estop")
        assert "No space left on device" in str(latch.reason)
        with pytest.raises(SafetyError, match="No space left"):
            latch.clear()
        assert latch.reason
    latch.clear()
    assert latch.reason is None and EmergencyStop(tmp_path / "estop").reason is None


def test_a_full_disk_does_not_lose_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latch = EmergencyStop(tmp_path / "estop")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", _full)
        latch.stop("a person")
    assert latch.reason and EmergencyStop(tmp_path / "estop").reason


def test_a_stop_that_cannot_be_kept_is_said_and_holds(tmp_path: Path) -> None:
    latch = EmergencyStop(tmp_path / "here" / "estop")
    (tmp_path / "here" / "estop").unlink()
    (tmp_path / "here").rmdir()
    (tmp_path / "here").write_text("")
    with pytest.raises(SafetyError, match="the arm is stopped, but a restart of the driver would not know it"):
        latch.stop("a person")
    assert latch.reason


def test_each_arm_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    named = {stop_file("", name) for name in ("follower", "other", "follower.json", "there/follower.json")}
    assert len(named) == 4 and all(file.parent == tmp_path / "reach-grasp" / "estop" for file in named)
    assert stop_file("", "follower.json") == stop_file("", str(tmp_path / "follower.json"))
    assert stop_file("mine", "follower") == Path("mine")


def test_a_stop_is_the_same_by_name_and_by_path_and_another_where_calibrations_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "mine"))
    named = stop_file("", "my_arm")
    assert named == stop_file("", str(files.calibration_folder("follower") / "my_arm.json"))
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "rehearsal"))
    assert stop_file("", "my_arm") != named, "a twin's arm of the same name is another arm"
