# SPDX-License-Identifier: Apache-2.0
"""An arm: its port, its servos, its calibration."""

from __future__ import annotations

import getpass
import grp
from collections.abc import Callable, Iterator, Sequence

from serial.tools import list_ports

from so101_driver import motors
from so101_driver.bus import Bus
from so101_driver.calibration import find_calibration, read_calibration
from so101_driver.doctor.finding import Finding, Level, broken, examine
from so101_driver.errors import BusError, PortDeniedError
from so101_driver.safety_config import SafetyConfig

_DIALOUT = "dialout"


def examine_arm(kind: str, port: str, name: str, open_bus: Callable[[str], Bus] = Bus) -> Iterator[Finding]:
    """All about one arm. kind: follower or leader. port: empty when none was named. name: of its calibration."""
    if not port:
        known = ", ".join(sorted(item.device for item in list_ports.comports())) or "none"
        yield Finding(f"{kind} arm", Level.SKIPPED, f"no --{kind}-port was named (serial ports here: {known})")
        return
    file = examine(f"{kind} calibration file", lambda: _file(kind, name))
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
            yield from _examine_servos(kind, name if file.level == Level.OK else None, bus)
    finally:
        bus.close()


def _examine_servos(kind: str, name: str | None, bus: Bus) -> Iterator[Finding]:
    yield examine(f"{kind} servos", lambda: _answers(bus))
    try:
        silent = bus.silent()
    except BusError as error:
        yield broken(f"{kind} port", error)
        return
    there = [servo for servo in bus.ids if servo not in silent]
    if not there:
        return
    yield examine(f"{kind} models", lambda: _models(bus, there))
    yield examine(f"{kind} firmware", lambda: f"version {bus.check_firmware(there)} in all servos")
    yield examine(f"{kind} voltage", lambda: voltage(kind, bus, there))
    yield examine(f"{kind} temperature", lambda: temperature(kind, bus, there))
    yield examine(f"{kind} calibration", lambda: _calibration(kind, name, bus, silent))


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


def _file(kind: str, name: str) -> str:
    file = find_calibration(kind, name)
    read_calibration(file)
    return f"{file} is whole"


def _answers(bus: Bus) -> str:
    bus.check_answers()
    return f"servos {bus.ids[0]} to {bus.ids[-1]} answer"


def _models(bus: Bus, servos: Sequence[int]) -> str:
    bus.check_models(servos)
    return "all are STS3215"


def voltage(kind: str, bus: Bus, servos: Sequence[int]) -> Finding:
    """What the servos are fed with, against what `safety` allows by default."""
    volts = {servo: bus.read(servo, "Present_Voltage") / 10 for servo in servos}
    safety = SafetyConfig()
    seen = f"{min(volts.values()):.1f} to {max(volts.values()):.1f} V"
    wrong = [str(servo) for servo, value in volts.items() if not safety.voltage_min_v <= value <= safety.voltage_max_v]
    if not wrong:
        return Finding(f"{kind} voltage", Level.OK, seen)
    text = f"{seen}; servo {', '.join(wrong)} outside of {safety.voltage_min_v:g} to {safety.voltage_max_v:g} V"
    cure = "use the supply that belongs to the arm; for servos of 12 V set safety.voltage_min_v and safety.voltage_max_v"
    return Finding(f"{kind} voltage", Level.PROBLEM, text, cure)


def temperature(kind: str, bus: Bus, servos: Sequence[int]) -> Finding:
    """How hot the servos are, against what `safety` allows by default."""
    degrees = {servo: bus.read(servo, "Present_Temperature") for servo in servos}
    hottest, safety = max(degrees, key=degrees.__getitem__), SafetyConfig()
    text = f"servo {hottest} is the hottest with {degrees[hottest]} °C"
    if degrees[hottest] < safety.cool_c:
        return Finding(f"{kind} temperature", Level.OK, text)
    level = Level.PROBLEM if degrees[hottest] >= safety.hot_c else Level.WARNING
    cure = "let the arm rest without torque (reach-grasp release), and see whether something blocks it"
    return Finding(f"{kind} temperature", level, text, cure)


def _calibration(kind: str, name: str | None, bus: Bus, silent: Sequence[int]) -> Finding | str:
    if name is None:
        return Finding(f"{kind} calibration", Level.SKIPPED, "there is no file to compare the servos with")
    calibration = read_calibration(find_calibration(kind, name))
    heard = {joint: motor for joint, motor in calibration.items() if motor.id not in silent}
    motors.check_calibration(bus, heard)
    if silent:
        text = f"the servos hold what the file of '{name}' says, as far as they answer"
        return Finding(f"{kind} calibration", Level.WARNING, text, "mend the silent servos first")
    return f"the servos hold what the file of '{name}' says"
