# SPDX-License-Identifier: Apache-2.0
"""Questions to a person at a terminal, and a calibration that is shown there while it is made."""

from __future__ import annotations

import select
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table

from reach_grasp.errors import CommandError
from so101_driver.calibrate import FULL_TURN, Sweep

_LOOK_S = 0.02


def need_terminal(what: str) -> None:
    """Raises CommandError when nobody can answer."""
    if not sys.stdin.isatty():
        raise CommandError(f"{what}, and there is no terminal to answer at; run it in one (over ssh with -t)")


def confirm(question: str, yes: bool) -> bool:
    """Whether the person agrees; they have already with `yes`. Raises CommandError when nobody can answer."""
    if yes:
        return True
    need_terminal("this asks before it does anything (--yes agrees)")
    return ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def ask(text: str) -> str:
    """What a person types. Raises CommandError when the terminal is closed."""
    try:
        return input(text)
    except EOFError as error:
        raise CommandError("the terminal was closed before the question was answered; run it again") from error


class TerminalPerson:
    """A person at the arm and at this terminal; `Person` of so101_driver.calibrate. Use it as a context manager."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False)

    def ask(self, text: str) -> str:
        """Say something and wait for Enter."""
        return ask(text)

    def tell(self, text: str) -> None:
        """Say something."""
        self._live.console.print(text, markup=False, highlight=False)

    def moved(self, sweeps: Mapping[str, Sweep]) -> bool:
        """Draw the table anew; whether Enter was pressed."""
        self._live.start()
        self._live.update(_sweeps(sweeps), refresh=True)
        if not select.select([sys.stdin], [], [], _LOOK_S)[0]:
            return False
        self._live.stop()
        return ask("") is not None

    def __enter__(self) -> TerminalPerson:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def _sweeps(sweeps: Mapping[str, Sweep]) -> Table:
    table = Table("joint", "min", "position", "max")
    for joint, sweep in sweeps.items():
        ends = ("", "full turn") if joint == FULL_TURN else (str(sweep.lowest), str(sweep.highest))
        table.add_row(joint, ends[0], str(sweep.position), ends[1])
    return table
