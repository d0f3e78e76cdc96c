# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there: written beside, synced, renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside to write to; it takes the name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    with whole(path) as part:
        part.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def place_folder(part: Path, folder: Path) -> None:
    """Give a finished folder its name, everything in it synced first."""
    for path in part.rglob("*"):
        _sync(path)
    _sync(part)
    part.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
