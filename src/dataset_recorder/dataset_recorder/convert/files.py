# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there: written beside, synced, renamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hilserl_core.disk import sync, sync_all


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside to write to; it takes the name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    with whole(path) as part:
        part.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def place_folder(part: Path, folder: Path) -> None:
    """Give a finished folder its name, everything in it synced first."""
    sync_all(part)
    part.rename(folder)
    sync(folder.parent)
