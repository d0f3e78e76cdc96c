# SPDX-License-Identifier: Apache-2.0
"""What must be right in the servos before they move: supply, calibration, and the settings LeRobot gives them."""

from __future__ import annotations

from collections.abc import Mapping

from so101_driver.bus import Bus
from so101_driver.calibration import GRIPPER, Calibration, MotorCalibration
from so101_driver.errors import CalibrationError, NoAnswerError, SupplyError

# As SO101Follower.configure() of LeRobot 0.6.1, so that a policy finds the same arm.
_SETTINGS = {
    "Return_Delay_Time": 0,
    "Operating_Mode": 0,
    "P_Coefficient": 16,
    "I_Coefficient": 0,
    "D_Coefficient": 32,
    "Maximum_Acceleration": 254,
    "Acceleration": 254,
}
_GRIPPER_SETTINGS = {"Max_Torque_Limit": 500, "Torque_Limit": 500, "Protection_Current": 250, "Overload_Torque": 25}
_UNWRAPPED = 0x10  # bit of Phase with which positions leave the range of one turn


def check_supply(bus: Bus, lowest_v: float, highest_v: float) -> None:
    """Raises SupplyError when a servo gets too little or too much."""
    volts = {servo: bus.read(servo, "Present_Voltage") / 10 for servo in bus.ids}
    for servo, value in volts.items():
        if not lowest_v <= value <= highest_v:
            raise SupplyError(
                f"servo {servo} gets {value:.1f} V, expected {lowest_v:g} to {highest_v:g} V; use the supply that "
                "belongs to the arm, or set safety.voltage_min_v and safety.voltage_max_v for servos of 12 V"
            )


def calibration_of(bus: Bus, servo: int, drive_mode: int = 0) -> MotorCalibration:
    """What a servo itself holds; drive_mode is not kept in servos."""
    names = ("Homing_Offset", "Min_Position_Limit", "Max_Position_Limit")
    return MotorCalibration(servo, drive_mode, *(bus.read(servo, name) for name in names))


def check_calibration(bus: Bus, calibration: Calibration) -> None:
    """Raises CalibrationError when the servos were calibrated otherwise: angles would be wrong."""
    for joint, motor in calibration.items():
        found = calibration_of(bus, motor.id, motor.drive_mode)
        if found != motor:
            raise CalibrationError(
                f"{joint} is calibrated with offset {found.homing_offset} and range {found.range_min} to {found.range_max} "
                f"in its servo, with {motor.homing_offset} and {motor.range_min} to {motor.range_max} in the file; "
                "if it is this arm's file, set write_calibration to true once"
            )


def store_calibration(bus: Bus, calibration: Calibration) -> None:
    """Write a calibration into the servos for good. They are limp then, since positions change their meaning."""
    for motor in calibration.values():
        bus.write(motor.id, "Torque_Enable", 0)
        bus.write(motor.id, "Lock", 0)
        bus.write(motor.id, "Homing_Offset", motor.homing_offset)
        bus.write(motor.id, "Min_Position_Limit", motor.range_min)
        bus.write(motor.id, "Max_Position_Limit", motor.range_max)
        bus.write(motor.id, "Lock", 1)


def let_go(bus: Bus) -> tuple[int, ...]:
    """Switch every servo's torque off: the arm sinks. Returns those that did not confirm it; all are told in any case."""
    silent = []
    for servo in bus.ids:
        try:
            bus.write(servo, "Torque_Enable", 0)
            if bus.read(servo, "Torque_Enable"):
                silent.append(servo)
        except NoAnswerError:
            silent.append(servo)
    return tuple(silent)


def configure(bus: Bus, calibration: Calibration, speeds: Mapping[int, int]) -> None:
    """Give the servos their settings until they lose power, without touching their torque.

    speeds: counts/s by servo, which it does not exceed whatever its goals.
    """
    for joint, motor in calibration.items():
        settings = _SETTINGS | (_GRIPPER_SETTINGS if joint == GRIPPER else {})
        settings["Goal_Velocity"] = speeds[motor.id]
        settings["Phase"] = bus.read(motor.id, "Phase") & ~_UNWRAPPED
        for name, value in settings.items():
            if bus.read(motor.id, name) != value:
                bus.write(motor.id, name, value)
