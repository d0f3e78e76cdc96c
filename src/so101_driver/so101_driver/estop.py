# SPDX-License-Identifier: Apache-2.0
"""The emergency stop of an arm: a latch that only a person opens, kept in a file so that no restart opens it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from so101_driver.calibration import calibration_folder, write_file
from so101_driver.errors import CalibrationError, SafetyError

CLEAR_COMMAND = "reach-grasp estop --clear"
_CLEAR = "clear"
_MOST_BYTES = 1000  # longest reason that is read back from the file


def stop_file(given: str, calibration: str) -> Path:
    """File that keeps an arm's stop: `given`, else one named after the path of its calibration, which each arm has of its own.

    The name alone does not do: a twin's arm in a rehearsal may have the real arm's name, but is calibrated in another folder.
    """
    if given:
        return Path(given).expanduser()
    file = Path(calibration).expanduser()
    where = str((file if file.suffix == ".json" else calibration_folder("follower") / f"{calibration}.json").resolve())
    return _kept_in(file.stem, where)


def relay_stop_file(given: str, topic: str) -> Path:
    """The same for an arm of somebody else's driver, which has its own topic of commands; topic: the full name."""
    return Path(given).expanduser() if given else _kept_in("relay", topic)


def _kept_in(name: str, key: str) -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return state / "reach-grasp" / "estop" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


class EmergencyStop:
    """The latch. reason: why the arm is stopped, None while it is not.

    The file says `clear`, or why the arm was stopped. A file that cannot be read or written counts as a stop: the next one
    could not be kept.
    """

    def __init__(self, file: Path | None = None) -> None:
        """file: None keeps the stop only as long as this object lives."""
        self.file, self._kept = file, True
        self.reason: str | None = None
        if file is not None:
            self.reason = self._read(file)

    def stop(self, reason: str) -> None:
        """Latch. Raises SafetyError when the file cannot be written: the stop then holds, but not over a restart."""
        if self.reason is None:
            self.reason, self._kept = f"{reason}, {time.strftime('%Y-%m-%d %H:%M:%S')}", False
        if not self._kept:
            self._write(self.reason)
            self._kept = True

    def clear(self) -> None:
        """Open the latch. Raises SafetyError, and stays latched, when the file cannot be written."""
        if self.file is not None:
            try:
                write_file(self.file, f"{_CLEAR}\n")
            except CalibrationError as error:
                raise SafetyError(f"{error}; the arm stays stopped until it can be") from error
        self.reason, self._kept = None, True

    def check(self) -> None:
        """Raise SafetyError, with the cure, while the stop is latched."""
        if self.reason is not None:
            raise SafetyError(f"{self.reason}; when nobody is in the arm's reach, '{CLEAR_COMMAND}' ends the stop")

    def _read(self, file: Path) -> str | None:
        try:
            if not file.exists():
                write_file(file, f"{_CLEAR}\n")
                return None
            if not file.is_file():
                raise OSError(0, "it is no file")
            with file.open("r+b") as stream:  # a file that cannot be written cannot keep the next stop
                said = stream.read(_MOST_BYTES).decode(errors="replace").strip()
        except (OSError, CalibrationError) as error:
            why = getattr(error, "strerror", None) or error
            return f"{file} cannot keep whether the arm is stopped ({why}), so the arm counts as stopped"
        return None if said == _CLEAR else said or "an emergency stop before this start"

    def _write(self, reason: str) -> None:
        if self.file is None:
            return
        try:
            write_file(self.file, f"{reason}\n")
        except CalibrationError as error:
            try:
                os.truncate(self.file, 0)  # a full disk allows this, and an empty file is a stop too
            except OSError:
                raise SafetyError(f"{error}: the arm is stopped, but a restart of the driver would not know it") from error
