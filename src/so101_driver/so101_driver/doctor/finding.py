# SPDX-License-Identifier: Apache-2.0
"""What a check found, and what to do about it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How it is. Skipped: it was not looked at, the text says why."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what was seen, and the cure where there is one."""

    check: str
    level: Level
    text: str
    cure: str = ""


def broken(check: str, error: Exception, level: Level = Level.PROBLEM) -> Finding:
    """Of an error whose one sentence is `what is wrong; what to do`."""
    text, _, cure = (str(error) or type(error).__name__).partition("; ")
    return Finding(check, level, text, cure)


def examine(check: str, look: Callable[[], Finding | str]) -> Finding:
    """What a look finds. It may return the text of what is well, and raise what is not."""
    try:
        found = look()
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        return broken(check, error)
    return Finding(check, Level.OK, found) if isinstance(found, str) else found
