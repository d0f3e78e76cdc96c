# SPDX-License-Identifier: Apache-2.0
"""A calibration is stored in servos and file, or in neither; what was there before is kept beside the file for an undo."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from so101_description import JOINTS
from so101_driver import motors
from so101_driver.bus import IDS, Bus
from so101_driver.calibrate import Encoders
from so101_driver.calibration import Calibration, MotorCalibration, write_calibration, write_file
from so101_driver.errors import CalibrationError, NoAnswerError
from so101_driver.finder import usb_serial_of
from so101_driver.registers import COUNTS

_MOST_MOVED = 200  # counts that a limp arm may sink while it is written to


def backup_file(file: Path) -> Path:
    """Where the one of a calibration file is."""
    return file.with_name(f".{file.name}.before")


@dataclass(frozen=True)
class Backup:
    """What is replaced. text: of the calibration file, None where there was none. usb_serial: of the arm's adapter."""

    file: Path
    text: str | None
    servos: Mapping[str, MotorCalibration]
    usb_serial: str | None

    @classmethod
    def take(cls, bus: Bus, file: Path) -> Backup:
        """Of things as they are. Raises CalibrationError, BusError."""
        servos = {joint: motors.calibration_of(bus, servo) for joint, servo in zip(JOINTS, IDS, strict=True)}
        try:
            text = file.read_text() if file.exists() else None
        except (OSError, ValueError) as error:
            raise CalibrationError(f"{file} cannot be read ({error}); move it away") from error
        return cls(file, text, servos, usb_serial_of(bus.port_name))

    @classmethod
    def read(cls, file: Path) -> Backup:
        """That of a calibration file. Raises CalibrationError when there is none, or no whole one."""
        kept = backup_file(file)
        if not kept.is_file():
            raise CalibrationError(f"nothing to undo: {kept}, which 'reach-grasp calibrate' leaves, is not there")
        try:
            content = json.loads(kept.read_text())
            servos = {joint: MotorCalibration(**content["servos"][joint]) for joint in JOINTS}
            return cls(file, content["text"], servos, content["usb_serial"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CalibrationError(f"{kept} cannot be read ({error!r}); calibrate the arm again") from error

    def keep(self) -> None:
        """Write it beside the calibration file. Raises CalibrationError."""
        servos = {joint: asdict(motor) for joint, motor in self.servos.items()}
        content = {"text": self.text, "servos": servos, "usb_serial": self.usb_serial}
        write_file(backup_file(self.file), json.dumps(content, indent=4))

    def restore(self, bus: Bus) -> None:
        """File and servos as they were, which leaves the arm limp. Ctrl-C waits meanwhile.

        Raises CalibrationError when a servo did not take part or the adapter is another, PortLostError.
        """
        if self.usb_serial and (found := usb_serial_of(bus.port_name)) != self.usb_serial:
            raise CalibrationError(
                f"{bus.port_name} is not this arm: its adapter has the serial number {found}, not {self.usb_serial}; give the "
                "port of the arm that was calibrated"
            )
        silent = []
        with _undisturbed():
            self._restore_file()
            for joint, motor in self.servos.items():
                try:
                    motors.store_calibration(bus, {joint: motor})
                    motors.check_calibration(bus, {joint: motor})
                except (NoAnswerError, CalibrationError):
                    silent.append(str(motor.id))
        if silent:
            raise CalibrationError(
                f"servo {', '.join(silent)} did not get its old calibration back; check its cable and supply, then run "
                "'reach-grasp calibrate' with --undo"
            )

    def _restore_file(self) -> None:
        if self.text is None:
            self.file.unlink(missing_ok=True)
        else:
            write_file(self.file, self.text)

    def forget(self) -> None:
        """Remove it from the disk."""
        backup_file(self.file).unlink(missing_ok=True)


def store(bus: Bus, file: Path, calibration: Calibration) -> None:
    """Write a calibration into the servos and the file; what was there before can be had back by `Backup.read`.

    On any error and on Ctrl-C everything is as before. Raises DriverError, KeyboardInterrupt.
    """
    backup = Backup.take(bus, file)
    expected = Encoders(bus).homed({joint: motor.homing_offset for joint, motor in calibration.items()})
    backup.keep()
    try:
        motors.store_calibration(bus, calibration)
        motors.check_calibration(bus, calibration)
        _check_positions(bus, calibration, expected)
        write_calibration(file, calibration)
    except BaseException:
        backup.restore(bus)
        raise


def _check_positions(bus: Bus, calibration: Calibration, expected: Mapping[str, int]) -> None:
    """Raises CalibrationError when a servo does not read what its new homing offset should give."""
    for joint, motor in calibration.items():
        found = bus.read(motor.id, "Present_Position")
        away = abs(found - expected[joint]) % COUNTS
        if min(away, COUNTS - away) > _MOST_MOVED:
            raise CalibrationError(
                f"{joint} reads {found} with its new homing offset, expected about {expected[joint]}; let the arm lie "
                "still and calibrate again"
            )


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
