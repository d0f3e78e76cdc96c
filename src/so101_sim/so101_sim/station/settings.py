# SPDX-License-Identifier: Apache-2.0
"""Settings that make the twin no easier than a real station. Each imperfection is one; the docstrings name the sources."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hilserl_core.fields import described, tidy
from so101_sim.config import WorldConfig


class StationError(ValueError):
    """A request that the twin cannot fulfil; the message is a sentence with the cure."""


@dataclass(frozen=True)
class ServoSettings:
    """Imperfections by which the follower's servos miss their goals.

    dead_band_rad: one count of 4096, as registers 26 and 27 leave the factory (Feetech's memory table of the STS series).
    backlash_rad: 0.87 degrees measured, the datasheet says at most 0.5 (robonine.com's test of the STS3215; about one degree
    in SO-ARM100 issue 134). stiffness_nm_rad: 20 to 30 counts of error under 1.04 N·m (the same issue), so 27 N·m/rad.
    delay_s: assumed, two steps of the simulation: the servo's own loop takes 1 ms (datasheet), the USB stack some more.
    """

    dead_band_rad: float = described(0.0015, "No torque while the error is smaller.", minimum=0.0, maximum=0.1)
    backlash_rad: float = described(0.0152, "Free play of the gears, end to end.", minimum=0.0, maximum=0.1)
    delay_s: float = described(0.010, "From a goal to the torque it causes.", minimum=0.0, maximum=0.5)
    stiffness_nm_rad: float = described(27.0, "Torque for an error: what load shifts the arm.", minimum=5.0, maximum=1000.0)

    def __post_init__(self) -> None:
        tidy(self, "servo", StationError)


@dataclass(frozen=True)
class CameraSettings:
    """Settings of a camera.

    latency_s: assumed for a USB camera with MJPG, about two frames at 30 Hz for exposure, read-out and transfer.
    exposure_spread: assumed for automatic exposure. noise: assumed, a cheap sensor by lamp light. fps: what two cores carry,
    since a picture of the wrist takes about 9 ms.
    """

    width: int = described(640, "Width of a picture in pixels.", minimum=16, maximum=1920)
    height: int = described(480, "Height of a picture in pixels.", minimum=16, maximum=1080)
    fps: float = described(15.0, "Pictures a second, while somebody reads the stream.", minimum=0.5, maximum=60.0)
    latency_s: float = described(0.060, "From the moment a picture shows until it is sent.", minimum=0.0, maximum=1.0)
    latency_spread_s: float = described(0.005, "How much that varies, at most to either side.", minimum=0.0, maximum=0.5)
    noise: float = described(3.0, "Standard deviation of each pixel, of 255.", minimum=0.0, maximum=50.0)
    exposure_spread: float = described(0.08, "How far the brightness wanders, as a share.", minimum=0.0, maximum=0.9)
    exposure_period_s: float = described(7.0, "How long one wave of that takes.", minimum=0.1, maximum=600.0)
    quality: int = described(85, "Quality of the JPEG.", minimum=10, maximum=100)

    def __post_init__(self) -> None:
        tidy(self, "camera", StationError)


FRONT_CAMERA = CameraSettings(width=320, height=240, fps=10.0)
"""A picture takes about 16 ms, since this camera draws shadows for people to look at."""


@dataclass(frozen=True)
class SceneSettings:
    """Things on the table, and the light. All values are assumptions about a table in a lived-in room."""

    distractors: int = described(5, "Things on the table beside the cube.", minimum=0, maximum=20)
    light_spread: float = described(0.15, "How far the lamp's brightness wanders, as a share.", minimum=0.0, maximum=0.9)
    light_period_s: float = described(90.0, "How long one wave of that takes.", minimum=1.0, maximum=36_000.0)

    def __post_init__(self) -> None:
        tidy(self, "scene", StationError)


@dataclass(frozen=True)
class ArmSettings:
    """Mounting of the arms, their adapter, and the hands that move them.

    zero_spread_counts: a servo's horn goes on in steps of its teeth. The spread is assumed; it leaves room for the homing
    offset, which a servo holds up to 2047 counts.
    """

    zero_spread_counts: int = described(1500, "How far the middle of a joint is off its servo's.", minimum=0, maximum=1900)
    adapter_latency_s: float = described(0.001, "What the USB adapter adds to an answer.", minimum=0.0, maximum=0.1)
    hand_velocity_rad_s: float = described(5.0, "How fast a hand moves a joint at most.", minimum=0.1, maximum=20.0)

    def __post_init__(self) -> None:
        tidy(self, "arm", StationError)


@dataclass(frozen=True)
class StationSettings:
    """Everything about a twin. The same seed gives the same station: looks, distractors, the servos' zeros."""

    servo: ServoSettings = field(default_factory=ServoSettings)
    wrist: CameraSettings = field(default_factory=CameraSettings)
    front: CameraSettings = FRONT_CAMERA
    scene: SceneSettings = field(default_factory=SceneSettings)
    arm: ArmSettings = field(default_factory=ArmSettings)
    world: WorldConfig = field(default_factory=WorldConfig)
    seed: int = 0

    def cameras(self) -> dict[str, CameraSettings]:
        """Settings by the camera's name."""
        return {"wrist": self.wrist, "front": self.front}


def parse_settings(words: Iterable[str], seed: int = 0) -> StationSettings:
    """Settings from words such as `servo.backlash_rad=0`. Raises StationError for an unknown name or a value not allowed."""
    settings = StationSettings(seed=seed)
    parts = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings) if item.name != "seed"}
    known = {f"{part}.{item.name}": item for part, table in parts.items() for item in dataclasses.fields(table)}
    changes: dict[str, dict[str, Any]] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the parts are {', '.join(parts)}"
            raise StationError(f"there is no setting '{name}' of the twin; {hint}")
        part, _, item = name.partition(".")
        changes.setdefault(part, {})[item] = _value(getattr(parts[part], item), text, name)
    try:
        made = {part: dataclasses.replace(parts[part], **values) for part, values in changes.items()}
    except ValueError as error:
        raise StationError(str(error)) from error
    return dataclasses.replace(settings, **made)


def _value(default: Any, text: str, name: str) -> Any:
    """The text as the type of the default; tuples are comma-separated."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, tuple):
            value = tuple(type(default[0])(number) for number in text.split(","))
        else:
            value = type(default)(text)
    except (ValueError, KeyError) as error:
        raise StationError(f"setting {name} is '{text}', expected a value like {default}") from error
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise StationError(f"setting {name} is '{text}', expected a value like {default}")
    return value
