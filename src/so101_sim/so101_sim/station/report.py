# SPDX-License-Identifier: Apache-2.0
"""Report of the twin: whether its time keeps up, how many pictures it made, and what they cost."""

from __future__ import annotations

import dataclasses
from typing import Any

from so101_sim.station.settings import StationSettings
from so101_sim.station.shared import CAMERAS
from so101_sim.station.twin import Twin


def report(twin: Twin, settings: StationSettings, now_s: float) -> dict[str, Any]:
    """Figures since the start as JSON types. real_time_factor: simulated time by wall time. late_steps: of 5 ms each."""
    clock = twin.clock
    return {
        "real_time_factor": round(clock.factor(now_s), 5),
        "steps": clock.steps,
        "late_steps": clock.late,
        "worst_step_ms": round(1e3 * clock.worst_s, 2),
        "given_up_s": round(clock.given_up_s, 3),
        "packets": {name: bus.handled for name, bus in twin.buses.items()},
        "cameras": {name: _camera(twin.state.counted(name)) for name in CAMERAS},
        "settings": dataclasses.asdict(settings),
    }


def _camera(counted: dict[str, float]) -> dict[str, Any]:
    pictures = counted["pictures"]
    return {
        "pictures": int(pictures),
        "late": int(counted["late"]),
        "ms_per_picture": round(1e3 * counted["draw_s"] / pictures, 2) if pictures else None,
        "readers": int(counted["readers"]),
        "fps": round(counted["fps"], 2),
        "level": int(counted["level"]),
    }


def sentence(figures: dict[str, Any]) -> str:
    """The figures in one line for people."""
    cameras = ", ".join(
        f"{name} {found['pictures']} pictures ({found['late']} late, {found['ms_per_picture']:g} ms each)"
        for name, found in figures["cameras"].items()
        if found["pictures"]
    )
    return (
        f"real-time factor {figures['real_time_factor']:.3f}; {figures['late_steps']} of {figures['steps']} steps late, "
        f"at worst by {figures['worst_step_ms']:g} ms; {cameras or 'nobody read a camera'}"
    )
