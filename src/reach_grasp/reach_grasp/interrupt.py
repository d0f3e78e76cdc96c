# SPDX-License-Identifier: Apache-2.0
"""A Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever the program is; within a destructor or a weak reference's callback it is printed and
dropped. So it is noted as well, and whoever waits in a loop asks.
"""

from __future__ import annotations

import signal

_asked = False
_number = signal.SIGINT


def listen(*numbers: int) -> None:
    """These signals interrupt from now on; those of before are forgotten."""
    global _asked
    _asked = False
    for number in numbers:
        signal.signal(number, _interrupt)


def heed() -> None:
    """Raise KeyboardInterrupt when one of the signals has come."""
    if _asked:
        raise KeyboardInterrupt


def exit_code() -> int:
    """The one that shells give to a program which the newest signal ended."""
    return 128 + _number


def _interrupt(number: int, frame: object) -> None:
    global _asked, _number
    _asked, _number = True, number
    raise KeyboardInterrupt
