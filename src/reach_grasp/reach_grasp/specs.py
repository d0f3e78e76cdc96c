# SPDX-License-Identifier: Apache-2.0
"""What a system is described with: its nodes and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reach_grasp.errors import CommandError


@dataclass(frozen=True)
class NodeSpec:
    """One node of a system. condition: whether this start includes it. respawn: start it again when it dies.

    environment: variables that it has beside those of whoever starts it.
    optional: the system goes on when it ends; else one that ends for good ends all.
    """

    package: str
    executable: str
    name: str
    namespace: str = ""
    parameter_files: tuple[Path, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    condition: bool = True
    respawn: bool = False
    optional: bool = False
    log_level: str = "info"
    arguments: tuple[str, ...] = ()  # of the program itself
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Argument:
    """An argument of a system, the same for `ros2 launch` (name:=value) and the command (--name value)."""

    name: str
    default: str
    text: str
    kind: type = str
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> Any:
        """The value of what the user wrote. Raises CommandError."""
        if self.choices and text not in self.choices:
            raise CommandError(f"{self.name} is {text!r}, allowed is one of {', '.join(self.choices)}")
        if self.kind is bool:
            if text.lower() not in ("true", "false"):
                raise CommandError(f"{self.name} is {text!r}, allowed is true or false")
            return text.lower() == "true"
        try:
            return self.kind(text)
        except ValueError:
            names = {int: "a whole number", float: "a number"}
            raise CommandError(f"{self.name} is {text!r}, allowed is {names[self.kind]}") from None


@dataclass(frozen=True)
class System:
    """A name, what it is for, its arguments, and the nodes that parsed arguments give."""

    name: str
    text: str
    arguments: tuple[Argument, ...]
    nodes: Callable[[Mapping[str, Any]], list[NodeSpec]]
