# SPDX-License-Identifier: Apache-2.0
"""The serial port as Feetech's SDK sees it: waits instead of spinning, keeps a steady clock, and says why it cannot open."""

from __future__ import annotations

import errno
import math
import os
import select
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import serial
from scservo_sdk import PortHandler
from serial.tools import list_ports

from so101_driver.errors import BusError, PortBusyError, PortDeniedError, PortLostError, PortMissingError

BAUD = 1_000_000
_BITS_PER_BYTE = 10
_CHUNK = 4096


class Port(PortHandler):
    """Opened for this program alone. reply_timeout_s: how long an answer may take beyond its time on the wire."""

    def __init__(self, name: str, reply_timeout_s: float) -> None:
        super().__init__(name)
        self.baudrate = BAUD
        self.reply_timeout_s = reply_timeout_s
        self.latest_s = math.inf  # until when answers are waited for at most, on the steady clock
        self.late_bytes = 0
        self.sent = b""  # the last packet
        self._deadline_s = 0.0

    def open(self) -> None:
        """Open it. Raises PortMissingError, PortDeniedError, PortBusyError or BusError, with the cure."""
        try:
            self.ser = serial.Serial(self.port_name, self.baudrate, timeout=0, exclusive=True)
            self.ser.reset_input_buffer()
        except (OSError, termios.error, ValueError) as error:
            raise self._reason(error) from error
        self.is_open, self.is_using = True, False
        self.tx_time_per_byte = 1000.0 * _BITS_PER_BYTE / self.baudrate

    def _reason(self, error: Exception) -> BusError:
        name, number = self.port_name, getattr(error, "errno", None)
        if number == errno.ENOENT or isinstance(error, FileNotFoundError):
            known = ", ".join(sorted(item.device for item in list_ports.comports())) or "none"
            return PortMissingError(f"there is no serial port {name} (there are: {known}); plug the arm's USB cable in")
        if number in (errno.EACCES, errno.EPERM):
            return PortDeniedError(
                f"this user may not open {name}; run 'sudo usermod -aG dialout $USER', log out and log in again"
            )
        if number in (errno.EBUSY, errno.EAGAIN):
            return PortBusyError(f"another program uses {name}; 'fuser -v {name}' shows which, stop it")
        return BusError(f"{name} cannot be opened as a serial port ({error}); give the port of the arm's USB adapter")

    def close(self) -> None:
        """Close it; nothing happens when it is closed or gone."""
        self.is_open = False
        if self.ser is not None:
            with suppress(OSError, termios.error):
                self.ser.close()
            self.ser = None

    def drain(self, quiet_s: float) -> None:
        """Throw away what comes until nothing has come for this long."""
        with self._watched():
            while select.select([self.ser.fileno()], [], [], quiet_s)[0]:
                self.late_bytes += len(self._take(_CHUNK))

    def _take(self, length: int) -> bytes:
        data = os.read(self.ser.fileno(), length)
        if not data:
            raise OSError(errno.EIO, "it answers no more")
        return data

    # What follows is called by the SDK, under its names.

    def clearPort(self) -> None:
        """Forget what came too late for the question before: it must not answer the next one."""
        with self._watched():
            waiting = self.ser.in_waiting
            if waiting:
                self.late_bytes += waiting
                self.ser.reset_input_buffer()

    def readPort(self, length: int) -> bytes:
        """Up to `length` bytes, as soon as there are any; none when the time for the answer is over."""
        with self._watched():
            if length <= 0:
                return b""
            ready, _, _ = select.select([self.ser.fileno()], [], [], max(0.0, self._deadline_s - time.monotonic()))
            return self._take(length) if ready else b""

    def writePort(self, packet: list[int]) -> int:
        """Send; the number of bytes sent."""
        self.sent = bytes(packet)
        with self._watched():
            return os.write(self.ser.fileno(), self.sent)

    def setPacketTimeout(self, packet_length: int) -> None:
        """The answer of so many bytes is due from now on."""
        wire_s = packet_length * _BITS_PER_BYTE / self.baudrate
        self._deadline_s = min(time.monotonic() + wire_s + self.reply_timeout_s, self.latest_s)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Turns what the system says about a device that is gone into PortLostError."""
        try:
            if self.ser is None:
                raise OSError(errno.ENODEV, "it is not open")
            yield
        except (OSError, termios.error) as error:
            raise PortLostError(f"{self.port_name} has gone ({error}); plug the arm's USB cable in again") from error
