# SPDX-License-Identifier: Apache-2.0
"""A gamepad or keyboard as the kernel has it (evdev): found by name, path or what it has, and again after it was unplugged.

A path that is a socket or a pipe is read as a stream of the same events: event_stream.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import evdev
from evdev import ecodes

from so101_driver.controls import Controls
from so101_driver.errors import InputAmbiguousError, InputDeniedError, InputError, InputMissingError, MappingError
from so101_driver.event_stream import EventStream, is_stream
from so101_driver.mapping import Mapping, terms

_RETRY_S = 1.0
_MOST_READS = 64  # per poll: a sender that never stops must not block the node
_FOLDER = Path("/dev/input")
_DENIED = "may not be opened by this user: sudo usermod -aG input $USER, and log in again"
_CODES = {name: code for name, code in ecodes.ecodes.items() if name.startswith(("ABS_", "BTN_", "KEY_"))}


def codes_of(mapping: Mapping) -> dict[tuple[int, int], str]:
    """Event type and code of every control the mapping names. Raises MappingError for a name the kernel does not know."""
    named = mapping.names | {term.name: "triggers" for term in terms(mapping.triggers) if term.name not in mapping.names}
    for name, field in named.items():
        if name not in _CODES:
            near = difflib.get_close_matches(name, _CODES, n=1)
            hint = f"did you mean {near[0]}?" if near else "names are those of evdev, such as ABS_X, BTN_A, KEY_W"
            raise MappingError(f"mapping.{field} names {name}, which the kernel does not know; {hint}")
    return {(ecodes.EV_ABS if name.startswith("ABS_") else ecodes.EV_KEY, _CODES[name]): name for name in mapping.names}


class InputDevice:
    """Not at hand at first. `poll` looks for it, hands on what happens, and goes on when it is away. problem: why it is."""

    def __init__(
        self,
        wanted: str,
        mapping: Mapping,
        grab: bool = False,
        folder: Path = _FOLDER,
        open_device: Callable[[str], evdev.InputDevice] = evdev.InputDevice,
    ) -> None:
        """wanted: a path, a part of the name, or empty for the only one that has every control. Raises MappingError."""
        self.problem: str | None = f"looking for {wanted or 'an input device'}"
        self.name = ""
        self._wanted, self._grab, self._folder, self._open = wanted, grab, folder, open_device
        self._codes = codes_of(mapping)
        self._triggers = {term.name for term in terms(mapping.triggers)}
        self._device: evdev.InputDevice | EventStream | None = None
        self._axes: dict[int, evdev.AbsInfo] = {}
        self._positions: dict[int, int] = {}
        self._keys: list[int] = []
        self._pressed: set[int] = set()
        self._away = ""  # what is said as long as it is not back
        self._next_s = 0.0

    def poll(self, now_s: float, controls: Controls) -> bool:
        """Hand what happened since the last call to `controls`. Whether anything did. Never raises because of the device."""
        if self._device is None:
            if now_s < self._next_s:
                return False
            self._next_s = now_s + _RETRY_S
        try:
            if self._device is None:
                self._begin(controls)
                return True
            return self._read(now_s, controls)
        except InputMissingError as error:
            self.problem = self._away or str(error)
        except InputError as error:
            self.problem = str(error)
        except OSError as error:
            self.close()
            controls.lost()
            self._away = f"{self.name or 'the input device'} is away ({error.strerror or error}); plug it in again"
            self.problem = self._away
        return False

    def joy(self) -> tuple[list[float], list[int]]:
        """Axes and buttons in the order of their codes, as sensor_msgs/Joy has them: up, left and triggers at rest are 1."""
        axes = [0.0 - _along(self._axes[code], value) for code, value in sorted(self._positions.items())]
        return axes, [int(code in self._pressed) for code in self._keys]

    def close(self) -> None:
        """Give the device back."""
        if self._device is not None:
            self._device.close()
            self._device = None

    # Found ------------------------------------------------------------------------------------------------------------

    def _begin(self, controls: Controls) -> None:
        device = self._find()
        try:
            self._take(device)
        except OSError:
            device.close()
            raise
        self._device, self.name, self.problem, self._away = device, device.name, None, ""
        controls.begin(self._values())

    def _take(self, device: evdev.InputDevice | EventStream) -> None:
        if self._grab:
            device.grab()
        found = device.capabilities(absinfo=False)
        self._axes = {code: device.absinfo(code) for code in found.get(ecodes.EV_ABS, [])}
        self._keys = sorted(found.get(ecodes.EV_KEY, []))
        self._positions = {code: info.value for code, info in self._axes.items()}
        self._pressed = set(device.active_keys())

    def _find(self) -> evdev.InputDevice | EventStream:
        if self._wanted.startswith("/"):
            return self._chosen(self._wanted)
        found, denied = [], 0
        for path in sorted(self._folder.glob("event*")):
            try:
                device = self._open(str(path))
            except PermissionError:
                denied += 1
                continue
            except OSError:
                continue  # it went away meanwhile
            if self._wanted.lower() in device.name.lower() and not self._lacking(device):
                found.append(device)
            else:
                device.close()
        if len(found) == 1:
            return found[0]
        for device in found:
            device.close()
        if found:
            listed = ", ".join(f"'{device.name}' ({device.path})" for device in found)
            raise InputAmbiguousError(f"{len(found)} input devices fit: {listed}; name one with the parameter device")
        if denied:
            raise InputDeniedError(f"{denied} input devices in {self._folder} {_DENIED}")
        which = f"named '{self._wanted}' " if self._wanted else ""
        raise InputMissingError(
            f"no input device {which}in {self._folder} has all of {', '.join(self._codes.values())}; "
            "plug it in, or change the mapping"
        )

    def _chosen(self, path: str) -> evdev.InputDevice | EventStream:
        try:
            device = EventStream(path, self._codes, self._triggers) if is_stream(path) else self._open(path)
        except FileNotFoundError:
            raise InputMissingError(f"there is no input device {path}; plug it in, or look into /dev/input/by-id") from None
        except PermissionError:
            raise InputDeniedError(f"{path} {_DENIED}") from None
        if lacking := self._lacking(device):
            device.close()
            raise InputMissingError(f"'{device.name}' has no {', '.join(lacking)}; take another device or change the mapping")
        return device

    def _lacking(self, device: evdev.InputDevice | EventStream) -> list[str]:
        found = device.capabilities(absinfo=False)
        return [name for (kind, code), name in self._codes.items() if code not in found.get(kind, [])]

    # Read -------------------------------------------------------------------------------------------------------------

    def _read(self, now_s: float, controls: Controls) -> bool:
        changed = False
        for _ in range(_MOST_READS):
            try:
                events = list(self._device.read())
            except BlockingIOError:
                return changed
            for event in events:
                changed |= self._note(event, now_s, controls)
        return changed

    def _note(self, event: evdev.InputEvent, now_s: float, controls: Controls) -> bool:
        if event.type == ecodes.EV_SYN and event.code == ecodes.SYN_DROPPED:
            self._take_stock(now_s, controls)
            return True
        if event.type == ecodes.EV_ABS and event.code in self._axes:
            self._positions[event.code] = event.value
        elif event.type == ecodes.EV_KEY and event.value in (0, 1):  # 2: the key repeats while it is held
            (self._pressed.add if event.value else self._pressed.discard)(event.code)
        else:
            return False
        if name := self._codes.get((event.type, event.code)):
            controls.change(name, self._value(event.type, event.code, name), now_s)
        return True

    def _take_stock(self, now_s: float, controls: Controls) -> None:
        """The kernel dropped events, as nobody read them: see how it is now."""
        self._positions = {code: self._device.absinfo(code).value for code in self._axes}
        self._pressed = set(self._device.active_keys())
        for name, value in self._values().items():
            controls.change(name, value, now_s)

    def _values(self) -> dict[str, float]:
        return {name: self._value(kind, code, name) for (kind, code), name in self._codes.items()}

    def _value(self, kind: int, code: int, name: str) -> float:
        if kind == ecodes.EV_KEY:
            return float(code in self._pressed)
        along = _along(self._axes[code], self._positions[code])
        return (along + 1.0) / 2.0 if name in self._triggers else along


def _along(info: evdev.AbsInfo, value: int) -> float:
    """Where an axis is, from -1 at its least to 1 at its greatest value."""
    span = max(1, info.max - info.min)
    return min(1.0, max(-1.0, 2.0 * (value - info.min) / span - 1.0))
