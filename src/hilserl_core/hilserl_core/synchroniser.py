# SPDX-License-Identifier: Apache-2.0
"""Puts together what belongs to one instant: joints, camera images, reward and the person's command."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any


class Synchroniser:
    """Collects parts by stamp. Exact stamps in lockstep; in real time the newest set within `tolerance_ns`."""

    def __init__(self, parts: Iterable[str], tolerance_ns: int = 0, keep: int = 16) -> None:
        self.parts = tuple(parts)
        self.tolerance_ns = tolerance_ns
        self.keep = keep
        self.used_through = -1  # stamps up to this one have been used
        self._waiting: dict[str, dict[int, Any]] = {part: {} for part in self.parts}

    def add(self, part: str, stamp_ns: int, value: Any) -> None:
        """A part has arrived. Stamps already used are dropped (the simulator repeats itself for late joiners)."""
        if stamp_ns <= self.used_through:
            return
        waiting = self._waiting[part]
        waiting[stamp_ns] = value
        while len(waiting) > self.keep:
            del waiting[next(iter(waiting))]  # the first that came: stamps of years ahead must not outlive the others

    def newest(self, optional: Collection[str] = ()) -> tuple[int, dict[str, Any]] | None:
        """The newest complete set as (stamp of the first part, part -> value), None when there is none.

        optional: parts that need not be there; not the first one.
        """
        first = self._waiting[self.parts[0]]
        for stamp in sorted(first, reverse=True):
            values = {self.parts[0]: first[stamp]}
            for part in self.parts[1:]:
                near = min(self._waiting[part], key=lambda other: abs(other - stamp), default=None)
                if near is None or abs(near - stamp) > self.tolerance_ns:
                    if part in optional:
                        continue
                    break
                values[part] = self._waiting[part][near]
            else:
                return stamp, values
        return None

    @property
    def latest(self) -> int:
        """The newest stamp that any part came for, or was used."""
        return max((max(waiting) for waiting in self._waiting.values() if waiting), default=self.used_through)

    def lacking(self) -> list[str]:
        """The parts that have not come for the newest stamp any part came for."""
        newest = self.latest
        return [
            part
            for part, waiting in self._waiting.items()
            if not any(abs(stamp - newest) <= self.tolerance_ns for stamp in waiting)
        ]

    def begin_anew(self) -> None:
        """Forget everything: what comes now may have any stamps, as after a clock was set."""
        self.used_through = -1
        for waiting in self._waiting.values():
            waiting.clear()

    def use(self, stamp_ns: int) -> None:
        """Forget everything up to this stamp."""
        self.used_through = max(self.used_through, stamp_ns)
        for waiting in self._waiting.values():
            for stamp in [stamp for stamp in waiting if stamp <= stamp_ns]:
                del waiting[stamp]
