# SPDX-License-Identifier: Apache-2.0
"""Choice among several teleop sources: the first active one in a fixed order drives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SOURCES = ("console", "keyboard", "gamepad", "leader", "operator")
"""Every source of teleop; of two active ones the first in this order counts. Each publishes on `teleop/<source>`."""
NO_SOURCE = "none"


@dataclass(frozen=True)
class Teleop:
    """A person's command at one instant; action (A,) in [-1, 1] when active."""

    active: bool
    action: np.ndarray | None = None


@dataclass(frozen=True)
class Choice:
    """The command that counts and its source, both None when nobody drives. conflict: a sentence that names two drivers."""

    teleop: Teleop | None = None
    source: str | None = None
    conflict: str = ""


def choose(commands: Mapping[str, Teleop | None]) -> Choice:
    """Choose the command that counts. commands: source -> its command, None where it sent none that can be used."""
    active = [source for source in SOURCES if (command := commands.get(source)) is not None and command.active]
    if not active:
        return Choice()
    conflict = "" if len(active) == 1 else f"{' and '.join(active)} drive at once: only {active[0]} counts"
    return Choice(commands[active[0]], active[0], conflict)


class NewestCommands:
    """Newest command of each source, for real time; a command counts for `timeout_s` after its arrival."""

    def __init__(self) -> None:
        self._commands: dict[str, tuple[float, Teleop | None]] = {}

    def put(self, source: str, teleop: Teleop | None, now_s: float) -> None:
        """Take a command that arrived at `now_s`; None for one that cannot be used."""
        self._commands[source] = (now_s, teleop)

    def at(self, now_s: float, timeout_s: float) -> dict[str, Teleop | None]:
        """Commands that are still fresh, source -> command. now_s: on the clock of `put` [s]."""
        return {source: teleop for source, (arrived_s, teleop) in self._commands.items() if now_s - arrived_s <= timeout_s}
