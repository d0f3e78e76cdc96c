# SPDX-License-Identifier: Apache-2.0
"""One frozen dataclass per node is its parameter table: declaration, validation and reference page come from it."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

T = TypeVar("T")

# Declared by rclpy itself.
_BUILT_IN = ("use_sim_time", "start_type_description_service")


class ParameterError(ValueError):
    """A parameter value that is not allowed; the message is one sentence that names file, key, value and what is allowed."""


def parameter(
    default: Any,
    text: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[Any] | None = None,
    tunable: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter.

    text: what it is, with its unit. minimum, maximum: inclusive limits, of each element of a sequence too. choices: allowed
    values. tunable: can be set while the node runs.
    """
    metadata = {"text": text, "tunable": tunable}
    limits = {"minimum": minimum, "maximum": maximum, "choices": choices}
    metadata.update({key: value for key, value in limits.items() if value is not None})
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter as the table describes it."""

    key: str  # full ROS name, with prefix
    default: Any
    text: str
    type_name: str
    minimum: float | None
    maximum: float | None
    choices: tuple[Any, ...] | None
    tunable: bool

    @property
    def allowed(self) -> str:
        """Readable statement of what is allowed."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.type_name} from {self.minimum:g} to {self.maximum:g}"
        if self.minimum is not None:
            return f"{self.type_name} of at least {self.minimum:g}"
        if self.maximum is not None:
            return f"{self.type_name} of at most {self.maximum:g}"
        return self.type_name


def entries(table: type, prefix: str = "") -> list[Entry]:
    """The parameters of a dataclass, each named `prefix` + field name."""
    hints = typing.get_type_hints(table)
    found = []
    for item in dataclasses.fields(table):
        kind = hints[item.name]
        kind = (
            next((arg for arg in typing.get_args(kind) if arg is not type(None)), kind)
            if type(None) in typing.get_args(kind)
            else kind
        )
        element = typing.get_args(kind)[0] if typing.get_origin(kind) in (tuple, list) else None
        names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
        type_name = names.get(kind) or f"a list, each {names[element]}"
        meta = item.metadata
        default = item.default if item.default is not dataclasses.MISSING else item.default_factory()
        found.append(
            Entry(
                key=prefix + item.name,
                default=default,
                text=meta.get("text", ""),
                type_name=type_name,
                minimum=meta.get("minimum"),
                maximum=meta.get("maximum"),
                choices=tuple(meta["choices"]) if "choices" in meta else None,
                tunable=bool(meta.get("tunable", False)),
            )
        )
    return found


def check_value(entry: Entry, value: Any, source: str = "") -> Any:
    """The value in the table's type. Raises ParameterError with the sentence for the operator."""

    def refuse() -> ParameterError:
        where = f"{source}: " if source else ""
        return ParameterError(
            f"{where}parameter {entry.key} is {value!r}, allowed is {entry.allowed} ({entry.text.rstrip('.')})"
        )

    def scalar(kind: type, item: Any) -> Any:
        if kind is float and isinstance(item, int) and not isinstance(item, bool):
            item = float(item)
        if type(item) is not kind or (kind is float and item != item):
            raise refuse()
        if entry.choices is not None and item not in entry.choices:
            raise refuse()
        if (entry.minimum is not None and item < entry.minimum) or (entry.maximum is not None and item > entry.maximum):
            raise refuse()
        return item

    kinds = {"a number": float, "a whole number": int, "true or false": bool, "a text": str}
    if entry.type_name in kinds:
        return scalar(kinds[entry.type_name], value)
    kind = kinds[entry.type_name.removeprefix("a list, each ")]
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise refuse()
    return tuple(scalar(kind, item) for item in value)


def descriptor(entry: Entry) -> ParameterDescriptor:
    """What `ros2 param describe` shows: text, what is allowed, and the range where ROS can express it.

    Typing stays dynamic so that a whole number may stand for a number; `check_value` is what validates.
    """
    message = ParameterDescriptor(description=entry.text, read_only=not entry.tunable, dynamic_typing=True)
    if entry.choices is not None or entry.minimum is not None or entry.maximum is not None:
        message.additional_constraints = entry.allowed
    if entry.minimum is not None and entry.maximum is not None:
        if entry.type_name == "a number":
            limits = FloatingPointRange(from_value=float(entry.minimum), to_value=float(entry.maximum))
            message.floating_point_range = [limits]
        elif entry.type_name == "a whole number":
            message.integer_range = [IntegerRange(from_value=int(entry.minimum), to_value=int(entry.maximum))]
    return message


def build(table: type[T], values: dict[str, Any], prefix: str = "") -> T:
    """An instance of the table from ROS values; raises ParameterError with the first thing that is wrong."""
    checked = {
        entry.key.removeprefix(prefix): check_value(entry, values[entry.key], source_of(entry.key))
        for entry in entries(table, prefix)
        if entry.key in values
    }
    try:
        return table(**checked)
    except ValueError as error:
        raise ParameterError(str(error)) from error


def unknown_keys(given: Sequence[str], known: Sequence[str]) -> str | None:
    """One sentence about the first parameter nobody declared, with the nearest known name; None when all are known."""
    for key in given:
        if key in known or key in _BUILT_IN or key.startswith("qos_overrides."):
            continue
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
        source = source_of(key)
        return f"{source + ': ' if source else ''}unknown parameter {key}{hint}"
    return None


def source_of(key: str, arguments: Sequence[str] | None = None) -> str:
    """The last parameter file on the command line that sets this key ('' when none does, as for a value given by -p)."""
    arguments = sys.argv if arguments is None else arguments
    files = [arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word == "--params-file"]
    if any(word in ("-p", "--param") and arguments[i + 1].startswith(f"{key}:=") for i, word in enumerate(arguments[:-1])):
        return "command line"
    for file in reversed(files):
        try:
            content = yaml.safe_load(Path(file).read_text()) or {}
        except (OSError, yaml.YAMLError):
            continue
        for section in content.values() if isinstance(content, dict) else ():
            if isinstance(section, dict) and _holds(section.get("ros__parameters", section), key):
                return str(file)
    return ""


def _holds(section: Any, key: str) -> bool:
    if not isinstance(section, dict):
        return False
    if key in section:
        return True
    head, _, rest = key.partition(".")
    while rest:
        if head in section and _holds(section[head], rest):
            return True
        step, _, rest = rest.partition(".")
        head = f"{head}.{step}"
    return False
