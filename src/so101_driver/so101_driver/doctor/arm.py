# SPDX-License-Identifier: Apache-2.0
"""An arm: its port, its servos, its calibration."""

from __future__ import annotations

import getpass
import grp
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from so101_driver import motors
from so101_driver.bus import Bus
from so101_driver.calibration import KINDS, Calibration, calibration_files, find_calibration, read_calibration
from so101_driver.doctor.finding import Finding, Level, broken, examine
from so101_driver.errors import BusError, CalibrationError, DriverError, PortDeniedError
from so101_driver.registers import STATUS_BITS, status_text
from so101_driver.safety_config import SafetyConfig

_DIALOUT = "dialout"
_CUT = "cut the arm's supply for a moment; hold the arm, it sinks"
_REPLACE = "cut the arm's supply for a moment; if it reports the fault again, replace the servo"
_STATUS_CURES = {
    "input voltage": "use the supply that belongs to the arm, and see that its plug sits firmly",
    "too much current": f"take away what blocks it, and {_CUT}",
    "overload": f"take away what it presses on, or let it press less, and {_CUT}",
}


@dataclass(frozen=True)
class Arm:
    """The arm under examination. kind: follower or leader. name: name of its calibration, or path of the file."""

    kind: str
    port: str
    name: str

    @property
    def calibrate(self) -> str:
        """The command that calibrates it."""
        name = Path(self.name).stem if self.name.endswith(".json") else self.name
        return f"'reach-grasp calibrate {self.kind} --port {shlex.quote(self.port)} --id {shlex.quote(name)}'"

    @property
    def release(self) -> str:
        """Instruction to hold the arm and switch its torque off."""
        return f"hold the arm and let it go ('reach-grasp release --port {shlex.quote(self.port)}')"


def examine_arm(kind: str, port: str, name: str, open_bus: Callable[[str], Bus] = Bus) -> Iterator[Finding]:
    """All about one arm. kind: follower or leader. port: empty when none was named. name: of its calibration."""
    if not port:
        known = ", ".join(sorted(item.device for item in list_ports.comports())) or "none"
        yield Finding(f"{kind} arm", Level.SKIPPED, f"no --{kind}-port was named (serial ports here: {known})")
        return
    arm = Arm(kind, port, name)
    file = examine(f"{kind} calibration file", lambda: _file(arm))
    yield file
    bus = open_bus(port)
    try:
        bus.open()
    except BusError as error:
        yield _port_fault(f"{kind} port", error)
        return
    yield Finding(f"{kind} port", Level.OK, f"{port} can be opened")
    try:
        with bus.patiently():
            yield from _examine_servos(arm, file.level == Level.OK, bus)
    finally:
        bus.close()


def _examine_servos(arm: Arm, calibrated: bool, bus: Bus) -> Iterator[Finding]:
    kind = arm.kind
    yield examine(f"{kind} servos", lambda: _answers(bus))
    try:
        silent = bus.silent()
    except BusError as error:
        yield broken(f"{kind} port", error)
        return
    if bus.echoes:
        text = "this adapter echoes: every byte sent comes back before the answer, and is skipped"
        yield Finding(f"{kind} adapter", Level.OK, text)
    there = [servo for servo in bus.ids if servo not in silent]
    if not there:
        return
    found = [examine(f"{kind} models", lambda: _models(bus, there))]
    found += [examine(f"{kind} firmware", lambda: f"version {bus.check_firmware(there)} in all servos")]
    found += [examine(f"{kind} voltage", lambda: voltage(arm, bus, there))]
    found += [examine(f"{kind} temperature", lambda: temperature(arm, bus, there))]
    reports = [examine(f"{kind} servo {servo}", lambda servo=servo: status(arm, bus, servo)) for servo in there]
    found += [report for report in reports if report.level != Level.OK]
    if all(report.level == Level.OK for report in reports):
        found.append(Finding(f"{kind} status", Level.OK, "no servo reports a fault"))
    yield from found
    well = all(finding.level == Level.OK for finding in found)
    yield examine(f"{kind} calibration", lambda: _calibration(arm, calibrated, bus, silent, well))


def _port_fault(check: str, error: BusError) -> Finding:
    """A user who was let into the group of serial ports after logging in is not in it yet."""
    if isinstance(error, PortDeniedError) and getpass.getuser() in _members(_DIALOUT):
        text = str(error).partition("; ")[0]
        return Finding(check, Level.PROBLEM, f"{text}, though in the group {_DIALOUT} by now", "log out and log in again")
    return broken(check, error)


def _members(group: str) -> Sequence[str]:
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return ()


def _file(arm: Arm) -> Finding | str:
    try:
        file = find_calibration(arm.kind, arm.name)
        read_calibration(file)
    except CalibrationError as error:
        cure = f"calibrate the arm: {arm.calibrate}"
        if arm.name.endswith(".json"):
            cure += f", which writes a file of its own, and name it by --{arm.kind}-id"
        return Finding(f"{arm.kind} calibration file", Level.PROBLEM, str(error).partition("; ")[0], cure)
    return f"{file} is whole"


def _answers(bus: Bus) -> str:
    bus.check_answers()
    return f"servos {bus.ids[0]} to {bus.ids[-1]} answer"


def _models(bus: Bus, servos: Sequence[int]) -> str:
    bus.check_models(servos)
    return "all are STS3215"


def voltage(arm: Arm, bus: Bus, servos: Sequence[int]) -> Finding:
    """What the servos are fed with, against what `safety` allows by default."""
    check, safety = f"{arm.kind} voltage", SafetyConfig()
    volts = {servo: bus.read(servo, "Present_Voltage") / 10 for servo in servos}
    seen = f"{min(volts.values()):.1f} to {max(volts.values()):.1f} V"
    wrong = [str(servo) for servo, value in volts.items() if not safety.voltage_min_v <= value <= safety.voltage_max_v]
    if not wrong:
        return Finding(check, Level.OK, seen)
    text = f"{seen}; servo {', '.join(wrong)} outside of {safety.voltage_min_v:g} to {safety.voltage_max_v:g} V"
    if max(volts.values()) <= safety.voltage_max_v:
        return Finding(check, Level.PROBLEM, text, _STATUS_CURES["input voltage"])
    cure = "cut the supply now, and use the one that belongs to the arm; only where every servo is labelled 12 V, set "
    return Finding(check, Level.PROBLEM, text, f"{cure}safety.voltage_min_v and safety.voltage_max_v for these")


def temperature(arm: Arm, bus: Bus, servos: Sequence[int]) -> Finding:
    """How hot the servos are, against what `safety` allows by default."""
    degrees = {servo: bus.read(servo, "Present_Temperature") for servo in servos}
    hottest, safety = max(degrees, key=degrees.__getitem__), SafetyConfig()
    text = f"servo {hottest} is the hottest with {degrees[hottest]} °C"
    if degrees[hottest] < safety.cool_c:
        return Finding(f"{arm.kind} temperature", Level.OK, text)
    level = Level.PROBLEM if degrees[hottest] >= safety.hot_c else Level.WARNING
    return Finding(f"{arm.kind} temperature", level, text, _cool(arm))


def status(arm: Arm, bus: Bus, servo: int) -> Finding | str:
    """Faults that a servo reports: in Status, or in the error byte of any answer since the port was opened."""
    found = bus.read(servo, "Status") | bus.statuses.get(servo, 0)
    if not found:
        return "reports no fault"
    cures = _STATUS_CURES | {"overheated": _cool(arm)}
    texts = [cures.get(text, _REPLACE) for bit, text in STATUS_BITS.items() if found & bit]
    cure = "; ".join(dict.fromkeys(texts or [_REPLACE]))
    return Finding(
        f"{arm.kind} servo {servo}", Level.PROBLEM, f"servo {servo} reports {status_text(found)} (Status {found})", cure
    )


def _cool(arm: Arm) -> str:
    return f"{arm.release}, let it cool, and see whether something blocks it"


def _calibration(arm: Arm, calibrated: bool, bus: Bus, silent: Sequence[int], well: bool) -> Finding | str:
    """Compare the servos with the calibration file. well: no other check failed, so their answers can be trusted."""
    check = f"{arm.kind} calibration"
    if not calibrated:
        return Finding(check, Level.SKIPPED, "there is no file to compare the servos with")
    calibration = read_calibration(find_calibration(arm.kind, arm.name))
    heard = {joint: motor for joint, motor in calibration.items() if motor.id not in silent}
    try:
        motors.check_calibration(bus, heard)
    except CalibrationError as error:
        cure = _another_arm(arm, bus, silent) or f"if this is the right arm and port, calibrate it: {arm.calibrate}"
        if silent or not well:
            cure = "mend the problems above first"
        return Finding(check, Level.PROBLEM, str(error).partition("; ")[0], cure)
    if silent:
        text = f"the servos hold what the file of '{arm.name}' says, as far as they answer"
        return Finding(check, Level.WARNING, text, "mend the silent servos first")
    return f"the servos hold what the file of '{arm.name}' says"


def _another_arm(arm: Arm, bus: Bus, silent: Sequence[int]) -> str:
    """The cure where the servos hold another arm's calibration, of which there is a file; else empty."""
    if silent:
        return ""
    for kind in KINDS:
        for file in calibration_files(kind):
            if _holds(bus, file):
                what = f"--{arm.kind}-id {file.stem}" if kind == arm.kind else f"the {arm.kind}'s port as --{arm.kind}-port"
                return f"this arm is the {kind} '{file.stem}': name {what}"
    return ""


def _holds(bus: Bus, file: Path) -> bool:
    try:
        calibration: Calibration = read_calibration(file)
        motors.check_calibration(bus, calibration)
    except DriverError:
        return False
    return True
