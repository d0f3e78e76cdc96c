# SPDX-License-Identifier: Apache-2.0
"""Finds the arm again after it was plugged in elsewhere: by the USB adapter's serial number, or by who answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from serial.tools import list_ports

from so101_driver.bus import IDS, Bus
from so101_driver.errors import BusError, PortMissingError


def usb_serial_of(port: str) -> str | None:
    """The serial number of the USB adapter behind a port; None where there is none."""
    device = str(Path(port).resolve())
    return next((item.serial_number for item in list_ports.comports() if item.device == device), None)


def find_port(usb_serial: str | None = None, ids: Sequence[int] = IDS, candidates: Iterable[str] | None = None) -> str:
    """The port of the arm.

    usb_serial: of the adapter; nothing else is tried then. candidates: ports to ask for servos, all USB ports if None.
    Raises PortMissingError when none fits, and when several do.
    """
    known = list(list_ports.comports())
    if usb_serial:
        found = [item.device for item in known if item.serial_number == usb_serial]
        what = f"with the USB serial number {usb_serial}"
    else:
        names = [item.device for item in known if item.vid is not None] if candidates is None else candidates
        found = [name for name in names if _has_servos(name, ids)]
        what = f"with servos {ids[0]} to {ids[-1]}"
    if not found:
        raise PortMissingError(f"there is no serial port {what}; plug the arm's USB cable in and switch its supply on")
    if len(found) > 1:
        raise PortMissingError(f"{' and '.join(found)} are both ports {what}; give the arm's port")
    return found[0]


def _has_servos(port: str, ids: Sequence[int]) -> bool:
    try:
        with Bus(port, ids) as bus, bus.patiently():
            return all(any(bus.ping(servo) for _ in range(1 + bus.retries)) for servo in ids)
    except BusError:
        return False
