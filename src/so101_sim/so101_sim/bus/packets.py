# SPDX-License-Identifier: Apache-2.0
"""Packets of the servos' protocol 0 as a servo sees them: FF FF, id, length, instruction or status, parameters, checksum."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

BROADCAST = 0xFE
_HEADER = b"\xff\xff"


class Instruction(IntEnum):
    """What a servo can be told."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    RESET = 0x06
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


@dataclass(frozen=True)
class Request:
    """One instruction packet. size: its bytes on the wire."""

    servo: int
    instruction: int
    parameters: bytes

    @property
    def size(self) -> int:
        return len(self.parameters) + 6


def checksum(body: bytes) -> int:
    """Of everything between header and checksum."""
    return ~sum(body) & 0xFF


def status_packet(servo: int, status: int, data: bytes = b"") -> bytes:
    """A servo's answer."""
    body = bytes((servo, len(data) + 2, status)) + data
    return _HEADER + body + bytes((checksum(body),))


class RequestReader:
    """Finds instruction packets in a stream of bytes; what has a wrong checksum is skipped and counted."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.bad = 0

    def feed(self, data: bytes) -> list[Request]:
        """The packets that are complete now."""
        self._buffer += data
        found = []
        while (start := self._buffer.find(_HEADER)) >= 0:
            del self._buffer[:start]
            if len(self._buffer) < 4:
                break
            length = self._buffer[3]
            if self._buffer[2] == 0xFF or length < 2:
                del self._buffer[:1]
                continue
            if len(self._buffer) < length + 4:
                break
            body = bytes(self._buffer[2 : length + 3])
            if checksum(body) == self._buffer[length + 3]:
                found.append(Request(body[0], body[2], body[3:]))
                del self._buffer[: length + 4]
            else:
                self.bad += 1
                del self._buffer[:2]
        return found

    @property
    def unfinished(self) -> bool:
        """Whether a packet has begun."""
        return bool(self._buffer)

    def clear(self) -> None:
        """Forget an unfinished packet, as a servo does when the line falls silent."""
        self._buffer.clear()
