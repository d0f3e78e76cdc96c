# SPDX-License-Identifier: Apache-2.0
"""Values that a user writes, read and checked before anything starts.

Each reader takes a text and returns its value, or raises ValueRefused, whose sentence follows the name that the user typed:
"is '0', allowed is a whole number from 1".
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from reach_grasp.errors import CommandError

SEEDS = (0, 2**31 - 1)
_NAMESPACE = re.compile(r"(/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*/?)?", re.ASCII)
_TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
_NUMBERS = {int: "a whole number", float: "a number"}


class ValueRefused(argparse.ArgumentTypeError):
    """A value that is not allowed, and what is."""


def number(kind: type, low: float | None = None, high: float | None = None) -> Callable[[str], Any]:
    """Reader of an int or float from `low` to `high`, where they are given."""
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    limits = "".join(f" {word} {limit}" for word, limit in (("from", low), ("to", high)) if abs(limit) != math.inf)

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or abs(value) == math.inf:
            written = text.strip() if abs(value) < math.inf else repr(text)
            raise ValueRefused(f"is {written}, allowed is {_NUMBERS[kind]}{limits}")
        return value

    return read


def auto_or(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Reader of `auto`, which gives None, or of what `read` takes."""

    def either(text: str) -> Any:
        if text == "auto":
            return None
        try:
            return read(text)
        except ValueRefused as error:
            raise ValueRefused(str(error).replace("allowed is", "allowed is auto or", 1)) from None

    return either


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Reader of one of a few words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueRefused(f"is {text!r}, allowed is one of {', '.join(choices)}{nearest(text, choices)}")
        return text

    return read


def true_or_false(text: str) -> bool:
    """Read a bool."""
    if text.lower() not in ("true", "false"):
        raise ValueRefused(f"is {text!r}, allowed is true or false")
    return text.lower() == "true"


def namespace(text: str) -> str:
    """Read a ROS namespace, which may be empty."""
    if not _NAMESPACE.fullmatch(text):
        raise ValueRefused(f"is {text!r}, allowed are names of letters, digits and _ with / between, such as left or lab/left")
    return text


def topic(text: str) -> str:
    """Read the name of a ROS topic, relative or absolute."""
    if not _TOPIC.fullmatch(text):
        raise ValueRefused(f"is {text!r}, allowed are names of letters, digits and _ with / between, such as arm/joint_states")
    return text


def writable_folder(text: str) -> str:
    """Read the path of a folder that is there and can be written, or that can be made."""
    if not text:
        raise ValueRefused("is empty, name a folder")
    path = Path(text).expanduser()
    try:
        there = next(folder for folder in (path, *path.parents) if folder.exists())
    except OSError as error:
        raise ValueRefused(f"is {text!r}: {reason(error)}") from None
    if not there.is_dir():
        raise ValueRefused(f"is {text!r}, but {there} is a file: name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueRefused(f"is {text!r}, but {there} cannot be written: permission denied")
    return text


def folder_to_write(text: str) -> Path:
    """Like `writable_folder`, as a path with the user's home in it."""
    return Path(writable_folder(text)).expanduser()


def writable_file(text: str) -> str:
    """Read the path of a file that is not a folder and that can be written."""
    if not text or Path(text).expanduser().is_dir():
        raise ValueRefused(f"is {text!r}, name a file")
    writable_folder(str(Path(text).expanduser().parent))
    return text


def domain_of_environment() -> int:
    """The ROS domain that the environment names, 0 where it names none. Raises CommandError."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    try:
        return number(int, 0, 232)(text)
    except ValueRefused as error:
        raise CommandError(f"ROS_DOMAIN_ID {error}") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for a word that is near a known one, else ''."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def reason(error: OSError) -> str:
    """Why the system refused, in words."""
    return (error.strerror or str(error)).lower()
