# SPDX-License-Identifier: Apache-2.0
"""Faults of the emulated bus, its delays, and its device."""

from __future__ import annotations

import os
import tty
from pathlib import Path

import pytest

from so101_sim.bus.emulator import INSTANT, BusEmulator, EmulatorError, Line
from so101_sim.bus.faults import FaultError, Faults, FaultSettings, parse_faults
from so101_sim.bus.packets import BROADCAST, Instruction, Request, checksum, status_packet

ALL = Request(BROADCAST, Instruction.SYNC_READ, bytes((56, 4, 1, 2, 3, 4, 5, 6)))


def test_faults_come_as_often_as_asked_and_are_counted():
    faults, packet = Faults(FaultSettings(lost=0.05, corrupted=0.01, truncated=0.01, delayed=0.1, seed=3)), status_packet(2, 0)
    results = [faults.spoil(2, packet) for _ in range(20_000)]
    seen = {
        "lost": sum(left == b"" for left, _ in results),
        "corrupted": sum(len(left) == len(packet) and left != packet for left, _ in results),
        "truncated": sum(0 < len(left) < len(packet) for left, _ in results),
        "delayed": sum(late > 0 for _, late in results),
    }
    assert seen == {kind: faults.done[kind, 2] for kind in seen}
    assert 800 < seen["lost"] < 1200 and 130 < seen["corrupted"] < 260 and 1600 < seen["delayed"] < 2200


def test_the_same_seed_gives_the_same_faults():
    def draw() -> list[tuple[bytes, float]]:
        faults = Faults(FaultSettings(lost=0.3, corrupted=0.3, seed=9))
        return [faults.spoil(1, status_packet(1, 0)) for _ in range(100)]

    assert draw() == draw()


def test_faults_can_be_written_on_a_command_line():
    text = "lost=0.05,corrupted=0.01,dead=4,hot=5+6,supply_v=4.2,seed=7"
    assert parse_faults(text) == FaultSettings(lost=0.05, corrupted=0.01, dead=(4,), hot=(5, 6), supply_v=4.2, seed=7)
    assert parse_faults("") == FaultSettings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lots=1", "there is no fault 'lots', only lost, "),
        ("lost=much", "fault lost is 'much', expected for example lost=0.05"),
        ("dead=x", "expected for example dead=4"),
        ("lost=2", "fault lost is 2.0, expected a probability"),
    ],
)
def test_a_wrong_fault_is_named(text, sentence):
    with pytest.raises(FaultError, match=sentence):
        parse_faults(text)


def test_a_dead_servo_is_silent_and_the_others_are_not():
    emulator = BusEmulator(faults=Faults(FaultSettings(dead=(2,))))
    answer, _ = emulator.handle(ALL)
    assert [answer[start + 2] for start in range(0, len(answer), 10)] == [1, 3, 4, 5, 6]
    assert emulator.handle(Request(2, Instruction.PING, b""))[0] == b""


def test_a_lost_request_changes_nothing():
    emulator = BusEmulator(faults=Faults(FaultSettings(lost_requests=1.0)))
    assert emulator.handle(Request(1, Instruction.WRITE, bytes((41, 9)))) == (b"", 0.0)
    assert emulator.servo(1).memory.byte(41) == 0


def test_an_answer_takes_the_time_of_the_wire_and_of_the_adapter():
    emulator = BusEmulator(line=Line(latency_s=0.001))
    for servo in emulator.servos:
        servo.memory.put(7, 0)  # Return_Delay_Time
    _, delay = emulator.handle(ALL)
    assert delay == pytest.approx(0.001 + (14 + 6 * 10) * 10e-6)
    emulator.servos[0].memory.put(7, 250)
    assert emulator.handle(ALL)[1] == pytest.approx(delay + 500e-6)
    emulator.faults.change(delayed=1.0, delay_s=0.02)
    assert emulator.handle(ALL)[1] == pytest.approx(delay + 500e-6 + 0.02)


def test_a_question_that_came_before_the_newest_one_is_answered_no_more():
    """Before, questions piled up on a busy machine: for half a minute each answer was to a question already given up."""
    with BusEmulator(line=INSTANT) as emulator:
        client = os.open(emulator.device, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(client)
        os.write(client, b"".join(_packet(servo, Instruction.PING) for servo in (2, 3)))
        expected = status_packet(3, 0)
        answer = b""
        while len(answer) < len(expected):
            answer += os.read(client, 64)
        os.close(client)
        assert answer == expected


def _packet(servo: int, instruction: int) -> bytes:
    body = bytes((servo, 2, instruction))
    return b"\xff\xff" + body + bytes((checksum(body),))


def test_it_is_unplugged_and_plugged_in_under_another_name(tmp_path: Path):
    first, second = tmp_path / "arm", tmp_path / "other"
    with BusEmulator(line=INSTANT, port=first) as emulator:
        assert emulator.device == str(first) and str(first.readlink()).startswith("/dev/")
        client = os.open(first, os.O_RDWR | os.O_NOCTTY)
        emulator.unplug()
        assert not first.is_symlink()
        assert os.read(client, 1) == b""  # hung up
        os.close(client)
        with pytest.raises(EmulatorError, match="not plugged in"):
            emulator.device  # noqa: B018
        assert emulator.plug(second) == str(second) and second.is_symlink()
    assert not second.is_symlink()


def test_a_file_in_the_way_is_named_and_kept(tmp_path: Path):
    file = tmp_path / "notes"
    file.write_text("mine")
    with pytest.raises(EmulatorError, match="notes cannot be made a link"):
        BusEmulator(port=file).start()
    assert file.read_text() == "mine"
