# SPDX-License-Identifier: Apache-2.0
"""Definitions and hashes of message types, from the standard ones and from what is installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dataset_recorder.errors import RecordingError


@cache
def _store() -> Typestore:
    return get_typestore(Stores.ROS2_KILTED)


def typestore_for(name: str) -> Typestore:
    """A type store that knows `name`, such as sensor_msgs/msg/Image, and what it is made of.

    Raises RecordingError when its package is not installed.
    """
    store = _store()
    _register(name, store)
    return store


def _register(name: str, store: Typestore) -> None:
    if name in store.fielddefs:
        return
    package, _, short = name.partition("/msg/")
    try:
        file = Path(get_package_share_directory(package)) / "msg" / f"{short}.msg"
        found = get_types_from_msg(file.read_text(), name)
    except (PackageNotFoundError, TypesysError, ValueError, OSError) as error:
        raise RecordingError(
            f"the type {name} is not known here: install its package {package!r} and source its workspace, "
            "or leave the topic out"
        ) from error
    for part in _parts(found, name):
        _register(part, store)
    store.register(found)


def _parts(found: dict, name: str) -> set[str]:
    """Names of the message types that the fields of `name` are made of."""
    parts: set[str] = set()

    def collect(description: tuple) -> None:
        kind, inner = description
        if kind == Nodetype.NAME:
            parts.add(inner)
        elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            collect(inner[0])

    for _, description in found[name][1]:
        collect(description)
    return parts
