# SPDX-License-Identifier: Apache-2.0
"""One emulated STS3215: answers instructions, moves towards its goal, protects itself. After Feetech's STS manual."""

from __future__ import annotations

import math

from so101_sim.bus.memory import SRAM, Address, Memory, decode, encode
from so101_sim.bus.packets import Instruction, Request, status_packet
from so101_sim.bus.plant import Drive, Mounting, Shaft

COUNTS = 4096
MAX_SPEED = 3400  # counts/s without load at 7.4 V
_MAX_ACCELERATION = 254
_ACCELERATION_UNIT = 100  # counts/s²
_STALL_CURRENT = 370  # of 6.5 mA
_UNWRAPPED = 0x10  # bit of Phase: positions are not wrapped to one turn
VOLTAGE, HEAT, CURRENT, OVERLOAD = 1, 4, 8, 32
"""Bits of Status."""


class Servo:
    """A servo on the bus. Where Goal_Position was not written since it was last limp, it holds where it is switched on."""

    def __init__(self, servo: int, mounting: Mounting, shaft: Shaft) -> None:
        self.memory = Memory(servo)
        self.mounting = mounting
        self._pending: tuple[int, bytes] | None = None
        self._overload_s = self._current_s = 0.0
        self._pulling = 0.0  # sign of the pull that led to overload
        self._setpoint = self._speed = 0.0
        self._start(shaft)

    def _start(self, shaft: Shaft) -> None:
        self._status = 0
        self._goal_given, self._was_limp = False, True
        self.memory.put(Address.TORQUE_LIMIT, self.memory.word(Address.MAX_TORQUE), 2)
        self._rest(shaft)
        self.sense(shaft, 7.4, 30, 0.0)

    @property
    def id(self) -> int:
        """Its address on the bus."""
        return self.memory.byte(Address.ID)

    @property
    def return_delay_s(self) -> float:
        """How long it waits before it answers."""
        return self.memory.byte(Address.RETURN_DELAY) * 2e-6

    @property
    def limp(self) -> bool:
        """No torque: switched off, or unloaded by a protection."""
        unloads = self.memory.byte(Address.UNLOADING_CONDITION)
        return self.memory.byte(Address.TORQUE_ENABLE) != 1 or bool(self._status & unloads & (HEAT | CURRENT))

    def answer(self, request: Request) -> bytes:
        """Do what a packet to this servo says; the bytes of the answer, none where the servo keeps silent."""
        code, data = request.instruction, request.parameters
        reply = b""
        if code == Instruction.READ and len(data) == 2:
            reply = self.memory.read(*data)
        elif code == Instruction.WRITE and len(data) >= 2:
            self._write(data[0], data[1:])
        elif code == Instruction.REG_WRITE and len(data) >= 2:
            self._pending = (data[0], data[1:])
        elif code == Instruction.ACTION:
            self.act()
        elif code == Instruction.RESET:
            self.memory.factory_reset()
        elif code != Instruction.PING:
            return b""
        always = code in (Instruction.READ, Instruction.PING)
        if not always and not self.memory.byte(Address.RESPONSE_LEVEL):
            return b""
        return status_packet(self.id, self._status, reply)

    def act(self) -> None:
        """Do what REG_WRITE left pending."""
        if self._pending is not None:
            self._write(*self._pending)
            self._pending = None

    def sync_write(self, address: int, data: bytes) -> None:
        """This servo's part of a SYNC_WRITE; never answered."""
        self._write(address, data)

    def read(self, address: int, length: int) -> bytes:
        """This servo's answer to a SYNC_READ."""
        return status_packet(self.id, self._status, self.memory.read(address, length))

    def power_cycle(self, shaft: Shaft) -> None:
        """As after the supply was cut."""
        self.memory.power_cycle()
        self._pending = None
        self._start(shaft)

    def settle(self, shaft: Shaft) -> None:
        """Hold where the joint is, however it came there."""
        self._rest(shaft)
        self.memory.put(Address.GOAL_POSITION, encode(round(self._position), 15), 2)

    def _write(self, address: int, data: bytes) -> None:
        self.memory.write(address, data)
        if address < Address.GOAL_POSITION + 2 and address + len(data) > Address.GOAL_POSITION:
            self._goal_given = True
            self._release_overload()
        if address < SRAM and address <= Address.MAX_TORQUE < address + len(data):
            self.memory.put(Address.TORQUE_LIMIT, self.memory.word(Address.MAX_TORQUE), 2)

    def _release_overload(self) -> None:
        """A goal on the other side of where it is ends the overload protection."""
        if self._status & OVERLOAD and (self._goal() - self._position) * self._pulling <= 0:
            self._status &= ~OVERLOAD
            self._overload_s = 0.0

    def _goal(self) -> float:
        goal = decode(self.memory.word(Address.GOAL_POSITION), 15)
        low, high = self.memory.word(Address.MIN_POSITION), self.memory.word(Address.MAX_POSITION)
        return min(max(goal, low), high) if low or high else goal

    def drive(self, duration_s: float) -> Drive:
        """What it does to its joint for this long: the set point runs to the goal within speed and acceleration."""
        if self.limp:
            return Drive(None, 0.0)
        self._advance_setpoint(duration_s)
        limit = min(self.memory.word(Address.TORQUE_LIMIT), self.memory.word(Address.MAX_TORQUE)) / 1000
        if self._status & OVERLOAD:
            limit = min(limit, self.memory.byte(Address.PROTECTIVE_TORQUE) / 100)
        return Drive(self.mounting.to_rad(self._setpoint + self._turn), limit)

    def _advance_setpoint(self, duration_s: float) -> None:
        asked = abs(decode(self.memory.word(Address.GOAL_VELOCITY), 15))
        top = min(asked or MAX_SPEED, MAX_SPEED)
        ceiling = self.memory.byte(Address.MAX_ACCELERATION) or _MAX_ACCELERATION
        rate = min(self.memory.byte(Address.ACCELERATION) or _MAX_ACCELERATION, ceiling) * _ACCELERATION_UNIT
        goal = self._goal() if self._goal_given else self._held
        gap = goal - self._setpoint
        wanted = math.copysign(min(top, math.sqrt(2 * rate * abs(gap))), gap)
        self._speed += min(max(wanted - self._speed, -rate * duration_s), rate * duration_s)
        moved = self._speed * duration_s
        if abs(gap) <= abs(moved) or abs(gap) < 0.5:
            self._setpoint, self._speed = goal, 0.0
        else:
            self._setpoint += moved

    def sense(self, shaft: Shaft, supply_v: float, temperature_c: int, duration_s: float) -> None:
        """Write what the servo measures into its registers, and its status."""
        if self.limp:
            self._rest(shaft)
        self._was_limp = self.limp
        self._position, _ = self._reading(shaft)
        moving = self._speed != 0.0 or abs(shaft.velocity_rad_s) > 0.02
        memory = self.memory
        memory.put(Address.PRESENT_POSITION, encode(round(self._position), 15), 2)
        velocity = round(shaft.velocity_rad_s * self.mounting.counts_per_rad)
        memory.put(Address.PRESENT_VELOCITY, encode(velocity, 15), 2)
        memory.put(Address.PRESENT_LOAD, encode(round(shaft.torque * 1000), 10), 2)
        current = abs(shaft.torque) * _STALL_CURRENT
        memory.put(Address.PRESENT_CURRENT, encode(round(math.copysign(current, shaft.torque)), 15), 2)
        memory.put(Address.PRESENT_VOLTAGE, min(255, round(supply_v * 10)))
        memory.put(Address.PRESENT_TEMPERATURE, temperature_c)
        memory.put(Address.MOVING, int(moving and not self.limp))
        self._protect(shaft, round(supply_v * 10), temperature_c, current, duration_s)
        memory.put(Address.STATUS, self._status)

    def _reading(self, shaft: Shaft) -> tuple[float, float]:
        """Present position in counts, and what to add to get the encoder's reading on all turns."""
        counts = self.mounting.to_counts(shaft.position_rad)
        offset = decode(self.memory.word(Address.HOMING_OFFSET), 11)
        position = counts - offset
        if not self.memory.byte(Address.PHASE) & _UNWRAPPED:
            position = (position + 0.5) % COUNTS - 0.5  # what rounds to 4096 reads 0
        return position, counts - position

    def _rest(self, shaft: Shaft) -> None:
        self._position, self._turn = self._reading(shaft)
        self._held = self._setpoint = round(self._position)
        self._speed = 0.0
        self._goal_given = self._goal_given and self._was_limp  # what was given before it went limp is forgotten

    def _protect(self, shaft: Shaft, volts10: int, temperature_c: int, current: float, duration_s: float) -> None:
        memory, status = self.memory, self._status & OVERLOAD
        if not memory.byte(Address.MIN_VOLTAGE) <= volts10 <= memory.byte(Address.MAX_VOLTAGE):
            status |= VOLTAGE
        if temperature_c > memory.byte(Address.MAX_TEMPERATURE):
            status |= HEAT
        limit = memory.word(Address.PROTECTION_CURRENT)
        self._current_s = self._current_s + duration_s if limit and current > limit else 0.0
        if self._current_s > memory.byte(Address.OVER_CURRENT_TIME) / 100:
            status |= CURRENT
        loaded = abs(shaft.torque) * 100 >= memory.byte(Address.OVERLOAD_TORQUE)
        self._overload_s = self._overload_s + duration_s if loaded else 0.0
        if self._overload_s > memory.byte(Address.PROTECTION_TIME) / 100:
            status |= OVERLOAD
            self._pulling = math.copysign(1.0, shaft.torque)
        self._status = status
