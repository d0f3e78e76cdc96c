# SPDX-License-Identifier: Apache-2.0
"""Keys that come through a socket or a pipe, as the twin has them, in the place of a device of the kernel."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import evdev
import pytest
from evdev import ecodes

from so101_driver import input_device
from so101_driver.controls import Controls
from so101_driver.event_stream import EventStream
from so101_driver.input_device import InputDevice
from so101_driver.mapping import Mapping
from so101_sim.station.keys import KernelKeys, SocketKeys, make_keys, press
from so101_sim.station.settings import StationError

KEYBOARD = Mapping(
    x="+KEY_UP -KEY_DOWN", y="", z="", gripper="", hold="KEY_LEFTSHIFT", success="KEY_F9", failure="KEY_F10", rerecord="",
    stop="", pause="", resume="", triggers="",
)  # fmt: skip


class Reader:
    """The keyboard's node without ROS."""

    def __init__(self, path: Path, mapping: Mapping = KEYBOARD) -> None:
        self.input, self.controls, self.now_s = InputDevice(str(path), mapping), Controls(mapping), 0.0

    def poll(self, seconds: float = 0.01) -> bool:
        self.now_s += seconds
        return self.input.poll(self.now_s, self.controls)

    def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.poll()


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[SocketKeys]:
    found = SocketKeys(tmp_path / "keys")
    yield found
    found.close()


def test_a_press_reaches_every_reader_once_and_none_that_came_later(tmp_path, keys):
    press(keys, "KEY_F10")  # nobody is there
    readers = [Reader(tmp_path / "keys") for _ in range(2)]
    for reader in readers:
        assert reader.poll() and reader.input.problem is None
    while keys.readers < 2:
        pass
    press(keys, "KEY_F9")
    keys.change(ecodes.KEY_LEFTSHIFT, True)
    keys.change(ecodes.KEY_UP, True)
    for reader in readers:
        reader.until(lambda reader=reader: reader.controls.active)
        reader.until(lambda reader=reader: reader.controls.action[0] == 1.0)
        assert reader.controls.take_events() == ["success"]


def test_keys_that_are_gone_drive_nobody_and_are_found_again(tmp_path):
    keys = SocketKeys(tmp_path / "keys")
    reader = Reader(tmp_path / "keys")
    reader.poll()
    while not keys.readers:
        pass
    keys.change(ecodes.KEY_LEFTSHIFT, True)
    reader.until(lambda: reader.controls.active)
    keys.close()
    reader.until(lambda: reader.input.problem)
    assert "is away" in reader.input.problem and not reader.controls.active
    again = SocketKeys(tmp_path / "keys")
    try:
        reader.poll(2.0)
        assert reader.input.problem is None
    finally:
        again.close()


def test_a_pipe_is_read_too_and_an_event_may_come_in_pieces(tmp_path):
    os.mkfifo(tmp_path / "pad")
    writer = os.open(tmp_path / "pad", os.O_RDWR)
    reader = Reader(tmp_path / "pad", Mapping())
    reader.poll()
    events = [(ecodes.EV_KEY, ecodes.BTN_TR, 1), (ecodes.EV_ABS, ecodes.ABS_Y, -32767), (ecodes.EV_ABS, ecodes.ABS_Z, 255)]
    data = b"".join(struct.pack("llHHi", 0, 0, *event) for event in events)
    os.write(writer, data[:30])
    reader.until(lambda: reader.controls.active)
    assert reader.controls.action.tolist() == [0.0, 0.0, 0.0, 0.0]
    os.write(writer, data[30:])
    reader.until(lambda: reader.controls.action[3] > 0)
    assert reader.controls.action.tolist() == [1.0, 0.0, 0.0, 1.0]
    os.close(writer)


def test_a_sender_that_takes_nobody_in_does_not_hold_up_who_reads(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(str(tmp_path / "keys"))
        server.listen(0)
        first.connect(str(tmp_path / "keys"))  # the only place in its queue
        reader = Reader(tmp_path / "keys")
        thread = threading.Thread(target=reader.poll, daemon=True)
        thread.start()
        thread.join(10.0)
        assert not thread.is_alive() and "is away" in reader.input.problem


def test_a_sender_that_never_stops_does_not_hold_up_who_reads(tmp_path, keys, monkeypatch):
    class Endless(EventStream):
        reads = 0

        def read(self):
            self.reads += 1
            assert self.reads < 1000, "a poll has to end"
            return iter([evdev.InputEvent(0, 0, ecodes.EV_KEY, ecodes.KEY_F9, self.reads % 2)])

    monkeypatch.setattr(input_device, "EventStream", Endless)
    reader = Reader(tmp_path / "keys")
    reader.poll()
    assert reader.poll() and "success" in reader.controls.take_events()


def test_keyboards_that_cannot_be_are_one_sentence(tmp_path, keys):
    with pytest.raises(StationError, match="there is no key 'KEY_SUCCESS'"):
        press(keys, "KEY_SUCCESS")
    (tmp_path / "text").write_text("mine")
    with pytest.raises(StationError, match="does not belong to the twin"):
        make_keys(tmp_path / "text")
    assert (tmp_path / "text").read_text() == "mine"


@pytest.mark.skipif(not os.access("/dev/uinput", os.W_OK), reason="the kernel makes no input devices here")
def test_a_keyboard_of_the_kernel_is_read_where_there_can_be_one(tmp_path):
    keys = make_keys(tmp_path / "keys")
    assert isinstance(keys, KernelKeys)
    try:
        reader = Reader(tmp_path / "keys")
        reader.poll()
        assert reader.input.problem is None
        press(keys, "KEY_F9")
        reader.until(lambda: "success" in reader.controls.take_events())
    finally:
        keys.close()
