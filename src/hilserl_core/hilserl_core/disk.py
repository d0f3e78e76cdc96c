# SPDX-License-Identifier: Apache-2.0
"""What has to be on the disk before it is relied on."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file's content, or the names in a folder, onto the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """The same of everything in a folder, and of the folder last."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
