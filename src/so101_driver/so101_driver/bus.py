# SPDX-License-Identifier: Apache-2.0
"""The servo bus: registers by name, positions of all servos in one packet, goals in one packet, health in turn.

Feetech's SDK makes the packets. An answer counts only with the right checksum, id and length.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scservo_sdk import COMM_SUCCESS, GroupSyncWrite, PacketHandler

from so101_driver.answers import FRAME, Answers, Fault
from so101_driver.errors import MissingServoError, MixedFirmwareError, NoAnswerError, PortLostError, WrongModelError
from so101_driver.port import Port
from so101_driver.registers import MODEL_NUMBER, pick, register, span

IDS = (1, 2, 3, 4, 5, 6)
_STATE = span("Present_Position", "Present_Velocity")
# Protocol 0 does not number its packets, so an answer that comes late could be taken for one to the next question. What is
# asked again and again therefore has lengths that tell: up to so many bytes more than needed, in turn.
_STATE_LENGTHS = 4
_HEALTH = span("Torque_Enable", "Present_Current")
_READ, _WRITE = 2, 3
_QUIET_S = 0.03
_CHUNK = 256
_PATIENCE_S = 0.05
_LEAST_S = 0.002  # an answer takes so long at least


@dataclass(frozen=True)
class Sample:
    """Position [counts], velocity [counts/s], and when they came on the steady clock [s]."""

    position: int
    velocity: int
    time_s: float


@dataclass(frozen=True)
class Health:
    """What one servo says of itself: load -1 to 1, volts, °C, amperes, its status bits, and whether its torque is on."""

    servo: int
    load: float
    voltage_v: float
    temperature_c: int
    current_a: float
    status: int
    torque: bool
    time_s: float


@dataclass(frozen=True)
class Cycle:
    """One look at all servos. samples: the last good one of each. missing: those that gave nothing new this time."""

    samples: Mapping[int, Sample]
    missing: tuple[int, ...]

    @property
    def fresh(self) -> bool:
        """Everything in it is of this cycle."""
        return not self.missing

    def age_s(self, now_s: float) -> float:
        """Age of the oldest sample, infinite before every servo has given one."""
        ages = [now_s - sample.time_s for sample in self.samples.values()]
        known = len(self.samples) == len(set(self.samples) | set(self.missing))
        return max(ages) if known and ages else float("inf")


class Bus:
    """Six servos on a serial port. Not for use from several threads at once.

    reply_timeout_s: how long an answer may take beyond its time on the wire. retries: further tries after the first.
    statuses: by servo, every bit that stood in the error byte of an answer. echoes: whether the adapter hears its own sender:
    every packet then comes back before its answer, and is passed over. None before that is known.
    Every method that talks raises PortLostError when the port has gone.
    """

    def __init__(
        self,
        port: str,
        ids: Sequence[int] = IDS,
        *,
        reply_timeout_s: float = 0.005,
        retries: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: gives the time of samples [s]."""
        self._clock = clock
        self.port_name, self.ids, self.retries = port, tuple(ids), retries
        self.faults: Counter[tuple[int, Fault]] = Counter()
        self.statuses: dict[int, int] = {}
        self.echoes: bool | None = None
        self._samples: dict[int, Sample] = {}
        self._port = Port(port, reply_timeout_s)
        self._packets = PacketHandler(0)
        self._next_state = self._next_health = 0

    def open(self) -> None:
        """Open the port. Raises what Port.open raises."""
        self._port.open()

    def close(self) -> None:
        """Close the port; the servos go on as they are."""
        self._port.close()

    @property
    def is_open(self) -> bool:
        """Whether the port is open."""
        return self._port.is_open

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Wait longer for answers meanwhile: for what need not be done within a cycle."""
        usual = self._port.reply_timeout_s
        self._port.reply_timeout_s = max(usual, _PATIENCE_S)
        try:
            yield
        finally:
            self._port.reply_timeout_s = usual

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Meanwhile no answer is waited for beyond this time from now, and nothing is asked again that could not be in it."""
        self._port.latest_s = time.monotonic() + seconds
        try:
            yield
        finally:
            self._port.latest_s = math.inf

    @property
    def _in_time(self) -> bool:
        return time.monotonic() + _LEAST_S < self._port.latest_s

    @property
    def late_bytes(self) -> int:
        """Bytes that came after their time and were thrown away."""
        return self._port.late_bytes

    def __enter__(self) -> Bus:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ping(self, servo: int) -> bool:
        """Whether a servo answers. Asks for its id, because an echo of Feetech's ping could pass for the answer."""
        found = register("ID")
        return servo in self._ask([servo], self._frame(servo, _READ, found.address, found.size), found.size)

    def read(self, servo: int, name: str) -> int:
        """A register's value. Raises NoAnswerError after all tries."""
        found = register(name)
        request = self._frame(servo, _READ, found.address, found.size)
        return found.decode(self._insist(servo, request, found.size, f"read {name} of"))

    def write(self, servo: int, name: str, value: int) -> None:
        """Set a register, confirmed by the servo. Raises NoAnswerError after all tries, ValueError for a wrong value."""
        found = register(name)
        self._insist(servo, self._frame(servo, _WRITE, found.address, *found.encode(value)), 0, f"write {name} of")

    def read_state(self) -> Cycle:
        """Positions and velocities of all servos in one packet; those that are missing are asked again in another.

        Never raises because of bad packets: what is not new keeps its last good sample and is named.
        """
        missing = list(self.ids)
        for _ in range(1 + self.retries):
            answers = self._sync_read(missing, _STATE[0], _STATE[1] + self._next_state)
            self._next_state = (self._next_state + 1) % _STATE_LENGTHS
            now = self._clock()
            for servo, data in answers.items():
                values = (pick(name, data, _STATE[0]) for name in ("Present_Position", "Present_Velocity"))
                self._samples[servo] = Sample(*values, now)
            missing = [servo for servo in missing if servo not in answers]
            if not missing or not self._in_time:
                break
        return Cycle(dict(self._samples), tuple(missing))

    def write_goals(self, goals: Mapping[int, int]) -> None:
        """Goal positions [counts] of several servos in one packet, which no servo confirms."""
        found = register("Goal_Position")
        writer = GroupSyncWrite(self._port, self._packets, found.address, found.size)
        for servo, goal in goals.items():
            writer.addParam(servo, list(found.encode(goal)))
        self._free()
        writer.txPacket()

    def read_health(self) -> Health | None:
        """What the next servo in turn says of itself; None when it gave no good answer, or there is no time. One try."""
        if not self._in_time:
            return None
        servo = self.ids[self._next_health % len(self.ids)]
        self._next_health += 1
        data = self._ask([servo], self._frame(servo, _READ, *_HEALTH), _HEALTH[1]).get(servo)
        if data is None:
            return None
        load, volts, heat, amperes, status = (
            pick(f"Present_{name}" if name != "Status" else name, data, _HEALTH[0])
            for name in ("Load", "Voltage", "Temperature", "Current", "Status")
        )
        torque = pick("Torque_Enable", data, _HEALTH[0]) == 1
        return Health(servo, load / 1000, volts / 10, heat, amperes * 0.0065, status, torque, self._clock())

    def check(self) -> None:
        """Look whether all servos are there, of one model and firmware.

        Raises MissingServoError, WrongModelError or MixedFirmwareError, with the cure.
        """
        self.check_answers()
        self.check_models(self.ids)
        self.check_firmware(self.ids)

    def silent(self) -> tuple[int, ...]:
        """Servos that do not answer in all tries."""
        return tuple(servo for servo in self.ids if not any(self.ping(servo) for _ in range(1 + self.retries)))

    def check_answers(self) -> None:
        """Raises MissingServoError when a servo is silent."""
        if missing := self.silent():
            raise MissingServoError(
                f"no answer from servo {_listed(missing)} on {self.port_name}; check the arm's power supply and the cable "
                f"before servo {missing[0]}"
            )

    def check_models(self, servos: Iterable[int]) -> None:
        """Raises WrongModelError when one of these is no STS3215."""
        models = {servo: self.read(servo, "Model_Number") for servo in servos}
        wrong = [f"{servo} (model {model})" for servo, model in models.items() if model != MODEL_NUMBER]
        if wrong:
            raise WrongModelError(f"servo {_listed(wrong)} is no STS3215 (model {MODEL_NUMBER}); fit the right servo")

    def check_firmware(self, servos: Iterable[int]) -> str:
        """The firmware of these servos. Raises MixedFirmwareError when it differs."""
        firmware = {
            servo: f"{self.read(servo, 'Firmware_Major_Version')}.{self.read(servo, 'Firmware_Minor_Version')}"
            for servo in servos
        }
        if len(set(firmware.values())) > 1:
            text = ", ".join(f"{servo}: {version}" for servo, version in firmware.items())
            raise MixedFirmwareError(
                f"the servos' firmware differs ({text}); bring all to the newest with Feetech's FD software"
            )
        return next(iter(firmware.values()))

    def _insist(self, servo: int, request: list[int], size: int, what: str) -> bytes:
        for _ in range(1 + self.retries):
            data = self._ask([servo], request, size).get(servo)
            if data is not None:
                return data
            self._port.drain(_QUIET_S)  # a late answer must not be taken for one to the next question
        raise NoAnswerError(
            f"could not {what} servo {servo} on {self.port_name} in {1 + self.retries} tries; check its cable and supply"
        )

    def _sync_read(self, servos: Sequence[int], address: int, size: int) -> dict[int, bytes]:
        self._free()
        result = self._packets.syncReadTx(self._port, address, size, list(servos), len(servos))
        if result != COMM_SUCCESS:
            raise PortLostError(f"{self.port_name} takes no more bytes; plug the arm's USB cable in again")
        return self._collect(servos, size)

    def _ask(self, servos: Sequence[int], request: list[int], size: int) -> dict[int, bytes]:
        self._free()
        if self._packets.txPacket(self._port, request) != COMM_SUCCESS:
            raise PortLostError(f"{self.port_name} takes no more bytes; plug the arm's USB cable in again")
        return self._collect(servos, size)

    def _collect(self, servos: Sequence[int], size: int) -> dict[int, bytes]:
        """The good answers by servo; what is wrong with the others is counted."""
        self._port.setPacketTimeout(len(servos) * (FRAME + size))
        sent = self._port.sent
        answers = Answers(servos, size, b"" if self.echoes is False else sent)
        while not answers.complete and (data := self._port.readPort(_CHUNK)):
            answers.feed(data)
        answers.finish()
        self.faults.update(answers.faults.items())
        for servo, status in answers.statuses.items():
            self.statuses[servo] = self.statuses.get(servo, 0) | status
        if answers.echoed:
            self.echoes = True
        elif self.echoes is None and answers.found and (sent[2] not in servos or sent[3] != size + 2):
            self.echoes = False  # no echo came back; an echo of this question could not pass for an answer
        return answers.found

    def _free(self) -> None:
        self._port.is_using = False  # the SDK leaves it set after a packet that was only sent

    @staticmethod
    def _frame(servo: int, instruction: int, *parameters: int) -> list[int]:
        """A packet without header and checksum, which the SDK fills in."""
        return [0, 0, servo, len(parameters) + 2, instruction, *parameters, 0]


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))
