# SPDX-License-Identifier: Apache-2.0
"""A gamepad that another node, such as ROS's joy_node, publishes as sensor_msgs/Joy."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from so101_driver.controls import Controls
from so101_driver.errors import MappingError
from so101_driver.mapping import Mapping, terms

_NAME = re.compile(r"(axes|buttons)/\d+")


class JoyInput:
    """Controls are called axes/0 or buttons/0, by their place in the message. problem: why there are none."""

    def __init__(self, mapping: Mapping, timeout_s: float) -> None:
        """timeout_s: without a message for so long the gamepad is away. Raises MappingError."""
        for name, field in mapping.names.items():
            if not _NAME.fullmatch(name):
                raise MappingError(f"mapping.{field} names {name}; with device joy a control is axes/0, or buttons/0")
        self._triggers = {term.name for term in terms(mapping.triggers)}
        self._wanted, self._timeout_s = mapping.names, timeout_s
        self._come: list[tuple[float, dict[str, float]]] = []  # since the last poll
        self._come_s = -math.inf
        self._here = False
        self.name = "joy"
        self.problem: str | None = "nobody publishes joy; start joy_node"

    def take(self, axes: Sequence[float], buttons: Sequence[int], now_s: float) -> None:
        """A message has come."""
        found = {f"axes/{index}": value for index, value in enumerate(axes) if math.isfinite(value)}
        found |= {name: (1.0 - found[name]) / 2.0 for name in self._triggers & found.keys()}  # they rest at 1
        found |= {f"buttons/{index}": float(value) for index, value in enumerate(buttons)}
        self._come.append((now_s, {name: found[name] for name in self._wanted if name in found}))
        self._come_s = now_s

    def poll(self, now_s: float, controls: Controls) -> bool:
        """Hand on what has come since the last call, in order: no press is too short. Whether there was anything."""
        come, self._come = self._come, []
        if now_s - self._come_s > self._timeout_s:
            if self._here:
                controls.lost()
                self._here, self.problem = False, f"no joy for {self._timeout_s:g} s; start its node again"
            return False
        for come_s, values in come:
            if not self._here:
                self._here = True
                controls.begin(values)
            for name, value in values.items():
                controls.change(name, value, come_s)
        if come:
            lacking = [name for name in self._wanted if name not in come[-1][1]]
            self.problem = f"joy has no {', '.join(lacking)}; change the mapping" if lacking else None
        return bool(come)

    def close(self) -> None:
        """There is nothing to give back."""
