# SPDX-License-Identifier: Apache-2.0
"""The task that parameter files describe, for programs that are no nodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory

from hilserl_core.task import TaskError, TaskSpec
from reach_grasp.errors import CommandError


def config_file(name: str) -> Path:
    """An installed parameter file."""
    return Path(get_package_share_directory("reach_grasp")) / "config" / f"{name}.yaml"


def add_task_option(parser: argparse.ArgumentParser) -> None:
    """The option for `task_of`."""
    parser.add_argument(
        "--task",
        type=Path,
        action="append",
        help="Parameter files with the task, later ones count more. Default: as in simulation.",
    )


def task_of(files: Sequence[Path] | None) -> TaskSpec:
    """The task of parameter files, of the simulation where there are none; a file need not say anything of it.

    Raises CommandError when one cannot be read, none describes a task, or the task is not possible.
    """
    values: dict[str, Any] = {}
    files = files or [config_file("task"), config_file("sim")]
    for file in files:
        try:
            content = yaml.safe_load(file.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise CommandError(f"cannot read {file}: {error}") from error
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
