# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in LeRobot's layout: written beside and renamed, checked before they are used, pruned."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from safetensors import SafetensorError

from hilserl_core.disk import sync
from hilserl_core.errors import CheckpointError
from hilserl_core.training import Trainer
from hilserl_core.training_state import read_state, write_state

LAST = "last"
_MANIFEST = "manifest.json"


def save_checkpoint(root: Path, trainer: Trainer, keep: int = 3) -> Path:
    """Write `root/<step>` and point `root/last` at it. A kill at any instant leaves the last good one.

    Of older ones the `keep` newest stay, and the very first, which training began with. Returns the folder.
    Raises CheckpointError when it cannot be written; what was there before is untouched.
    """
    folder = root / f"{trainer.sac.steps:06d}"
    if folder.is_dir() and problem_of(folder) is None:
        _point(root, folder)
        return folder
    partial = root / f".partial-{folder.name}-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob(".*-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        write_state(partial, trainer)
        _seal(partial)
        if folder.exists():  # a damaged one of the same step
            folder.rename(root / f".old-{folder.name}-{os.getpid()}")
        partial.rename(folder)
        sync(root)
        _point(root, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"cannot write the checkpoint {folder}: {reason}; the one before it is untouched") from error
    _prune(root, keep)
    return folder


def newest_checkpoint(root: Path) -> tuple[Path | None, list[str]]:
    """The newest good checkpoint, and a sentence for each newer one that had to be passed over."""
    passed_over = []
    for folder in reversed(_folders(root)):
        problem = problem_of(folder)
        if problem is None:
            return folder, passed_over
        passed_over.append(f"the checkpoint {folder} is passed over: {problem}")
    return None, passed_over


def load_checkpoint(folder: Path, trainer: Trainer) -> list[str]:
    """Continue from a checkpoint with a fresh trainer; then add all steps of the journal, from the first.

    Returns one line per setting that is another one now. Raises CheckpointError for a damaged checkpoint and PolicyError,
    naming the difference, for one of another task or architecture.
    """
    problem = problem_of(folder)
    if problem is not None:
        raise CheckpointError(f"the checkpoint {folder} cannot be used: {problem}")
    return read_state(folder, trainer)


def problem_of(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, None when they are as they were written."""
    try:
        digests = json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError):
        return "it was not written to its end"
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} is damaged"
    return None


def _folders(root: Path) -> list[Path]:
    """Checkpoints, oldest first."""
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if path.name.isdigit() and path.is_dir()), key=lambda path: int(path.name))


def _seal(folder: Path) -> None:
    """Force everything onto the disk; the manifest comes last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): _digest(path) for path in files}
    (folder / _MANIFEST).write_text(json.dumps(digests, indent=2) + "\n")
    for path in [*files, folder / _MANIFEST, *(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync(path)


def _point(root: Path, folder: Path) -> None:
    """Replace the `last` link in one step."""
    link = root / f".last-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(root / LAST)
    sync(root)


def _prune(root: Path, keep: int) -> None:
    folders = _folders(root)
    for folder in folders[1 : max(1, len(folders) - keep)]:
        doomed = root / f".old-{folder.name}-{os.getpid()}"
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
