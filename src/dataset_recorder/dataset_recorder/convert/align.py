# SPDX-License-Identifier: Apache-2.0
"""Causal sampling: at each tick of a regular grid, the newest message that is not younger than the tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from dataset_recorder.convert.errors import ConversionError


class Gap(Enum):
    """What happens at a tick where a feature's newest message is older than its tolerance."""

    HOLD = "hold"  # use it all the same; its age says so
    DROP = "drop"  # the tick becomes no row
    FAIL = "fail"  # no dataset


@dataclass(frozen=True)
class Track:
    """The messages of one source. stamps_ns: (N,) int64, in any order."""

    name: str
    stamps_ns: np.ndarray
    tolerance_s: float
    gap: Gap


@dataclass(frozen=True)
class Alignment:
    """ticks_ns: (K,) of the rows. picks: per track (K,) indices into its stamps. ages_s: per track (K,) [s].

    held, dropped: per track how many ticks its rule was used at. grid: ticks before any were dropped.
    """

    ticks_ns: np.ndarray
    picks: list[np.ndarray]
    ages_s: list[np.ndarray]
    held: list[int]
    dropped: list[int]
    grid: int


def align(tracks: Sequence[Track], fps: int) -> Alignment:
    """Sample every track on one grid, from the first instant at which all have a message to the last message of any.

    Raises ConversionError for a track without messages, a gap whose rule is to fail, or no rows left.
    """
    for track in tracks:
        if not len(track.stamps_ns):
            raise ConversionError(f"{track.name} has no messages")
    start = max(int(track.stamps_ns.min()) for track in tracks)
    end = max(int(track.stamps_ns.max()) for track in tracks)
    count = (end - start) * fps // 1_000_000_000 + 1
    ticks = start + np.arange(count, dtype=np.int64) * 1_000_000_000 // fps
    keep = np.ones(count, bool)
    picks, ages, late = [], [], []
    for track in tracks:
        order = np.argsort(track.stamps_ns, kind="stable")
        pick = order[np.searchsorted(track.stamps_ns[order], ticks, side="right") - 1]
        age = ticks - track.stamps_ns[pick]
        beyond = age > round(track.tolerance_s * 1e9)
        if track.gap is Gap.FAIL and beyond.any():
            first = int(np.argmax(beyond))
            raise ConversionError(
                f"{track.name} is {age[first] / 1e9:.3f} s old at {(ticks[first] - start) / 1e9:.3f} s after the start, its "
                f"tolerance is {track.tolerance_s:g} s and its rule for gaps is fail (hold or drop would go on)"
            )
        if track.gap is Gap.DROP:
            keep &= ~beyond
        picks.append(pick)
        ages.append(age)
        late.append(beyond)
    if not keep.any():
        raise ConversionError("no tick is left: at each one some feature with the rule drop is older than its tolerance")
    return Alignment(
        ticks_ns=ticks[keep],
        picks=[pick[keep] for pick in picks],
        ages_s=[age[keep] / 1e9 for age in ages],
        held=[int((beyond & keep).sum()) for beyond in late],
        dropped=[int(beyond.sum()) if track.gap is Gap.DROP else 0 for track, beyond in zip(tracks, late, strict=True)],
        grid=int(count),
    )
