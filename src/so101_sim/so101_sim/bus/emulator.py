# SPDX-License-Identifier: Apache-2.0
"""The bus on a pseudo-terminal: whoever opens its device finds six servos, with the wire's and the adapter's delays."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from so101_description import JOINTS, joint_limits
from so101_sim.bus.faults import Faults
from so101_sim.bus.packets import BROADCAST, Instruction, Request, RequestReader
from so101_sim.bus.plant import Mounting, Plant, SimpleArm
from so101_sim.bus.servo import Servo

_STEP_S = 0.005
_LONGEST_S = 3.0  # everything has come to rest after that
_MILD_C = 32


class EmulatorError(OSError):
    """The device cannot be made as asked."""


@dataclass(frozen=True)
class Line:
    """The wire and the adapter. baud: ten bits a byte. latency_s: from the last byte on the wire to the program."""

    baud: int = 1_000_000
    latency_s: float = 0.001

    def wire_s(self, size: int) -> float:
        """How long so many bytes take."""
        return size * 10 / self.baud if self.baud else 0.0


INSTANT = Line(baud=0, latency_s=0.0)
"""No delays, for tests that only count."""


def standard_mountings() -> tuple[Mounting, ...]:
    """Servos of which each reads 2047 in the middle: at 0 rad, the gripper half open."""
    return tuple(Mounting(round(2047 - Mounting().counts_per_rad * middle)) for middle in _middles())


def _middles() -> list[float]:
    low, high = joint_limits()[JOINTS[-1]]
    return [0.0] * (len(JOINTS) - 1) + [(low + high) / 2]


def standard_arm() -> tuple[tuple[Mounting, ...], SimpleArm]:
    """An arm that stands in the middle of everything, and its servos."""
    return standard_mountings(), SimpleArm(_middles())


class BusEmulator:
    """Servos with ids from 1 on. Use it as a context manager, or `start` and `stop` it."""

    def __init__(
        self,
        plant: Plant | None = None,
        mountings: Sequence[Mounting] | None = None,
        *,
        port: Path | None = None,
        line: Line | None = None,
        faults: Faults | None = None,
        step_s: float | None = 0.0,
    ) -> None:
        """port: a symbolic link to make to the device, whose own name the system chooses. Plant and mountings go together.

        step_s: for lockstep. Time does not pass by the wall clock but by so much before each SYNC_READ, of which a driver sends
        one per cycle. None: time passes by `advance` alone.
        """
        if (plant is None) != (mountings is None):
            raise EmulatorError("a plant needs the mountings of its servos, and these need a plant")
        usual = standard_arm()
        self.plant: Plant = plant or usual[1]
        self.line, self.faults = line or Line(), faults or Faults()
        shafts = self.plant.shafts()
        self.servos = [Servo(i + 1, m, shafts[i]) for i, m in enumerate(mountings or usual[0])]
        self.handled = self.sent_bytes = 0  # packets that were dealt with, bytes that were answered to them
        self._link, self._step_s = port, step_s
        self._lock = threading.RLock()
        self._last_s = time.monotonic()
        self._thread: threading.Thread | None = None
        self._ends: tuple[int, int] | None = None

    def __enter__(self) -> BusEmulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def device(self) -> str:
        """What to open: the link where there is one. Raises EmulatorError while it is unplugged."""
        if self._ends is None:
            raise EmulatorError("the bus is not plugged in")
        return str(self._link) if self._link else os.ttyname(self._ends[1])

    def servo(self, servo: int) -> Servo:
        """The servo with this id."""
        return next(item for item in self.servos if item.id == servo)

    def start(self) -> None:
        """Plug in. Raises EmulatorError when the link cannot be made."""
        self.plug(self._link)

    def plug(self, port: Path | None = None) -> str:
        """Make a new device, linked from `port`, and answer on it. Returns what to open."""
        if self._ends is not None:
            raise EmulatorError("the bus is plugged in already")
        master, slave = os.openpty()
        tty.setraw(slave)
        self._ends, self._link = (master, slave), port
        if port is not None:
            try:
                self._make_link(port, os.ttyname(slave))
            except OSError as error:
                os.close(master), os.close(slave)
                self._ends = None
                raise EmulatorError(f"{port} cannot be made a link to the device: {error.strerror or error}") from error
        wake, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve, args=(master, wake), name="bus", daemon=True)
        self._thread.start()
        return self.device

    @staticmethod
    def _make_link(port: Path, device: str) -> None:
        if port.exists() and not port.is_symlink():
            raise FileExistsError(17, "something else has this name")
        port.parent.mkdir(parents=True, exist_ok=True)
        port.unlink(missing_ok=True)
        port.symlink_to(device)

    def unplug(self, power: bool = True) -> None:
        """Pull the adapter: the device and its link are gone. power: the servos keep theirs, and with it torque and goals."""
        if self._ends is None or self._thread is None:
            return
        os.write(self._wake, b"x")
        self._thread.join()
        os.close(self._wake)
        for end in self._ends:
            os.close(end)
        self._ends = None
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        if not power:
            self.power_cycle()

    stop = unplug

    def power_cycle(self) -> None:
        """Cut the supply for a moment."""
        with self._lock:
            for servo, shaft in zip(self.servos, self.plant.shafts(), strict=True):
                servo.power_cycle(shaft)

    def still(self) -> AbstractContextManager[object]:
        """While it is entered nothing moves: to look at the plant, or to change it."""
        return self._lock

    def settle(self) -> None:
        """After the plant's joints were put elsewhere: every servo holds where it is now."""
        with self._lock:
            for servo, shaft in zip(self.servos, self.plant.shafts(), strict=True):
                servo.settle(shaft)
            self._sense(0.0)

    def advance(self, duration_s: float) -> None:
        """Let the servos and the plant move on. Without a step_s it is done by itself, by the wall clock, with every packet."""
        with self._lock:
            while duration_s > 0.0:
                step = min(duration_s, _STEP_S)
                self.plant.advance(step, [servo.drive(step) for servo in self.servos])
                self._sense(step)
                duration_s -= step

    def _sense(self, step_s: float) -> None:
        faults = self.faults.settings
        for servo, shaft in zip(self.servos, self.plant.shafts(), strict=True):
            temperature = faults.hot_c if servo.id in faults.hot else _MILD_C
            servo.sense(shaft, faults.supply_v, temperature, step_s)

    def _serve(self, master: int, wake: int) -> None:
        reader = RequestReader()
        while True:
            ready, _, _ = select.select([master, wake], [], [], 0.05 if reader.unfinished else None)
            if wake in ready:
                os.close(wake)
                return
            if not ready:
                reader.clear()
                continue
            data = os.read(master, 4096)
            come = time.monotonic()
            if self.faults.settings.echo:
                os.write(master, data)
                self.sent_bytes += len(data)
            requests = reader.feed(data)
            for request in requests:
                answer, delay = self.handle(request)
                # Who sends on a line with one pair of wires while an answer is due hears neither: nothing queues up.
                if answer and request is requests[-1]:
                    time.sleep(max(0.0, come + delay - time.monotonic()))
                    os.write(master, answer)
                    self.sent_bytes += len(answer)
                self.handled += 1

    def handle(self, request: Request) -> tuple[bytes, float]:
        """What the servos do and answer to one packet, and how long after it came the answer is all there."""
        with self._lock:
            self.advance(self._passed_s(request))
            if self.faults.loses_request():
                return b"", 0.0
            dead = self.faults.settings.dead
            alive = [servo for servo in self.servos if servo.id not in dead]
            return self._deliver(request, self._answers(request, alive))

    def _passed_s(self, request: Request) -> float:
        """Since the last packet."""
        if self._step_s is None:
            return 0.0
        if self._step_s:
            return self._step_s if request.instruction == Instruction.SYNC_READ else 0.0
        before, self._last_s = self._last_s, time.monotonic()
        return min(self._last_s - before, _LONGEST_S)

    def _answers(self, request: Request, alive: list[Servo]) -> list[tuple[Servo, bytes]]:
        data = request.parameters
        if request.instruction == Instruction.SYNC_WRITE and len(data) >= 2:
            self._sync_write(data, alive)
            return []
        if request.instruction == Instruction.SYNC_READ and len(data) >= 2:
            asked = {servo.id: servo for servo in alive}
            return [(asked[number], asked[number].read(data[0], data[1])) for number in data[2:] if number in asked]
        if request.servo != BROADCAST:
            return [(servo, servo.answer(request)) for servo in alive if servo.id == request.servo]
        answers = [(servo, servo.answer(request)) for servo in alive]
        return answers if request.instruction == Instruction.PING else []

    @staticmethod
    def _sync_write(data: bytes, alive: list[Servo]) -> None:
        address, size = data[0], data[1]
        parts = {data[i]: data[i + 1 : i + 1 + size] for i in range(2, len(data) - size, size + 1)}
        for servo in alive:
            if servo.id in parts:
                servo.sync_write(address, parts[servo.id])

    def _deliver(self, request: Request, answers: list[tuple[Servo, bytes]]) -> tuple[bytes, float]:
        """The adapter hands over at once what came on the wire one after another."""
        stream, late = b"", 0.0
        duration = self.line.wire_s(request.size)
        for servo, packet in answers:
            if packet:
                duration += self.line.wire_s(len(packet)) + servo.return_delay_s
                left, delay = self.faults.spoil(servo.id, packet)
                stream, late = stream + left, max(late, delay)
        return stream, duration + self.line.latency_s + late if self.line.baud else late
