# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a bus: packets lost, corrupted, late or cut off, servos dead or hot, a supply that sags."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, fields, replace


class FaultError(ValueError):
    """Faults that cannot be had as asked."""


@dataclass(frozen=True)
class FaultSettings:
    """Probabilities are per answer of a servo, `lost_requests` per packet to the servos.

    dead: ids that never answer. hot: ids whose temperature is `hot_c`. supply_v: what the bus is fed with. echo: 1 for an
    adapter that hears its own sender, so that every byte comes back before the answer.
    """

    lost: float = 0.0
    lost_requests: float = 0.0
    corrupted: float = 0.0
    truncated: float = 0.0
    delayed: float = 0.0
    delay_s: float = 0.02
    dead: tuple[int, ...] = ()
    hot: tuple[int, ...] = ()
    hot_c: int = 75
    supply_v: float = 7.4
    echo: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lost", "lost_requests", "corrupted", "truncated", "delayed"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise FaultError(f"fault {name} is {getattr(self, name)}, expected a probability from 0 to 1")


def parse_faults(text: str) -> FaultSettings:
    """Faults from `lost=0.05,corrupted=0.01,dead=4,hot=5+6`. Raises FaultError with a sentence."""
    kinds = {item.name: type(item.default) for item in fields(FaultSettings)}
    values: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in kinds:
            raise FaultError(f"there is no fault '{name}', only {', '.join(kinds)}")
        try:
            kind = kinds[name]
            values[name] = tuple(map(int, value.split("+"))) if kind is tuple else kind(value)
        except ValueError as error:
            raise FaultError(f"fault {name} is '{value}', expected for example {name}={_example(name)}") from error
    return FaultSettings(**values)


def _example(name: str) -> str:
    own = {"dead": "4", "hot": "5+6", "hot_c": "75", "supply_v": "4.5", "echo": "1", "delay_s": "0.02", "seed": "1"}
    return own.get(name, "0.05")


class Faults:
    """Draws faults by a seed and counts what was done, by kind and servo. May be changed from any thread."""

    def __init__(self, settings: FaultSettings | None = None) -> None:
        self._lock = threading.Lock()
        self._settings = settings or FaultSettings()
        self._random = random.Random(self._settings.seed)
        self.done: Counter[tuple[str, int]] = Counter()

    @property
    def settings(self) -> FaultSettings:
        """What is in force."""
        with self._lock:
            return self._settings

    def change(self, **values: object) -> None:
        """Set some of the fields of FaultSettings; a new seed starts the draws anew."""
        with self._lock:
            self._settings = replace(self._settings, **values)
            if "seed" in values:
                self._random = random.Random(self._settings.seed)

    def loses_request(self) -> bool:
        """Whether an instruction packet never reaches the servos."""
        with self._lock:
            return self._happens("lost_requests", 0)

    def spoil(self, servo: int, packet: bytes) -> tuple[bytes, float]:
        """What is left of an answer, and by how many seconds it is late. At most one fault a packet."""
        with self._lock:
            if self._happens("lost", servo):
                return b"", 0.0
            if self._happens("corrupted", servo):
                place = self._random.randrange(len(packet))
                wrong = packet[place] ^ self._random.randrange(1, 256)
                return packet[:place] + bytes((wrong,)) + packet[place + 1 :], 0.0
            if self._happens("truncated", servo):
                return packet[: self._random.randrange(1, len(packet))], 0.0
            late = self._settings.delay_s if self._happens("delayed", servo) else 0.0
            return packet, late

    def _happens(self, kind: str, servo: int) -> bool:
        chance = getattr(self._settings, kind)
        happens = chance > 0.0 and self._random.random() < chance
        if happens:
            self.done[kind, servo] += 1
        return happens
