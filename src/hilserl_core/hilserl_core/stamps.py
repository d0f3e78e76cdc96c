# SPDX-License-Identifier: Apache-2.0
"""Checks whether a stamp can be from this computer's present, and whether its clock was set back."""

from __future__ import annotations

TOLERANCE_S = 10.0
"""A stamp farther from its receiver's clock is of a clock that is wrong.

The computers of a station, set by NTP, are milliseconds apart; a starved machine delivers messages seconds late.
"""


def foreign_stamp(name: str, stamp_ns: int, now_ns: int) -> str:
    """Sentence about a stamp that is not from the present, '' for one that is. stamp_ns, now_ns: on the system clock."""
    off_s = (stamp_ns - now_ns) * 1e-9
    if abs(off_s) <= TOLERANCE_S:
        return ""
    where = f"{off_s:.0f} s ahead of" if off_s > 0 else f"{-off_s:.0f} s behind"
    return f"{name} is stamped {where} this computer's clock and is not used: set the clocks of all computers (chrony, ntpd)"


def set_back_s(stamp_ns: int, used_ns: int) -> float:
    """Seconds by which the clock was set back, when a stamp from the present is so much older than one used before; else 0."""
    back_s = (used_ns - stamp_ns) * 1e-9
    return back_s if back_s > TOLERANCE_S else 0.0
