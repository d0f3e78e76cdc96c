# SPDX-License-Identifier: Apache-2.0
"""The registers of the STS3215 that the driver uses: the one table of addresses, sizes and signs. Names are Feetech's."""

from __future__ import annotations

from dataclasses import dataclass

MODEL_NUMBER = 777
COUNTS = 4096  # positions of one turn
OVERLOAD = 32
STATUS_BITS = {
    1: "input voltage", 2: "position sensor", 4: "overheated", 8: "too much current", OVERLOAD: "overload"
}  # fmt: skip
"""Bits of Status, which stand in the error byte of every answer too."""


@dataclass(frozen=True)
class Register:
    """A value of `size` bytes, the low one first. sign_bit: where sign and magnitude has its sign, None for unsigned."""

    name: str
    address: int
    size: int = 1
    sign_bit: int | None = None

    @property
    def lowest(self) -> int:
        """The smallest value it can hold."""
        return 0 if self.sign_bit is None else 1 - (1 << self.sign_bit)

    @property
    def highest(self) -> int:
        """The largest value it can hold."""
        return (1 << (8 * self.size if self.sign_bit is None else self.sign_bit)) - 1

    def encode(self, value: int) -> bytes:
        """As it stands in a packet. Raises ValueError where the value does not fit."""
        if not self.lowest <= value <= self.highest:
            raise ValueError(f"{self.name} is {value}, allowed: {self.lowest} to {self.highest}")
        raw = abs(value) | (1 << self.sign_bit if self.sign_bit is not None and value < 0 else 0)
        return raw.to_bytes(self.size, "little")

    def decode(self, data: bytes) -> int:
        """The value of `size` bytes."""
        raw = int.from_bytes(data, "little")
        if self.sign_bit is None:
            return raw
        magnitude = raw & ((1 << self.sign_bit) - 1)
        return -magnitude if raw >> self.sign_bit & 1 else magnitude


REGISTERS = {
    register.name: register
    for register in (
        Register("Firmware_Major_Version", 0),
        Register("Firmware_Minor_Version", 1),
        Register("Model_Number", 3, 2),
        Register("ID", 5),
        Register("Baud_Rate", 6),
        Register("Return_Delay_Time", 7),
        Register("Min_Position_Limit", 9, 2),
        Register("Max_Position_Limit", 11, 2),
        Register("Max_Temperature_Limit", 13),
        Register("Max_Voltage_Limit", 14),
        Register("Min_Voltage_Limit", 15),
        Register("Max_Torque_Limit", 16, 2),
        Register("Phase", 18),
        Register("P_Coefficient", 21),
        Register("D_Coefficient", 22),
        Register("I_Coefficient", 23),
        Register("Protection_Current", 28, 2),
        Register("Homing_Offset", 31, 2, 11),
        Register("Operating_Mode", 33),
        Register("Protective_Torque", 34),
        Register("Protection_Time", 35),
        Register("Overload_Torque", 36),
        Register("Torque_Enable", 40),
        Register("Acceleration", 41),
        Register("Goal_Position", 42, 2, 15),
        Register("Goal_Velocity", 46, 2, 15),
        Register("Torque_Limit", 48, 2),
        Register("Lock", 55),
        Register("Present_Position", 56, 2, 15),
        Register("Present_Velocity", 58, 2, 15),
        Register("Present_Load", 60, 2, 10),
        Register("Present_Voltage", 62),
        Register("Present_Temperature", 63),
        Register("Status", 65),
        Register("Moving", 66),
        Register("Present_Current", 69, 2, 15),
        Register("Maximum_Acceleration", 85),
    )
}
"""Register of each name. Position and velocity in counts and counts/s, load in 0.1 %, voltage in 0.1 V, current in 6.5 mA."""


def register(name: str) -> Register:
    """The register of a name. Raises KeyError with the names there are."""
    try:
        return REGISTERS[name]
    except KeyError:
        raise KeyError(f"there is no register {name}, only {', '.join(REGISTERS)}") from None


def span(first: str, last: str) -> tuple[int, int]:
    """Address and length of what lies between two registers, both included."""
    start, end = register(first), register(last)
    return start.address, end.address + end.size - start.address


def status_text(status: int) -> str:
    """The bits of a Status, in words; `well` for 0."""
    known = [text for bit, text in STATUS_BITS.items() if status & bit]
    unknown = [f"bit {bit}" for bit in range(8) if status & 1 << bit and 1 << bit not in STATUS_BITS]
    return ", ".join(known + unknown) or "well"


def pick(name: str, data: bytes, address: int) -> int:
    """The value of a register out of bytes that were read from `address` on."""
    found = register(name)
    return found.decode(data[found.address - address : found.address - address + found.size])
