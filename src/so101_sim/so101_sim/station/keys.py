# SPDX-License-Identifier: Apache-2.0
"""The twin's keyboard: a device of the kernel (uinput) where that is allowed, else a socket that carries the same events."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Protocol

import evdev
from evdev import ecodes

from so101_sim.station.settings import StationError

_EVENT = struct.Struct("llHHi")  # struct input_event: seconds, microseconds, type, code, value
_KEYS = {name: code for name, code in ecodes.ecodes.items() if name.startswith("KEY_") and 0 < code < ecodes.KEY_MICMUTE}
_HELD_S = 0.06  # how long a pressed key stays down


class Keys(Protocol):
    """A keyboard whose keys can be pressed."""

    def change(self, key: int, down: bool) -> None:
        """Put a key, by its code, down or up."""

    def close(self) -> None:
        """Remove the keyboard."""


class KernelKeys:
    """A keyboard of the kernel (uinput), with a link to its device. Raises OSError where it cannot be made."""

    def __init__(self, link: Path) -> None:
        self._link = link
        try:
            self._device = evdev.UInput({ecodes.EV_KEY: sorted(set(_KEYS.values()))}, name="reach-grasp twin keyboard")
        except evdev.UInputError as error:
            raise OSError(str(error)) from error
        try:
            make_room(link)
            link.symlink_to(self._device.device.path)
        except (OSError, AttributeError) as error:  # without a node in /dev/input the device is None
            self._device.close()
            raise OSError(f"{link} cannot be made a link to the keyboard: {error}") from error

    def change(self, key: int, down: bool) -> None:
        """Put a key, by its code, down or up."""
        self._device.write(ecodes.EV_KEY, key, int(down))
        self._device.syn()

    def close(self) -> None:
        """Remove the keyboard."""
        self._link.unlink(missing_ok=True)
        self._device.close()


class SocketKeys:
    """A socket that sends the kernel's input events to each reader, from the moment it connects."""

    def __init__(self, path: Path) -> None:
        make_room(path)
        self._path = path
        self._server = socket.socket(socket.AF_UNIX)
        try:
            self._server.bind(str(path))
        except OSError as error:
            self._server.close()
            raise StationError(f"{path} cannot be made a socket: {error.strerror or error}; use a shorter --folder") from error
        self._server.listen()
        self._readers: list[socket.socket] = []
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="keys", daemon=True)
        self._thread.start()

    @property
    def readers(self) -> int:
        """Number of readers of the events."""
        return len(self._readers)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                if self._woken in [key.fileobj for key, _ in selector.select()]:
                    return
                reader, _ = self._server.accept()
                reader.setblocking(False)
                with self._lock:
                    self._readers.append(reader)

    def change(self, key: int, down: bool) -> None:
        """Put a key, by its code, down or up."""
        now_us = time.time_ns() // 1000
        when = divmod(now_us, 1_000_000)
        data = _EVENT.pack(*when, ecodes.EV_KEY, key, int(down)) + _EVENT.pack(*when, ecodes.EV_SYN, ecodes.SYN_REPORT, 0)
        with self._lock:
            for reader in list(self._readers):
                try:
                    sent = reader.send(data)
                except OSError:  # the reader is gone, or has read nothing for a long time
                    sent = 0
                if sent != len(data):
                    reader.close()
                    self._readers.remove(reader)

    def close(self) -> None:
        """Remove the keyboard."""
        self._wake.send(b"x")
        self._thread.join()
        for found in (self._server, self._wake, self._woken, *self._readers):
            found.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


def make_room(path: Path) -> None:
    """Remove a link or socket that an earlier run left. Raises StationError where something else has the name."""
    if path.is_symlink() or path.is_socket():
        path.unlink()
    elif path.exists():
        raise StationError(f"{path} exists and does not belong to the twin; remove it or choose another --folder")


def make_keys(path: Path) -> Keys:
    """The keyboard at `path`. Raises StationError."""
    if os.access("/dev/uinput", os.W_OK):
        with contextlib.suppress(OSError):
            return KernelKeys(path)
    return SocketKeys(path)


def key_code(name: str) -> int:
    """The code of a key such as KEY_F9. Raises StationError."""
    if name not in _KEYS:
        raise StationError(f"there is no key '{name}'; names are those of the kernel, such as KEY_F9")
    return _KEYS[name]


def press(keys: Keys, name: str) -> None:
    """Press a key, by its name, and release it a moment later. Raises StationError."""
    code = key_code(name)
    keys.change(code, True)
    time.sleep(_HELD_S)
    keys.change(code, False)
