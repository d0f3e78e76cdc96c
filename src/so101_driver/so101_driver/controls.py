# SPDX-License-Identifier: Apache-2.0
"""Turns pressed controls into what the person wants: an action in the policy's space, and one event for each press."""

from __future__ import annotations

import math
from collections.abc import Mapping as Values

import numpy as np

from so101_driver.mapping import MOTIONS, PRESSES, Mapping, Term, terms

_PRESSED = 0.5


class Controls:
    """Values are 0 at rest; of keys and triggers up to 1, of other axes from -1 to 1. Times are of the steady clock.

    What is not at rest when the device comes counts for nothing until it has been let go.
    """

    def __init__(self, mapping: Mapping, debounce_s: float = 0.05) -> None:
        """debounce_s: a key pressed again sooner than this after it was let go has bounced."""
        self.mapping, self.debounce_s = mapping, debounce_s
        self._motions = [terms(getattr(mapping, field)) for field in MOTIONS]
        self._hold = terms(mapping.hold)
        self._events = {term: field for field in PRESSES for term in terms(getattr(mapping, field))}
        self._said: list[str] = []
        self.lost()

    def lost(self) -> None:
        """The device is away: nothing is pressed."""
        self._values: dict[str, float] = {}
        self._barred: set[str] = set()
        self._let_go_s: dict[Term, float] = {}

    def begin(self, values: Values[str, float]) -> None:
        """The device has come, with its controls like this."""
        self.lost()
        self._barred = {name for name, value in values.items() if abs(value) > self.mapping.dead_zone}

    def change(self, name: str, value: float, now_s: float) -> None:
        """A control has moved."""
        if name in self._barred:
            if abs(value) > self.mapping.dead_zone:
                return
            self._barred.discard(name)
        before, self._values[name] = self._values.get(name, 0.0), value
        for term in (Term(name, 1.0), Term(name, -1.0)):
            if term in self._events:
                self._press(term, term.sign * before > _PRESSED, term.sign * value > _PRESSED, now_s)

    def _press(self, term: Term, was: bool, pressed: bool, now_s: float) -> None:
        if pressed and not was and now_s - self._let_go_s.get(term, -math.inf) >= self.debounce_s:
            self._said.append(self._events[term])
        elif was and not pressed:
            self._let_go_s[term] = now_s

    def take_events(self) -> list[str]:
        """What was said since the last call, as fields of the mapping."""
        said, self._said = self._said, []
        return said

    @property
    def active(self) -> bool:
        """Whether the person drives."""
        if self._hold:
            return any(self._deflection(term) > _PRESSED for term in self._hold)
        return bool(self.action.any())

    @property
    def action(self) -> np.ndarray:
        """(A,) float32 in [-1, 1]: x, y, z, gripper."""
        sums = [sum(map(self._deflection, found)) for found in self._motions]
        return (np.clip(sums, -1.0, 1.0) * self.mapping.scale).astype(np.float32)

    def _deflection(self, term: Term) -> float:
        """How far a control is beyond its dead zone, in the direction of the term positive."""
        value, dead_zone = self._values.get(term.name, 0.0), self.mapping.dead_zone
        beyond = max(0.0, abs(value) - dead_zone) / (1.0 - dead_zone)
        return math.copysign(beyond, term.sign * value)
