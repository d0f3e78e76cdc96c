# SPDX-License-Identifier: Apache-2.0
"""An emulated servo: registers, motion, homing, protections. Time passes only as the tests say."""

from __future__ import annotations

import math

import pytest

from so101_sim.bus.emulator import BusEmulator, standard_arm
from so101_sim.bus.faults import Faults, FaultSettings
from so101_sim.bus.memory import Address, Memory, decode, encode
from so101_sim.bus.packets import Instruction, Request
from so101_sim.bus.plant import COUNTS_PER_RAD, Mounting, SimpleArm
from so101_sim.bus.servo import COUNTS, HEAT, OVERLOAD, VOLTAGE


def write(emulator: BusEmulator, servo: int, address: int, *data: int) -> None:
    emulator.servo(servo).answer(Request(servo, Instruction.WRITE, bytes((address, *data))))
    emulator._sense(0.0)


def goal(emulator: BusEmulator, servo: int, counts: int) -> None:
    write(emulator, servo, Address.GOAL_POSITION, *counts.to_bytes(2, "little"))


def position(emulator: BusEmulator, servo: int) -> int:
    return decode(emulator.servo(servo).memory.word(Address.PRESENT_POSITION), 15)


def status(emulator: BusEmulator, servo: int) -> int:
    return emulator.servo(servo).memory.byte(Address.STATUS)


def on(emulator: BusEmulator, servo: int) -> None:
    write(emulator, servo, Address.TORQUE_ENABLE, 1)


@pytest.mark.parametrize("bit", [10, 11, 15])
def test_signs(bit):
    top = (1 << bit) - 1
    for value in (0, 1, -1, top, -top):
        assert decode(encode(value, bit), bit) == value
    assert decode(encode(-(1 << bit), bit), bit) == -top


def test_it_leaves_the_factory_as_an_sts3215():
    memory = Memory(5)
    assert memory.word(Address.MODEL_NUMBER) == 777 and memory.byte(Address.ID) == 5
    assert memory.word(Address.MAX_POSITION) == COUNTS - 1 and memory.byte(Address.LOCK) == 1


def test_permanent_registers_survive_a_power_cycle_only_when_they_were_unlocked():
    memory = Memory(1)
    memory.write(Address.HOMING_OFFSET, b"\x05\x00")
    memory.power_cycle()
    assert memory.word(Address.HOMING_OFFSET) == 0
    memory.write(Address.LOCK, b"\0")
    memory.write(Address.HOMING_OFFSET, b"\x05\x00")
    memory.power_cycle()
    assert memory.word(Address.HOMING_OFFSET) == 5 and memory.byte(Address.LOCK) == 1


def test_what_is_read_only_stays():
    memory = Memory(1)
    memory.write(Address.MODEL_NUMBER, b"\0\0")
    memory.write(Address.PRESENT_POSITION, b"\1\1")
    assert memory.word(Address.MODEL_NUMBER) == 777 and memory.word(Address.PRESENT_POSITION) == 0


def test_it_moves_to_its_goal_only_under_torque():
    emulator = BusEmulator()
    goal(emulator, 1, 2500)
    emulator.advance(1.0)
    assert position(emulator, 1) == 2047
    on(emulator, 1)
    emulator.advance(1.0)
    assert abs(position(emulator, 1) - 2500) <= 1
    goal(emulator, 1, 2000)
    emulator.advance(0.05)
    assert 2000 < position(emulator, 1) < 2500


def test_without_a_goal_it_holds_where_it_is_switched_on():
    arm = standard_arm()
    emulator = BusEmulator(arm[1], arm[0])
    on(emulator, 1)
    goal(emulator, 1, 2500)
    emulator.advance(1.0)
    write(emulator, 1, Address.TORQUE_ENABLE, 0)
    arm[1].push(0, 0.3)
    emulator.advance(0.01)
    on(emulator, 1)
    emulator.advance(1.0)
    assert abs(position(emulator, 1) - (2047 + 0.3 * COUNTS_PER_RAD)) <= 1


@pytest.mark.parametrize(("register", "data"), [(Address.GOAL_VELOCITY, (100, 0)), (Address.ACCELERATION, (1,))])
def test_speed_and_acceleration_are_limited(register, data):
    emulator = BusEmulator()
    on(emulator, 2)
    write(emulator, 2, register, *data)
    goal(emulator, 2, 3000)
    emulator.advance(1.0)
    assert 2080 < position(emulator, 2) < 2047 + 105


def test_the_goal_is_kept_within_the_servos_own_limits():
    emulator = BusEmulator()
    write(emulator, 3, Address.MAX_POSITION, *(2200).to_bytes(2, "little"))
    on(emulator, 3)
    goal(emulator, 3, 3000)
    emulator.advance(2.0)
    assert abs(position(emulator, 3) - 2200) <= 1


@pytest.mark.parametrize("offset", [0, 500, -500, 2047, -2047])
def test_present_is_actual_less_the_homing_offset_within_one_turn(offset):
    arm = SimpleArm([0.0])
    emulator = BusEmulator(arm, [Mounting(zero=1000)])
    write(emulator, 1, Address.HOMING_OFFSET, *encode(offset, 11).to_bytes(2, "little"))
    assert position(emulator, 1) == (1000 - offset) % COUNTS
    on(emulator, 1)
    goal(emulator, 1, (1000 - offset) % COUNTS + (50 if offset != -500 else -50))
    emulator.advance(1.0)
    moved = arm.shafts()[0].position_rad * COUNTS_PER_RAD
    assert abs(abs(moved) - 50) <= 1


def test_positions_wrap_unless_phase_says_otherwise():
    arm = SimpleArm([0.0])
    emulator = BusEmulator(arm, [Mounting(zero=100)])
    arm.push(0, -200 / COUNTS_PER_RAD)
    emulator.advance(0.01)
    assert position(emulator, 1) == COUNTS - 100
    write(emulator, 1, Address.PHASE, 12 | 0x10)
    assert position(emulator, 1) == -100


def test_an_obstacle_overloads_a_servo_until_its_goal_is_taken_back():
    arm = standard_arm()
    emulator = BusEmulator(arm[1], arm[0])
    here = arm[1].shafts()[5].position_rad
    on(emulator, 6)
    arm[1].obstruct(5, here - 0.1, 10.0)
    goal(emulator, 6, 1000)
    emulator.advance(1.5)
    assert not status(emulator, 6) & OVERLOAD
    assert decode(emulator.servo(6).memory.word(Address.PRESENT_LOAD), 10) == -1000
    assert emulator.servo(6).memory.word(Address.PRESENT_CURRENT) & 0x7FFF > 300
    emulator.advance(1.5)
    assert status(emulator, 6) & OVERLOAD
    assert abs(decode(emulator.servo(6).memory.word(Address.PRESENT_LOAD), 10)) == 200
    goal(emulator, 6, 900)
    emulator.advance(0.2)
    assert status(emulator, 6) & OVERLOAD
    goal(emulator, 6, position(emulator, 6))
    emulator.advance(0.5)
    assert not status(emulator, 6) & OVERLOAD


def test_heat_makes_it_limp_and_a_weak_supply_shows():
    emulator = BusEmulator(faults=Faults(FaultSettings(hot=(4,), supply_v=3.5)))
    on(emulator, 4), on(emulator, 5)
    emulator.advance(0.1)
    assert status(emulator, 4) == HEAT | VOLTAGE and emulator.servo(4).limp
    assert status(emulator, 5) == VOLTAGE and not emulator.servo(5).limp
    assert emulator.servo(5).memory.byte(Address.PRESENT_VOLTAGE) == 35


def test_a_power_cycle_lets_go():
    emulator = BusEmulator()
    on(emulator, 1)
    goal(emulator, 1, 2300)
    emulator.advance(1.0)
    emulator.power_cycle()
    assert emulator.servo(1).limp and abs(position(emulator, 1) - 2300) <= 1


def test_a_servo_told_to_be_silent_answers_questions_only():
    servo = BusEmulator().servo(1)
    servo.answer(Request(1, Instruction.WRITE, bytes((Address.RESPONSE_LEVEL, 0))))
    assert servo.answer(Request(1, Instruction.WRITE, bytes((Address.ACCELERATION, 1)))) == b""
    assert servo.answer(Request(1, Instruction.PING, b"")) and servo.answer(Request(1, Instruction.READ, bytes((56, 2))))


def test_the_standard_arm_has_every_joint_within_one_turn():
    from so101_description import JOINTS, joint_limits

    mountings, _ = standard_arm()
    for joint, mounting in zip(JOINTS, mountings, strict=True):
        assert all(0 < mounting.to_counts(angle) < COUNTS for angle in joint_limits()[joint])
        assert math.isclose(mounting.to_rad(mounting.to_counts(0.7)), 0.7)
