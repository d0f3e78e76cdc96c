# SPDX-License-Identifier: Apache-2.0
"""The registers of an STS3215: permanent ones (EEPROM) behind a lock, volatile ones (SRAM), read-only ones."""

from __future__ import annotations

from enum import IntEnum

SIZE = 87
SRAM = 40  # the first address that is lost without power
_READ_ONLY = (range(0, 5), range(56, 80))


class Address(IntEnum):
    """Where the emulator itself reads or writes; Feetech's names. Two bytes, low one first, where marked 2."""

    MODEL_NUMBER = 3  # 2
    ID = 5
    RETURN_DELAY = 7
    RESPONSE_LEVEL = 8
    MIN_POSITION = 9  # 2
    MAX_POSITION = 11  # 2
    MAX_TEMPERATURE = 13
    MAX_VOLTAGE = 14
    MIN_VOLTAGE = 15
    MAX_TORQUE = 16  # 2
    PHASE = 18
    UNLOADING_CONDITION = 19
    PROTECTION_CURRENT = 28  # 2
    HOMING_OFFSET = 31  # 2
    PROTECTIVE_TORQUE = 34
    PROTECTION_TIME = 35
    OVERLOAD_TORQUE = 36
    OVER_CURRENT_TIME = 38
    TORQUE_ENABLE = 40
    ACCELERATION = 41
    GOAL_POSITION = 42  # 2
    GOAL_VELOCITY = 46  # 2
    TORQUE_LIMIT = 48  # 2
    LOCK = 55
    PRESENT_POSITION = 56  # 2
    PRESENT_VELOCITY = 58  # 2
    PRESENT_LOAD = 60  # 2
    PRESENT_VOLTAGE = 62
    PRESENT_TEMPERATURE = 63
    STATUS = 65
    MOVING = 66
    PRESENT_CURRENT = 69  # 2
    MAX_ACCELERATION = 85


# As a servo leaves the factory, by address: firmware 3.10, model 777, limits open, protection by load, current and heat.
_FACTORY = {
    0: (3, 10, 0, 9, 3),
    5: (1, 0, 250, 1),
    9: (0, 0, 255, 15, 70, 80, 40, 232, 3, 12, 44, 47, 32, 32, 0, 16, 0, 1, 1, 244, 1, 1, 0, 0, 0, 20, 200, 80, 10, 200, 200),
    48: (232, 3),
    55: (1,),
    80: (1, 8, 50, 0, 64, 254, 1),
}


def encode(value: int, sign_bit: int) -> int:
    """Sign and magnitude. Magnitudes beyond the sign bit saturate."""
    magnitude = min(abs(value), (1 << sign_bit) - 1)
    return magnitude | (1 << sign_bit if value < 0 else 0)


def decode(raw: int, sign_bit: int) -> int:
    """The signed value of sign and magnitude."""
    magnitude = raw & ((1 << sign_bit) - 1)
    return -magnitude if raw >> sign_bit & 1 else magnitude


class Memory:
    """One servo's registers. While Lock is 1, permanent ones take a value that is gone after the next power cycle."""

    def __init__(self, servo: int) -> None:
        self._bytes = bytearray(SIZE)
        for start, values in _FACTORY.items():
            self._bytes[start : start + len(values)] = bytes(values)
        self._bytes[Address.ID] = servo
        self._permanent = bytes(self._bytes[:SRAM])
        self._factory = bytes(self._bytes)

    def read(self, address: int, length: int) -> bytes:
        """Bytes from an address on; zeros where there is no register."""
        return bytes(self._bytes[address : address + length]).ljust(length, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """What a packet writes; read-only registers stay as they are."""
        for place, value in enumerate(data, address):
            if place < SIZE and not any(place in part for part in _READ_ONLY):
                self._bytes[place] = value
        if address < SRAM and not self._bytes[Address.LOCK]:
            self._permanent = bytes(self._bytes[:SRAM])

    def byte(self, address: int) -> int:
        """One byte."""
        return self._bytes[address]

    def word(self, address: int) -> int:
        """Two bytes, the low one first."""
        return int.from_bytes(self._bytes[address : address + 2], "little")

    def put(self, address: int, value: int, size: int = 1) -> None:
        """What the servo itself writes, read-only or not."""
        self._bytes[address : address + size] = value.to_bytes(size, "little")

    @property
    def permanent(self) -> bytes:
        """Bytes that the servo keeps without power."""
        return self._permanent

    def keep(self, permanent: bytes) -> None:
        """Begin with what an earlier servo kept. Raises ValueError for data of another size."""
        if len(permanent) != SRAM:
            raise ValueError(f"a servo keeps {SRAM} bytes, not {len(permanent)}")
        self._permanent = permanent
        self.power_cycle()

    def power_cycle(self) -> None:
        """Volatile registers return to their factory values, permanent ones to what was stored."""
        self._bytes[:] = self._permanent + self._factory[SRAM:]

    def factory_reset(self) -> None:
        """All but the id as it left the factory."""
        self._bytes[:] = self._factory[: Address.ID] + self._bytes[5:6] + self._factory[Address.ID + 1 :]
        self._permanent = bytes(self._bytes[:SRAM])
