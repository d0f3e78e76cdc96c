# SPDX-License-Identifier: Apache-2.0
"""What a system is described with: its nodes and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from reach_grasp.errors import CommandError
from reach_grasp.values import ValueRefused, number, one_of, true_or_false


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


def installed(spec: NodeSpec) -> bool:
    """Whether the node's program is on this computer."""
    try:
        return (Path(get_package_prefix(spec.package)) / "lib" / spec.package / spec.executable).is_file()
    except PackageNotFoundError:
        return False


@dataclass(frozen=True)
class Argument:
    """An argument of a system, the same for `ros2 launch` (name:=value) and the command (--name value).

    choices: the words that are allowed. low, high: the numbers that are. check: another reader of `reach_grasp.values`.
    """

    name: str
    default: str
    text: str
    kind: type = str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    check: Callable[[str], Any] | None = None

    @property
    def flag(self) -> str:
        """The option of the command."""
        return "--" + self.name.replace("_", "-")

    def read(self, text: str) -> Any:
        """The value of what the user wrote. Raises ValueRefused."""
        if self.check is not None:
            return self.check(text)
        if self.choices:
            return one_of(self.choices)(text)
        if self.kind is bool:
            return true_or_false(text)
        return text if self.kind is str else number(self.kind, self.low, self.high)(text)

    def parse(self, text: str) -> Any:
        """Like `read`, for those who know the argument by its name. Raises CommandError."""
        try:
            return self.read(text)
        except ValueRefused as error:
            raise CommandError(f"{self.name} {error}") from None


@dataclass(frozen=True)
class System:
    """A name, what it is for, its arguments, and the nodes that parsed arguments give."""

    name: str
    text: str
    arguments: tuple[Argument, ...]
    nodes: Callable[[Mapping[str, Any]], list[NodeSpec]]
