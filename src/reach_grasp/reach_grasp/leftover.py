# SPDX-License-Identifier: Apache-2.0
"""Keeps nodes open until the very end of the process.

Fast DDS can lock itself up when other nodes leave (eProsima/Fast-DDS issue 6502). Whoever then takes a node apart waits for
ever, with Python's own lock held, so that not even Ctrl-C helps. A command that has listened to a system therefore leaves its
node as it is, and ends its process without taking anything apart. Others forget the node after 20 s.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

_KEPT: list[Callable[[], None]] = []


def keep(close: Callable[[], None]) -> None:
    """Hold what a function would take apart: without this Python would, when nothing refers to it any more."""
    _KEPT.append(close)


def take_apart() -> None:
    """Call what was kept. Only tests need it, whose process goes on."""
    while _KEPT:
        _KEPT.pop()()


def end(code: int) -> NoReturn:
    """End the process: at once where something was kept, else as Python does."""
    if _KEPT:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
