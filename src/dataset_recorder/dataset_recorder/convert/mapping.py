# SPDX-License-Identifier: Apache-2.0
"""The mapping file: which topics of a bag become which features of a dataset. Its reference is docs/mapping.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dataset_recorder.convert.align import Gap
from dataset_recorder.convert.errors import MappingError

UNITS = ("rad", "deg", "percent")
_TOP = ("fps", "task", "robot_type", "features")
_SOURCE = ("topic", "field", "joints", "unit", "stamp", "tolerance_s", "gap")
_UNIT = ("from", "to", "range")
_FEATURES = "observation.images.<camera>, observation.<name>, action, next.reward, next.success"


@dataclass(frozen=True)
class Unit:
    """A conversion of joint values. range: the angles, in the unit that is not percent, of 0 and 100 percent."""

    source: str
    target: str
    range: tuple[float, float] | None = None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """values in `target`."""
        low, high = self.range or (0.0, 100.0)
        if self.source == self.target:
            return values
        if self.target == "percent":
            return (values - low) / (high - low) * 100.0
        if self.source == "percent":
            return low + values / 100.0 * (high - low)
        return np.rad2deg(values) if self.target == "deg" else np.deg2rad(values)


@dataclass(frozen=True)
class Source:
    """Where a feature, or a part of one, comes from. by_receipt: messages are timed by receipt and not by their header."""

    topic: str
    field: str
    joints: tuple[str, ...]
    unit: Unit | None
    by_receipt: bool
    tolerance_s: float
    gap: Gap


@dataclass(frozen=True)
class Mapping:
    """features: name -> its sources, whose values follow one another."""

    fps: int
    task: str
    robot_type: str
    features: dict[str, tuple[Source, ...]]


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file. Raises MappingError naming file, key, what was found and what is allowed."""
    try:
        value = yaml.safe_load(path.read_bytes())  # UTF-8, or UTF-16 with a mark, as YAML allows
    except OSError as error:
        raise MappingError(f"the mapping {path} cannot be read: {error.strerror}") from error
    except (UnicodeError, yaml.reader.ReaderError) as error:
        why = " ".join(str(error).split())
        raise MappingError(f"the mapping {path} is not UTF-8 text ({why}): save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise MappingError(f"the mapping {path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return parse_mapping(value)
    except MappingError as error:
        raise MappingError(f"{path}: {error}") from error


def parse_mapping(value: Any) -> Mapping:
    """A mapping of YAML values. Raises MappingError."""
    top = _table(value, "the mapping", _TOP, required=("fps", "task", "features"))
    if not isinstance(top["fps"], int) or isinstance(top["fps"], bool) or not 1 <= top["fps"] <= 240:
        raise MappingError(f"fps is {top['fps']!r}, expected a whole number from 1 to 240")
    features = top["features"]
    if not isinstance(features, dict) or not features:
        raise MappingError(f"features is {features!r}, expected feature: source; features: {_FEATURES}")
    parsed = {name: _feature(name, sources) for name, sources in features.items()}
    return Mapping(top["fps"], _text(top["task"], "task"), _text(top.get("robot_type", "so101"), "robot_type"), parsed)


def _feature(name: Any, value: Any) -> tuple[Source, ...]:
    named = isinstance(name, str) and "/" not in name and not name.endswith(".")
    image = named and name.startswith("observation.images.") and name.count(".") == 2
    other = named and name.startswith("observation.") and not name.startswith("observation.image")
    if not image and not other and name not in ("action", "next.reward", "next.success"):
        raise MappingError(f"there is no feature {name!r}, allowed: {_FEATURES}")
    values = value if isinstance(value, list) else [value]
    if not values or (image and len(values) > 1):
        raise MappingError(f"{name} has {len(values)} sources, expected {'one' if image else 'at least one'}")
    where = [name if len(values) == 1 else f"{name}[{index}]" for index in range(len(values))]
    return tuple(_source(item, place, image) for item, place in zip(values, where, strict=True))


def _source(value: Any, where: str, image: bool) -> Source:
    allowed = tuple(key for key in _SOURCE if not image or key not in ("field", "joints", "unit"))
    table = _table(value, where, allowed, required=("topic", "tolerance_s", "gap") + (() if image else ("field",)))
    tolerance, gap, stamp = table["tolerance_s"], table["gap"], table.get("stamp", "header")
    if not isinstance(tolerance, int | float) or isinstance(tolerance, bool) or not 0 <= tolerance < math.inf:
        raise MappingError(f"{where}.tolerance_s is {tolerance!r}, expected seconds from 0")
    if gap not in [item.value for item in Gap]:
        raise MappingError(f"{where}.gap is {gap!r}, allowed: {', '.join(item.value for item in Gap)}")
    if stamp not in ("header", "receipt"):
        raise MappingError(f"{where}.stamp is {stamp!r}, allowed: header, receipt")
    joints = table.get("joints", [])
    if not isinstance(joints, list) or not all(isinstance(joint, str) for joint in joints) or len(set(joints)) != len(joints):
        raise MappingError(f"{where}.joints is {joints!r}, expected a list of different names")
    unit = _unit(table["unit"], f"{where}.unit") if "unit" in table else None
    field = _text(table.get("field", "data"), f"{where}.field")
    topic = "/" + _text(table["topic"], f"{where}.topic").strip("/")
    return Source(topic, field, tuple(joints), unit, stamp == "receipt", float(tolerance), Gap(gap))


def _unit(value: Any, where: str) -> Unit:
    table = _table(value, where, _UNIT, required=("from", "to"))
    for key in ("from", "to"):
        if table[key] not in UNITS:
            raise MappingError(f"{where}.{key} is {table[key]!r}, allowed: {', '.join(UNITS)}")
    needs = (table["from"] == "percent") != (table["to"] == "percent")
    limits = table.get("range")
    if needs != (limits is not None):
        raise MappingError(f"{where}.range is {limits!r}, expected {'the angles of 0 and 100 percent' if needs else 'none'}")
    if limits is None:
        return Unit(table["from"], table["to"])
    if not isinstance(limits, list) or len(limits) != 2 or not all(isinstance(x, int | float) for x in limits):
        raise MappingError(f"{where}.range is {limits!r}, expected two numbers")
    if limits[0] == limits[1]:
        raise MappingError(f"{where}.range is {limits!r}, expected two different numbers")
    return Unit(table["from"], table["to"], (float(limits[0]), float(limits[1])))


def _table(value: Any, where: str, allowed: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MappingError(f"{where} is {value!r}, expected keys and values; allowed keys: {', '.join(allowed)}")
    unknown = [key for key in value if key not in allowed]
    if unknown:
        raise MappingError(f"{where} has the unknown key {unknown[0]!r}, allowed: {', '.join(allowed)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise MappingError(f"{where} lacks {missing[0]!r}, expected: {', '.join(required)}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise MappingError(f"{where} is {value!r}, expected a text")
    return value
