# SPDX-License-Identifier: Apache-2.0
"""Dataclass fields that carry what a ROS parameter needs: a text and the allowed values."""

from __future__ import annotations

import dataclasses
from typing import Any


def described(default: Any, text: str, **limits: Any) -> Any:
    """A dataclass field with a description and limits: `minimum`, `maximum`, `choices`."""
    return dataclasses.field(default=default, metadata={"text": text, **limits})


def tidy(instance: Any, prefix: str, error: type[Exception]) -> None:
    """Turn lists into tuples and check every limit, for use in `__post_init__` of a frozen dataclass.

    Raises `error` with one sentence that names `prefix.field`, the value and what is allowed.
    """
    for item in dataclasses.fields(instance):
        value = getattr(instance, item.name)
        if isinstance(value, list):
            object.__setattr__(instance, item.name, tuple(value))
        for number in value if isinstance(value, (list, tuple)) else (value,):
            _check(number, item, prefix, error)


def _check(value: Any, item: dataclasses.Field, prefix: str, error: type[Exception]) -> None:
    name = f"{prefix}.{item.name}"
    choices = item.metadata.get("choices")
    if choices is not None and value not in choices:
        raise error(f"{name} is {value!r}, allowed: {', '.join(map(repr, choices))}")
    minimum, maximum = item.metadata.get("minimum"), item.metadata.get("maximum")
    if minimum is None and maximum is None:
        return
    too_low = minimum is not None and not value >= minimum
    too_high = maximum is not None and not value <= maximum
    if too_low or too_high:
        raise error(f"{name} is {value}, allowed: {minimum} to {maximum}")
