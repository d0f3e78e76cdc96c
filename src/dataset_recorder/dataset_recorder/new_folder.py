# SPDX-License-Identifier: Apache-2.0
"""A folder that appears under its name only when it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hilserl_core.disk import sync, sync_all


class TargetError(OSError):
    """The folder to be made cannot be made."""


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Write into the folder this yields; it becomes `target` when the block ends, and is removed when the block raises.

    A killed process leaves `.<name>.partial` beside the target, which the next run for the same target clears away.
    Raises TargetError when the target exists, when another process makes it right now, or when its parent cannot be written.
    """
    if os.path.lexists(target):
        raise TargetError(f"{target} exists already: give another name, nothing is overwritten")
    partial, lock_path = (target.with_name(f".{target.name}.{end}") for end in ("partial", "lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_path.open("w")
    except OSError as error:
        raise TargetError(f"cannot write beside {target}: {error.strerror}") from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system drops it when the process ends
        except BlockingIOError as error:
            raise TargetError(f"another process is writing {target}: wait for it or give another name") from error
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            yield partial
            sync_all(partial)
            if os.path.lexists(target):
                raise TargetError(f"{target} appeared meanwhile: give another name, nothing is overwritten")
            partial.rename(target)
            sync(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock_path.unlink(missing_ok=True)
