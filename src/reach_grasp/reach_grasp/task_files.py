# SPDX-License-Identifier: Apache-2.0
"""The task and single parameters in parameter files, for programs that are no nodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory

from hilserl_core.task import TaskError, TaskSpec
from reach_grasp.errors import CommandError
from reach_grasp.values import reason


def config_file(name: str) -> Path:
    """An installed parameter file."""
    return Path(get_package_share_directory("reach_grasp")) / "config" / f"{name}.yaml"


def read_yaml(file: Path) -> Any:
    """The content of a parameter file. Raises CommandError when it cannot be read."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"the parameter file {file} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"the parameter file {file} is not UTF-8: save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise CommandError(f"the parameter file {file} is not YAML: {' '.join(str(error).split())}") from error


def user_file(text: str) -> Path:
    """The parameter file that a user named. Raises CommandError when it is missing or holds no parameters."""
    file = Path(text).expanduser().resolve()
    if not file.is_file():
        raise CommandError(f"the parameter file {file} does not exist")
    content = read_yaml(file)
    sections = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(section, dict) for section in sections):
        raise CommandError(f"the parameter file {file} holds no parameters: it must begin with a node, such as /**/actor:")
    return file


def user_files(text: str) -> list[Path]:
    """The parameter files that a user named, separated by colons; none for an empty text. Raises CommandError."""
    return [user_file(name) for name in text.split(":") if name]


def add_task_option(parser: argparse.ArgumentParser) -> None:
    """The option for `task_of`."""
    parser.add_argument(
        "--task",
        type=Path,
        action="append",
        help="Parameter files with the task, later ones count more. Default: the task that the dataset was recorded with, else "
        "the simulation's.",
    )


def task_of_dataset(root: Path, files: Sequence[Path] | None) -> TaskSpec:
    """The task of parameter files; where none is given, the one that the dataset was recorded with, else the simulation's.

    Raises CommandError.
    """
    from dataset_recorder.dataset import DatasetError
    from dataset_recorder.origin import recorded_task

    try:
        recorded = None if files else recorded_task(root)
    except DatasetError as error:
        raise CommandError(str(error)) from error
    return recorded or task_of(files)


def task_of(files: Sequence[Path] | None) -> TaskSpec:
    """The task of parameter files, of the simulation where there are none; a file need not say anything of it.

    Raises CommandError when one cannot be read, none describes a task, or the task is not possible.
    """
    values: dict[str, Any] = {}
    files = files or [config_file("task"), config_file("sim")]
    for file in files:
        content = read_yaml(file)
        try:
            values |= content["/**"]["ros__parameters"]["task"]
        except (KeyError, TypeError):
            continue
    if not values:
        raise CommandError(f"{', '.join(map(str, files))} has no /**: ros__parameters: task: section")
    try:
        return TaskSpec.from_dict(values)
    except (TaskError, TypeError) as error:
        raise CommandError(str(error)) from error


def parameter_in(files: Sequence[Path], node: str, name: str, default: Any) -> Any:
    """The value that parameter files give a node; a later file counts more, and within a file the node's own section.

    Raises CommandError when a file cannot be read.
    """
    value = default
    for file in files:
        content = read_yaml(file) or {}
        for section in ("**", node):
            for key, entry in content.items():
                if str(key).rsplit("/", 1)[-1] == section and isinstance(entry, dict):
                    value = (entry.get("ros__parameters") or {}).get(name, value)
    return value
