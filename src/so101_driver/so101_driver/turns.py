# SPDX-License-Identifier: Apache-2.0
"""Tracks joint angles past the seam of their encoders, which count one turn and then begin again."""

from __future__ import annotations

import numpy as np

from so101_driver.limits import Limits

PAST_SEAM = "was turned past the end of its encoder; let it go and turn it back by hand"
_GAP_S = 0.25  # a hand does not turn a joint half round in less
_SLACK_RAD = 0.1  # how far outside its limits a joint may stand
_SEAM_RAD = 0.5  # this near to the seam, outside the limits, the side on which a joint stands is unknown


class Turns:
    """Follows readings over the seam by the shorter way, as long as they come without a gap.

    astray: joints that stand in another turn than their encoder says, or of which nobody knows the turn. A servo that is told
    to go somewhere would turn such a joint the long way round.
    """

    def __init__(self, limits: Limits) -> None:
        self.astray: tuple[str, ...] = ()
        self._joints, self._turn = limits.joints, limits.turn
        self._low = np.minimum(limits.lower - _SLACK_RAD, limits.middle - limits.turn / 2 + _SEAM_RAD)
        self._high = np.maximum(limits.upper + _SLACK_RAD, limits.middle + limits.turn / 2 - _SEAM_RAD)
        self._angles = np.full(len(limits.joints), np.nan)
        self._times_s = np.full(len(limits.joints), -np.inf)
        self._placed = np.zeros(len(limits.joints), bool)

    def forget(self) -> None:
        """Forget all turns, because the joints were put elsewhere: the next readings begin anew."""
        self._times_s[:] = -np.inf

    def follow(self, readings: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """The angles (J,) rad for readings (J,) rad of one turn, each taken at its time [s]."""
        passed_s = times_s - self._times_s
        goes_on = self._placed & (passed_s >= 0.0) & (passed_s <= _GAP_S)
        turns = np.where(goes_on, np.round((np.nan_to_num(self._angles) - readings) / self._turn), 0.0)
        self._placed = goes_on | ((readings >= self._low) & (readings <= self._high))
        self._angles, self._times_s = readings + turns * self._turn, times_s
        off = ~self._placed | (turns != 0.0)
        self.astray = tuple(joint for joint, away in zip(self._joints, off, strict=True) if away)
        return self._angles.copy()
