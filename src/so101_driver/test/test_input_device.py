# SPDX-License-Identifier: Apache-2.0
"""Devices as evdev shows them. The test plays the kernel, since input devices can be made on few machines."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from evdev import AbsInfo, InputEvent, ecodes

from so101_driver.controls import Controls
from so101_driver.errors import MappingError
from so101_driver.input_device import InputDevice, codes_of
from so101_driver.joy_input import JoyInput
from so101_driver.mapping import MOTIONS, PRESSES, Mapping

PAD = Mapping()
AXES = {ecodes.ABS_X: (-32768, 32767), ecodes.ABS_Y: (-32768, 32767), ecodes.ABS_RY: (0, 255)}
AXES |= {ecodes.ABS_Z: (0, 1023), ecodes.ABS_RZ: (0, 255)}
NAMES = ("BTN_A", "BTN_B", "BTN_X", "BTN_TR", "BTN_MODE", "BTN_SELECT", "BTN_START", "BTN_THUMBR", "BTN_Y")
BUTTONS = [ecodes.ecodes[name] for name in NAMES]


class Device:
    """An evdev.InputDevice of which the test says what happens."""

    def __init__(self, path: str, name: str, buttons: list[int] = BUTTONS, axes: dict[int, tuple[int, int]] = AXES) -> None:
        self.path, self.name, self.buttons = path, name, buttons
        rest = {
            code: low if code in (ecodes.ABS_Z, ecodes.ABS_RZ) else (low + high + 1) // 2 for code, (low, high) in axes.items()
        }
        self.axes = {code: AbsInfo(rest[code], low, high, 0, 0, 0) for code, (low, high) in axes.items()}
        self.queue: list[InputEvent] = []
        self.held: list[int] = []
        self.here, self.closed, self.grabbed = True, False, False

    def happens(self, kind: str, name: str, value: int) -> None:
        self.queue.append(InputEvent(0, 0, getattr(ecodes, kind), ecodes.ecodes[name], value))

    def read(self) -> Iterator[InputEvent]:
        if not self.here:
            raise OSError(errno.ENODEV, "No such device")
        if not self.queue:
            raise BlockingIOError
        queue, self.queue = self.queue, []
        return iter(queue)

    def capabilities(self, absinfo: bool) -> dict[int, list[int]]:
        assert not absinfo
        return {ecodes.EV_ABS: list(self.axes), ecodes.EV_KEY: self.buttons}

    def absinfo(self, code: int) -> AbsInfo:
        return self.axes[code]

    def active_keys(self) -> list[int]:
        return self.held

    def grab(self) -> None:
        self.grabbed = True

    def close(self) -> None:
        self.closed = True


class Kernel:
    """The devices that are plugged in, each a file in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.devices, self.now_s = folder, {}, 0.0

    def plug(self, device: Device) -> Device:
        path = self.folder / device.path
        path.touch()
        device.path = str(path)
        self.devices[device.path] = device
        return device

    def open(self, path: str) -> Device:
        if path not in self.devices:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)
        if self.devices[path] is None:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return self.devices[path]

    def input(self, wanted: str = "", mapping: Mapping = PAD, grab: bool = False) -> tuple[InputDevice, Controls]:
        return InputDevice(wanted, mapping, grab, self.folder, self.open), Controls(mapping)

    def poll(self, found: InputDevice, controls: Controls) -> bool:
        self.now_s += 2.0  # so that it looks again
        return found.poll(self.now_s, controls)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_the_only_device_with_every_control_is_taken_and_read(kernel):
    kernel.plug(Device("event0", "Keyboard", [ecodes.KEY_W], {}))
    pad = kernel.plug(Device("event1", "Pad"))
    found, controls = kernel.input(grab=True)
    assert kernel.poll(found, controls) and found.problem is None and found.name == "Pad" and pad.grabbed
    assert not kernel.poll(found, controls), "nothing has happened"
    for kind, name, value in (
        ("EV_KEY", "BTN_TR", 1), ("EV_ABS", "ABS_Y", -32768), ("EV_ABS", "ABS_RY", 255), ("EV_ABS", "ABS_Z", 1023),
        ("EV_SYN", "SYN_REPORT", 0), ("EV_KEY", "BTN_A", 1),
    ):  # fmt: skip
        pad.happens(kind, name, value)
    assert kernel.poll(found, controls) and controls.active
    assert controls.action.tolist() == [1.0, 0.0, -1.0, 1.0] and controls.take_events() == ["success"]
    axes, buttons = found.joy()
    assert axes == pytest.approx([0.0, 1.0, -1.0, -1.0, 1.0], abs=0.01), "X Y Z RY RZ; up, and a trigger at rest, are 1"
    assert buttons == [int(code in (ecodes.BTN_A, ecodes.BTN_TR)) for code in sorted(BUTTONS)]


def test_at_rest_it_does_nothing_even_with_the_hold_button_held(kernel):
    pad = kernel.plug(Device("event0", "Pad"))
    found, controls = kernel.input()
    kernel.poll(found, controls)
    pad.happens("EV_KEY", "BTN_TR", 1)
    kernel.poll(found, controls)
    assert controls.active and not controls.action.any()


def test_a_key_that_repeats_is_one_event(kernel):
    board = kernel.plug(Device("event0", "Keyboard", [ecodes.KEY_F9], {}))
    fields = dict.fromkeys((*MOTIONS, "hold", *PRESSES, "triggers"), "")
    found, controls = kernel.input(mapping=Mapping(**{**fields, "success": "KEY_F9"}))
    kernel.poll(found, controls)
    for value in (1, 2, 2, 2):
        board.happens("EV_KEY", "KEY_F9", value)
    kernel.poll(found, controls)
    board.happens("EV_KEY", "KEY_F9", 2)
    kernel.poll(found, controls)
    assert controls.take_events() == ["success"]


def test_unplugged_nobody_drives_and_what_is_held_on_its_return_counts_for_nothing(kernel):
    pad = kernel.plug(Device("event0", "Pad"))
    found, controls = kernel.input()
    kernel.poll(found, controls)
    pad.happens("EV_KEY", "BTN_TR", 1)
    kernel.poll(found, controls)
    assert controls.active
    pad.here = False
    assert not kernel.poll(found, controls) and not controls.active and pad.closed
    away = "Pad is away (No such device); plug it in again"
    assert found.problem == away
    kernel.devices.clear()
    Path(pad.path).unlink()
    kernel.poll(found, controls)
    assert found.problem == away, "said once"
    again = kernel.plug(Device("event7", "Pad"))
    again.held = [ecodes.BTN_TR, ecodes.BTN_A]
    assert kernel.poll(found, controls) and found.problem is None
    again.happens("EV_ABS", "ABS_X", -32768)
    kernel.poll(found, controls)
    assert not controls.active and controls.take_events() == []


def test_it_does_not_look_again_at_once(kernel):
    found, controls = kernel.input()
    assert not found.poll(10.0, controls)
    kernel.plug(Device("event0", "Pad"))
    assert not found.poll(10.5, controls) and found.poll(11.1, controls)


def test_events_that_the_kernel_dropped_are_made_up_for(kernel):
    pad = kernel.plug(Device("event0", "Pad"))
    found, controls = kernel.input()
    kernel.poll(found, controls)
    pad.happens("EV_KEY", "BTN_TR", 1)
    kernel.poll(found, controls)
    pad.held = []
    pad.happens("EV_SYN", "SYN_DROPPED", 0)
    kernel.poll(found, controls)
    assert not controls.active


def test_what_hinders_is_one_sentence_with_the_cure(kernel):
    def said(wanted: str = "") -> str:
        found, controls = kernel.input(wanted)
        kernel.poll(found, controls)
        return found.problem

    assert "has all of ABS_Y, ABS_X" in said()
    assert said("/dev/none") == "there is no input device /dev/none; plug it in, or look into /dev/input/by-id"
    locked = str(kernel.folder / "event0")
    kernel.plug(Device("event0", "Pad"))
    kernel.devices[locked] = None
    cure = "may not be opened by this user: sudo usermod -aG input $USER, and log in again"
    assert said(locked) == f"{locked} {cure}"
    assert said() == f"1 input devices in {kernel.folder} {cure}"
    one, two = (kernel.plug(Device(f"event{index}", f"{name} Pad")) for index, name in ((1, "Left"), (2, "Right")))
    assert said() == (
        f"2 input devices fit: 'Left Pad' ({one.path}), 'Right Pad' ({two.path}); name one with the parameter device"
    )
    assert said("right") is None and said(one.path) is None
    less = kernel.plug(Device("event3", "Old", BUTTONS[1:]))
    assert said(less.path) == "'Old' has no BTN_A; take another device or change the mapping"


def test_a_name_that_the_kernel_does_not_know_is_one_sentence():
    with pytest.raises(MappingError, match=r"mapping.x names ABS_QX, which the kernel does not know; did you mean ABS_X\?"):
        codes_of(Mapping(x="ABS_QX", y=""))
    with pytest.raises(MappingError, match=r"mapping.x names EV_KEY, which the kernel does not know"):
        codes_of(Mapping(x="EV_KEY"))


def test_joy_of_another_node_goes_away_and_comes_back():
    fields = {**dict.fromkeys((*MOTIONS, *PRESSES), ""), "x": "axes/1", "gripper": "axes/2", "hold": "buttons/0"}
    mapping = Mapping(**{**fields, "success": "buttons/1", "triggers": "axes/2"})
    joy, controls = JoyInput(mapping, 0.5), Controls(mapping)
    assert not joy.poll(0.0, controls) and joy.problem == "nobody publishes joy; start joy_node"
    joy.take([0.0, 0.0, 1.0], [1, 0], 1.0)
    assert joy.poll(1.0, controls) and joy.problem is None and not controls.active, "held from the beginning"
    joy.take([0.0, 0.0, 1.0], [0, 0], 1.1)
    joy.poll(1.1, controls)
    joy.take([0.0, -1.0, -1.0], [1, 1], 1.2)
    joy.poll(1.2, controls)
    assert controls.active and controls.action.tolist() == [-1.0, 0.0, 0.0, 1.0] and controls.take_events() == ["success"]
    assert not joy.poll(1.8, controls) and not controls.active
    assert joy.problem == "no joy for 0.5 s; start its node again"
    joy.take([0.0], [0, 0], 2.0)
    joy.poll(2.0, controls)
    assert joy.problem == "joy has no axes/1, axes/2; change the mapping"


def test_a_press_on_joy_between_two_looks_counts_once():
    mapping = Mapping(**{**dict.fromkeys((*MOTIONS, *PRESSES), ""), "x": "axes/0", "hold": "buttons/0", "success": "buttons/1"})
    joy, controls = JoyInput(mapping, 0.5), Controls(mapping)
    joy.take([0.0], [0, 0], 1.0)
    joy.poll(1.0, controls)
    for pressed, at_s in ((1, 1.001), (0, 1.004), (1, 1.006), (0, 1.009)):  # and bounces
        joy.take([0.0], [0, pressed], at_s)
    assert joy.poll(1.01, controls) and controls.take_events() == ["success"]
    joy.take([0.0], [0, 1], 1.2)
    assert not joy.poll(2.0, controls) and not joy.poll(2.1, controls), "too old to count"
    assert controls.take_events() == []


def test_joy_is_named_by_place():
    with pytest.raises(MappingError, match=r"mapping.\w+ names ABS_Y; with device joy a control is axes/0, or buttons/0"):
        JoyInput(PAD, 0.5)
