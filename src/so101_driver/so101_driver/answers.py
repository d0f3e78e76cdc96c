# SPDX-License-Identifier: Apache-2.0
"""Finds servos' answers in what the port delivers.

Feetech's SDK has a reader too, but it believes a damaged length and then swallows the good answers behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

FRAME = 6  # header, id, length, status and checksum
_HEADER = b"\xff\xff"


class Fault(Enum):
    """Why a servo gave nothing to use."""

    NO_ANSWER = "no answer"
    CHECKSUM = "bad checksum"
    SHORT = "short answer"
    WRONG_ID = "wrong id"
    LENGTH = "wrong length"


class Answers:
    """The answers to one question, expected in the order of `servos`, each with `size` bytes of data.

    found: data by servo. statuses: the error byte of each of these answers. faults: by servo, one for each that gave nothing to
    use; final after `finish`. echoed: the question came back in front of the answers, and was passed over.
    """

    def __init__(self, servos: Sequence[int], size: int, echo: bytes = b"") -> None:
        """echo: what an adapter may send back that hears its own sender; empty where it does not."""
        self.found: dict[int, bytes] = {}
        self.statuses: dict[int, int] = {}
        self.echoed = False
        self.faults: dict[int, Fault] = {}
        self._servos, self._size, self._echo = list(servos), size, echo
        self._buffer = bytearray()
        self._taken = 0  # bytes in front of the buffer's first, since the question
        self._damaged: tuple[int, int] | None = None  # servo, and where its packet should have ended

    @property
    def complete(self) -> bool:
        """Nothing more is to come."""
        return not self._servos

    def feed(self, data: bytes) -> None:
        """Bytes from the port."""
        self._buffer += data
        while self._servos and self._step():
            pass

    def finish(self) -> None:
        """No more will come: name what is wrong with those that are missing."""
        self._echo = b""
        self.feed(b"")
        while self._servos and len(self._buffer) >= 4:  # behind an unfinished packet may stand a finished one
            self._note(Fault.SHORT)
            self._drop(1)
            while self._servos and self._step():
                pass
        if self._buffer and self._servos:
            self._note(Fault.SHORT)
        for servo in self._servos:
            self.faults.setdefault(servo, Fault.NO_ANSWER)

    def _step(self) -> bool:
        """Take the next packet, or a byte that belongs to none, off the buffer; False when there is none."""
        start = self._buffer.find(_HEADER)
        if start < 0:
            self._drop(max(0, len(self._buffer) - 1))
            return False
        self._drop(start)
        if self._echo and self._echo.startswith(begin := bytes(self._buffer[: len(self._echo)])):
            return self._pass_echo(len(begin))
        if len(self._buffer) < 4:
            return False
        servo, length = self._buffer[2], self._buffer[3]
        if length != self._size + 2:
            if self._stranger(length):
                self._note(Fault.LENGTH, servo)
            self._drop(1)  # not the whole: a damaged length may by chance fit to what follows
            return True
        if len(self._buffer) < length + 4:
            return False
        packet = bytes(self._buffer[: length + 4])
        if ~sum(packet[2:-1]) & 0xFF != packet[-1]:
            self._note(Fault.CHECKSUM, servo)
            self._damaged = (servo if servo in self._servos else self._servos[0], self._taken + len(packet))
            self._drop(1)
            return True
        self._take(servo, packet)
        return True

    def _pass_echo(self, come: int) -> bool:
        """Take the echo off the buffer once all of it has come; False while it has not."""
        if come < len(self._echo):
            return False
        self.echoed, self._echo = True, b""
        self._drop(come)
        return True

    def _stranger(self, length: int) -> bool:
        """Whether a packet of another length is here and whole: then it answers another question."""
        body = self._buffer[2 : length + 3]
        return length >= 2 and len(self._buffer) >= length + 4 and ~sum(body) & 0xFF == self._buffer[length + 3]

    def _take(self, servo: int, packet: bytes) -> None:
        if self._damaged is not None and self._taken < self._damaged[1]:
            self.faults[self._damaged[0]] = Fault.SHORT  # this packet stands where the damaged one should still go on
        self._damaged = None
        if servo not in self._servos:
            self._note(Fault.WRONG_ID)
        else:
            place = self._servos.index(servo)
            for silent in self._servos[:place]:
                self.faults.setdefault(silent, Fault.NO_ANSWER)
            self._servos = self._servos[place + 1 :]
            self.faults.pop(servo, None)
            self.found[servo], self.statuses[servo] = packet[5:-1], packet[4]
        self._drop(len(packet))

    def _note(self, fault: Fault, servo: int | None = None) -> None:
        self.faults.setdefault(servo if servo in self._servos else self._servos[0], fault)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._taken += count
