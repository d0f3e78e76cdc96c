# SPDX-License-Identifier: Apache-2.0
"""A socket or pipe that carries the kernel's input events, for a keyboard that is no device.

It has whatever controls the mapping names, all at rest when it is opened.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import evdev
from evdev import ecodes

_EVENT = struct.Struct("llHHi")  # struct input_event: seconds, microseconds, type, code, value
_MOST = 64 * _EVENT.size
_STICK = evdev.AbsInfo(0, -32767, 32767, 0, 0, 0)
_TRIGGER = evdev.AbsInfo(0, 0, 255, 0, 0, 0)


def is_stream(path: str) -> bool:
    """Whether a path is a socket or a pipe; False also where nothing exists."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)


class EventStream:
    """The part of evdev.InputDevice that a reader needs. Raises OSError when it cannot be opened."""

    def __init__(self, path: str, codes: Mapping[tuple[int, int], str], triggers: set[str]) -> None:
        """codes: names of the controls by type and code of their events. triggers: names of axes that rest at one end."""
        self.path = self.name = path
        self._controls = {kind: [code for found, code in codes if found == kind] for kind in (ecodes.EV_KEY, ecodes.EV_ABS)}
        self._triggers = {code for (_, code), name in codes.items() if name in triggers}
        self._rest = b""
        self._fd = self._opened(path)

    @staticmethod
    def _opened(path: str) -> int:
        if stat.S_ISFIFO(Path(path).stat().st_mode):
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with socket.socket(socket.AF_UNIX) as found:
            found.setblocking(False)  # a sender that accepts no connection must not block the reader
            found.connect(path)
            return found.detach()

    def read(self) -> Iterator[evdev.InputEvent]:
        """The events that have come. Raises BlockingIOError when there are none, OSError when the sender is gone."""
        data = os.read(self._fd, _MOST)
        if not data:
            raise OSError(errno.ENODEV, "its sender has ended")
        data = self._rest + data
        whole = len(data) - len(data) % _EVENT.size
        self._rest = data[whole:]
        return (evdev.InputEvent(*values) for values in _EVENT.iter_unpack(data[:whole]))

    def capabilities(self, absinfo: bool = False) -> dict[int, list[int]]:
        """Codes by the type of event."""
        return self._controls

    def absinfo(self, code: int) -> evdev.AbsInfo:
        """Rest position and range of an axis."""
        return _TRIGGER if code in self._triggers else _STICK

    def active_keys(self) -> list[int]:
        """Return no keys: what was pressed before is not known."""
        return []

    def grab(self) -> None:
        """Do nothing: no other reader gets this reader's events."""

    def close(self) -> None:
        """Do nothing: `grab` took nothing."""
        os.close(self._fd)
