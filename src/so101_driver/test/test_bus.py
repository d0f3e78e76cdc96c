# SPDX-License-Identifier: Apache-2.0
"""The bus on a real serial device, with the emulator at its other end."""

from __future__ import annotations

import errno
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import serial
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from so101_description import JOINTS
from so101_driver.answers import Fault
from so101_driver.arm import ArmState, Command
from so101_driver.bus import IDS, Bus
from so101_driver.errors import (
    BusError,
    MissingServoError,
    MixedFirmwareError,
    NoAnswerError,
    PortBusyError,
    PortDeniedError,
    PortLostError,
    PortMissingError,
    WrongModelError,
)
from so101_driver.finder import find_port, usb_serial_of
from so101_driver.limits import Limits
from so101_driver.safety import Safety
from so101_sim.bus.emulator import INSTANT, BusEmulator
from so101_sim.bus.plant import Mounting, Shaft, SimpleArm


def test_registers_are_read_and_written_by_name(bus, emulator):
    bus.write(3, "Homing_Offset", -77)
    assert bus.read(3, "Homing_Offset") == -77
    assert emulator.servo(3).memory.word(31) == 77 | 1 << 11
    with pytest.raises(ValueError, match="Homing_Offset is 3000, allowed: -2047 to 2047"):
        bus.write(3, "Homing_Offset", 3000)


def test_all_positions_come_in_one_packet_and_all_goals_go_in_one(bus, emulator):
    handled = emulator.handled
    cycle = bus.read_state()
    assert cycle.fresh and {servo: sample.position for servo, sample in cycle.samples.items()} == dict.fromkeys(IDS, 2047)
    bus.write_goals({servo: 2000 + servo for servo in IDS})
    bus.ping(1)  # goals are not confirmed: this one is
    assert emulator.handled == handled + 3
    assert [bus.read(servo, "Goal_Position") for servo in IDS] == [2000 + servo for servo in IDS]


def test_health_goes_round(bus, emulator):
    emulator.faults.change(hot=(2,), hot_c=64, supply_v=6.9)
    found = [bus.read_health() for _ in range(8)]
    assert [item.servo for item in found] == [1, 2, 3, 4, 5, 6, 1, 2]
    assert [item.temperature_c for item in found[:3]] == [32, 64, 32]
    assert {item.voltage_v for item in found} == {6.9} and {item.status for item in found} == {0}


def test_moving_joints_have_a_velocity(bus, emulator):
    for servo in IDS:
        bus.write(servo, "Torque_Enable", 1)
        bus.write(servo, "Goal_Velocity", 50)
    bus.write_goals(dict.fromkeys(IDS, 1000))
    bus.ping(1)  # goals are not confirmed: this one is
    emulator.advance(0.3)
    cycle = bus.read_state()
    assert all(-60 <= sample.velocity <= -35 and sample.position < 2047 for sample in cycle.samples.values())


def test_a_lost_answer_is_asked_for_again_and_nobody_elses(bus, emulator):
    bus.read_state()
    emulator.faults.change(lost=0.4, seed=1)
    handled, before = emulator.handled, Counter(bus.faults)
    cycle = bus.read_state()
    lost = sum(emulator.faults.done.values())
    assert lost > 0 and sum((bus.faults - before).values()) == lost
    assert emulator.handled <= handled + 3
    assert cycle.fresh == (not cycle.missing)


def test_a_servo_that_is_silent_keeps_its_last_sample_and_its_age_grows(bus, emulator):
    before = bus.read_state().samples[4]
    emulator.faults.change(dead=(4,))
    cycle = bus.read_state()
    assert cycle.missing == (4,) and not cycle.fresh and cycle.samples[4] == before
    assert cycle.age_s(before.time_s + 2.0) == pytest.approx(2.0)
    assert bus.faults[4, Fault.NO_ANSWER] == 1 + bus.retries
    with pytest.raises(NoAnswerError, match=r"could not read Present_Voltage of servo 4 on .* in 3 tries; check its cable"):
        bus.read(4, "Present_Voltage")


def test_before_every_servo_was_heard_the_age_is_infinite(bus, emulator):
    emulator.faults.change(dead=(4,))
    assert bus.read_state().age_s(0.0) == float("inf")


def test_ten_thousand_bad_cycles_never_give_a_wrong_position(emulator, connect):
    """5 % of the answers lost, 1 % corrupted, 1 % cut, 1 % of the questions lost: every position used is one that was."""
    emulator.plant = plant = _Staircase([servo.mounting for servo in emulator.servos])
    bus = connect(emulator)
    emulator.faults.change(lost=0.05, corrupted=0.01, truncated=0.01, lost_requests=0.01, seed=11)
    stale = 0
    for number in range(10_000):
        plant.number = number
        for servo, sample in (cycle := bus.read_state()).samples.items():
            if servo in cycle.missing:
                stale += 1
            else:
                assert sample.position == plant.counts(servo), (number, servo)
        bus.write_goals(dict.fromkeys(IDS, 2047))
    done = emulator.faults.done
    kinds = Counter()
    for (_, fault), count in bus.faults.items():
        kinds[fault] += count
    answers = done.total() - done["lost_requests", 0]
    unheard = sum(kinds.values()) - answers  # of lost questions: as many as servos were asked
    assert answers > 4000 and 0 < stale < 300
    assert 0 < unheard <= 6 * done["lost_requests", 0]
    assert kinds[Fault.CHECKSUM] > 0 and kinds[Fault.SHORT] > 0 and bus.late_bytes == 0
    for servo in IDS:
        own = sum(count for (which, _), count in bus.faults.items() if which == servo)
        assert own >= sum(count for (_, which), count in done.items() if which == servo)


class _Staircase(SimpleArm):
    """Every joint stands elsewhere at every look, so that no old or foreign position passes for the newest."""

    def __init__(self, mountings: Sequence[Mounting]) -> None:
        super().__init__([0.0] * len(mountings))
        self.number, self._mountings = 0, mountings

    def counts(self, servo: int) -> int:
        return (self.number * 7 + servo * 500) % 4096

    def advance(self, duration_s, drives) -> None:
        """Time moves nothing here."""

    def shafts(self) -> list[Shaft]:
        angles = [mounting.to_rad(self.counts(servo)) for servo, mounting in enumerate(self._mountings, start=1)]
        return [Shaft(angle, 0.0, 0.0) for angle in angles]


def test_a_late_answer_is_never_taken_for_one_to_the_next_question():
    with BusEmulator(line=INSTANT) as emulator, Bus(emulator.device, reply_timeout_s=0.2) as bus:
        emulator.faults.change(delayed=1.0, delay_s=0.5)
        assert bus.read_state().missing == IDS
        assert sum(bus.faults.values()) == 18


def test_all_is_well_with_a_good_arm(bus):
    bus.check()
    assert not bus.faults


def test_missing_servos_are_named(bus, emulator):
    emulator.faults.change(dead=(3, 5))
    with pytest.raises(MissingServoError, match=r"no answer from servo 3, 5 on .*; check the arm's power supply and the cable"):
        bus.check()


def test_another_model_is_named(bus, emulator):
    emulator.servo(2).memory.put(3, 2825, 2)
    with pytest.raises(WrongModelError, match=r"servo 2 \(model 2825\) is no STS3215"):
        bus.check()


def test_mixed_firmware_is_named(bus, emulator):
    emulator.servo(6).memory.put(1, 9)
    with pytest.raises(MixedFirmwareError, match=r"differs \(1: 3.10, .* 6: 3.9\); bring all"):
        bus.check()


def test_a_status_of_a_servo_does_not_make_its_answer_wrong(bus, emulator):
    emulator.faults.change(supply_v=3.0)
    assert bus.read_state().fresh and bus.read_health().status == 1


def test_an_adapter_that_hears_its_own_sender_is_read_correctly(bus, emulator):
    """The adapter echoes: every byte sent comes back before the answer, as when a half-duplex receiver is left on."""
    emulator.faults.change(echo=1)
    assert bus.read(1, "Model_Number") == 777 and bus.read(1, "Homing_Offset") == 0 and bus.echoes
    bus.write(3, "Homing_Offset", -77)
    assert bus.read(3, "Homing_Offset") == -77
    bus.write(3, "Homing_Offset", 0)
    for number in range(5):
        bus.write_goals(dict.fromkeys(IDS, 2000 + number))
        cycle = bus.read_state()
        assert cycle.fresh and {sample.position for sample in cycle.samples.values()} == {2047}
        assert bus.read(6, "Goal_Position") == 2000 + number and bus.read_health().voltage_v == 7.4
    bus.check()
    emulator.faults.change(dead=(4,))
    assert not bus.ping(4) and bus.silent() == (4,) and bus.read_state().missing == (4,)
    with pytest.raises(NoAnswerError):
        bus.read(4, "Model_Number")
    with pytest.raises(NoAnswerError):
        bus.write(4, "Torque_Enable", 1)


def test_an_adapter_that_does_not_echo_is_known_by_its_first_answer(bus, emulator):
    assert bus.echoes is None and bus.ping(1) and bus.echoes is False
    emulator.servo(2).memory.put(3, 2 << 8 | 3, 2)  # what it reads is what was asked, byte for byte
    emulator.servo(2).memory.put(19, 0)
    assert bus.read(2, "Model_Number") == 515


def test_an_echo_is_told_from_answers_that_get_lost(bus, emulator):
    emulator.faults.change(echo=1, lost=0.3, corrupted=0.1, seed=3)
    for _ in range(200):
        cycle = bus.read_state()
        assert {cycle.samples[servo].position for servo in IDS if servo not in cycle.missing} <= {2047}
        bus.write_goals(dict.fromkeys(IDS, 2047))
    assert bus.echoes


def test_what_stood_in_the_error_byte_of_an_answer_is_kept(bus, emulator):
    emulator.faults.change(supply_v=3.0)
    bus.read(2, "ID")
    emulator.faults.change(supply_v=7.4)
    bus.read(2, "ID"), bus.read(3, "ID")
    assert bus.statuses == {2: 1, 3: 0}


def test_a_port_that_is_not_there_is_said():
    with pytest.raises(PortMissingError, match=r"there is no serial port /dev/ttyNONE .*; plug the arm's USB cable in"):
        Bus("/dev/ttyNONE").open()


def test_a_file_is_no_port(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(BusError, match="file cannot be opened as a serial port"):
        Bus(str(tmp_path / "file")).open()


def test_a_port_belongs_to_one_program(emulator, bus):
    with pytest.raises(PortBusyError, match=r"another program uses .*; 'fuser -v"):
        Bus(emulator.device).open()


def test_a_port_may_be_forbidden(emulator, monkeypatch):
    def refuse(*_, **__):
        raise serial.SerialException(errno.EACCES, "permission denied")  # root, who may run this, may open everything

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(PortDeniedError, match=r"this user may not open .*; run 'sudo usermod -aG dialout"):
        Bus(emulator.device).open()


def test_pulling_the_plug_is_noticed_and_the_arm_found_again_elsewhere(emulator, bus, connect, tmp_path: Path):
    emulator.unplug()
    for talk in (bus.read_state, lambda: bus.write_goals({1: 2000}), bus.read_health, lambda: bus.read(1, "ID")):
        with pytest.raises(PortLostError, match=r"has gone .*; plug the arm's USB cable in again"):
            talk()
    bus.close()
    with pytest.raises(PortMissingError, match="no serial port with servos 1 to 6; plug"):
        find_port(candidates=[str(tmp_path / "arm")])
    emulator.plug(tmp_path / "arm")
    with BusEmulator(line=INSTANT) as other:
        other.faults.change(dead=(6,))
        found = find_port(candidates=[other.device, str(tmp_path / "arm")])
        assert found == str(tmp_path / "arm")
        other.faults.change(dead=())
        with pytest.raises(PortMissingError, match="are both ports with servos 1 to 6; give the arm's port"):
            find_port(candidates=[other.device, str(tmp_path / "arm")])
    assert connect(emulator).read_state().fresh


def test_an_adapter_is_found_by_its_usb_serial_number_under_any_name(monkeypatch, tmp_path: Path):
    ports = [ListPortInfo("/dev/ttyACM0"), ListPortInfo("/dev/ttyACM3")]
    ports[0].serial_number, ports[1].serial_number = "5A40", "5A46"
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    assert find_port("5A46") == "/dev/ttyACM3" and usb_serial_of("/dev/ttyACM3") == "5A46"
    (tmp_path / "arm").symlink_to("/dev/ttyACM3")
    assert usb_serial_of(str(tmp_path / "arm")) == "5A46" and usb_serial_of("/dev/pts/0") is None


def test_a_usb_serial_number_that_nobody_has():
    with pytest.raises(PortMissingError, match="with the USB serial number 5A46"):
        find_port("5A46")


def test_fuzzed_commands_never_leave_the_limits_in_the_servos_registers(bus, emulator, calibration):
    """The whole way: commands, safety, packets, registers. Answers and questions get lost meanwhile."""
    limits, rng = Limits(calibration), random.Random(2)
    safety = Safety(limits)
    emulator.faults.change(lost=0.05, lost_requests=0.05, seed=4)
    safety.reset(limits.to_rad({servo: sample.position for servo, sample in bus.read_state().samples.items()}))
    written = Counter()
    for number in range(1500):
        cycle, now_s = bus.read_state(), number * 0.01
        state = ArmState(limits.to_rad({servo: sample.position for servo, sample in cycle.samples.items()}))
        positions = [
            rng.choice((rng.uniform(-9, 9), rng.uniform(-9, 9), math.nan if number % 5 == 0 else 0.3)) for _ in range(6)
        ]
        decision = safety.step(now_s, state, Command(JOINTS, positions))
        bus.write_goals(decision.goals)
        bus.ping(1)
        for servo in emulator.servos:
            goal = servo.memory.word(42)
            if goal:  # it is 0 until the first goal has come
                assert limits.lowest[servo.id] <= goal <= limits.highest[servo.id]
                written[servo.id] += 1
    assert min(written.values()) > 1400
