# SPDX-License-Identifier: Apache-2.0
"""A steady beat, and how well it is kept."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

_KEPT = 1000


class Pace:
    """Beats every period_s. A beat that is missed by more than a period is left out, not made up for."""

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.missed = 0
        self._due_s = time.monotonic()
        self._late: deque[float] = deque(maxlen=_KEPT)
        self._busy: deque[float] = deque(maxlen=_KEPT)
        self._woke_s = self._due_s

    def wait(self) -> float:
        """Sleep until the next beat; the time then, on the steady clock [s]."""
        now = time.monotonic()
        self._busy.append(now - self._woke_s)
        self._due_s += self.period_s
        if now > self._due_s + self.period_s:
            skipped = int((now - self._due_s) / self.period_s)
            self.missed += skipped
            self._due_s += skipped * self.period_s
        time.sleep(max(0.0, self._due_s - now))
        self._woke_s = time.monotonic()
        self._late.append(self._woke_s - self._due_s)
        return self._woke_s

    def jitter_ms(self, percent: float = 99.0) -> float:
        """How late the beats of the last seconds came, this percentile of them."""
        return 1e3 * float(np.percentile(list(self._late), percent)) if self._late else 0.0

    def busy_ms(self) -> float:
        """How long the work between two beats takes, the median."""
        return 1e3 * float(np.median(list(self._busy))) if self._busy else 0.0
