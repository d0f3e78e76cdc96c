# SPDX-License-Identifier: Apache-2.0
"""A LeRobot dataset v2.1 as v3.0, by LeRobot's own converter: on this computer alone, nothing is downloaded or uploaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataset_recorder.dataset import INFO, DatasetError, open_dataset, read_json
from dataset_recorder.new_folder import TargetError, new_folder

OLD, NEW = "v2.1", "v3.0"


def upgrade(path: Path) -> Path:
    """The dataset as v3.0: `path` itself when it is one, else `<path>_v30` beside it, made when it is not there yet.

    The dataset at `path` is never changed. Raises DatasetError when it is of another version, damaged, or cannot be written.
    """
    path = Path(path)
    version = read_json(path / INFO).get("codebase_version")
    if version == NEW:
        return path
    if version != OLD:
        raise DatasetError(f"{path} is a dataset {version}, expected {NEW} or {OLD}: convert it with the LeRobot of its time")
    target = path.with_name(f"{path.name}_v30")
    if target.exists():
        open_dataset(target)
        return target
    try:
        with new_folder(target) as folder, _copied(path, folder / "work") as work:
            _convert(work)
            for part in work.iterdir():
                part.rename(folder / part.name)
            open_dataset(folder)
    except TargetError as error:
        raise DatasetError(str(error)) from error
    return target


@contextmanager
def _copied(path: Path, work: Path) -> Iterator[Path]:
    """LeRobot converts in place and leaves the old one beside it, so it gets a copy, in a folder of its own."""
    copy = work / path.name
    shutil.copytree(path, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _convert(root: Path) -> None:
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    try:
        convert_dataset(f"local/{root.name}", root=root, push_to_hub=False, force_conversion=True)
    except Exception as error:
        raise DatasetError(f"LeRobot cannot convert {root.name} from {OLD} to {NEW}: {error!r}") from error
