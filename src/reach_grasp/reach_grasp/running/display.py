# SPDX-License-Identifier: Apache-2.0
"""Display of a running system: a live panel in a terminal, else plain lines."""

from __future__ import annotations

import enum
import os
import select
import time
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from reach_grasp.running.problems import Problem

LINE_EVERY_S = 10.0
_WIDE = 120  # columns from which on the fields stand in three columns
_MOST_PROBLEMS = 6


class Turn(enum.Enum):
    """Whose turn it is."""

    SYSTEM = "system"  # the person need not do anything
    INFO = "info"  # the person may want to know
    PERSON = "person"  # nothing goes on until the person acts
    HOLD = "hold"  # the arm holds, since something is wrong


_STYLES = {Turn.SYSTEM: "dim", Turn.INFO: "bold", Turn.PERSON: "bold black on yellow", Turn.HOLD: "bold white on red"}
_BORDERS = {Turn.SYSTEM: "cyan", Turn.INFO: "cyan", Turn.PERSON: "yellow", Turn.HOLD: "red"}
_MARKS = {Turn.SYSTEM: "", Turn.INFO: "▸ ", Turn.PERSON: "▶ YOU: ", Turn.HOLD: "■ THE ARM HOLDS: "}


@dataclass(frozen=True)
class Snapshot:
    """A running system at one moment.

    stage: name of what goes on, the `number`th of `stages`. progress: of the stage, 0 to 1. task: what the person must do now,
    or why the arm holds. fields: label and value of whatever applies. waits: what is waited for, once nothing moves any more.
    """

    stage: str
    detail: str = ""
    progress: float = 0.0
    number: int = 1
    stages: int = 1
    turn: Turn = Turn.SYSTEM
    task: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    waits: str = ""
    problems: tuple[Problem, ...] = ()
    title: str = "reach-grasp"
    log: str = ""

    def line(self) -> str:
        """Everything but the problems in one line of text."""
        parts = [f"{self.stage} {self.progress:.0%}", *([self.detail] if self.detail else [])]
        parts += [f"{label} {value}" for label, value in self.fields]
        told = f"{_MARKS[self.turn]}{self.task}" if self.task else ""
        return "; ".join([", ".join(parts), *filter(None, [told, self.waits])])

    def panel(self, width: int) -> Panel:
        """Everything for a terminal that is `width` columns wide."""
        parts: list[RenderableType] = [self._head(), self._bar(width - 4), Text(""), self._task()]
        if self.fields:
            parts += [Text(""), self._table(width)]
        if self.waits:
            parts += [Text(""), Text(self.waits, style="yellow")]
        if self.problems:
            parts += [Text(""), self._problems()]
        return Panel(
            Group(*parts),
            title=Text(self.title, style="bold"),
            title_align="left",
            subtitle=Text(f"Ctrl-C stops; log: {self.log}" if self.log else "Ctrl-C stops", style="dim"),
            subtitle_align="right",
            border_style=_BORDERS[self.turn],
            width=width,
        )

    def _head(self) -> Table:
        head = Table.grid(expand=True)
        head.add_column(no_wrap=True)
        head.add_column(justify="right", no_wrap=True, overflow="ellipsis")
        place = (f"stage {self.number} of {self.stages}  ", "dim")
        head.add_row(Text.assemble(place, (self.stage, "bold cyan")), Text(self.detail, style="bold"))
        return head

    def _bar(self, width: int) -> Text:
        done = round(width * min(max(self.progress, 0.0), 1.0))
        return Text.assemble(("━" * done, "cyan"), ("─" * (width - done), "dim"))

    def _task(self) -> RenderableType:
        text = Text(f"{_MARKS[self.turn]}{self.task or 'nothing to do'}", style=_STYLES[self.turn])
        pad = (0, 1) if self.turn in (Turn.PERSON, Turn.HOLD) else 0
        return Padding(text, pad, style=_STYLES[self.turn], expand=True)

    def _table(self, width: int) -> Table:
        """Fields in columns of equal width, read from top to bottom."""
        count = 3 if width >= _WIDE else 2
        rows = -(-len(self.fields) // count)
        table = Table.grid(expand=True, padding=(0, 2, 0, 0))
        for _ in range(count):
            table.add_column(no_wrap=True, width=max(len(label) for label, _ in self.fields or [("", "")]))
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in range(rows):
            cells: list[Text] = []
            for label, value in self.fields[row::rows]:
                cells += [Text(label, style="dim"), Text(value, style="bold")]
            table.add_row(*cells)
        return table

    def _problems(self) -> Table:
        table = Table.grid(expand=True, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        for problem in self.problems[:_MOST_PROBLEMS]:
            colour, mark = ("red", "✗") if problem.severe else ("yellow", "!")
            node = Text(f"{mark} {problem.node}", style=f"bold {colour}")
            table.add_row(node, Text(problem.text, style=colour), Text(f"{clock(problem.age_s)} ago", style="dim"))
        if (more := len(self.problems) - _MOST_PROBLEMS) > 0:
            table.add_row("", Text(f"and {more} more in the log", style="dim"), "")
        return table


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Display:
    """Use as a context manager; `show` as often as you like, `say` for what must stay readable.

    plain: lines also where there is a terminal.
    """

    def __init__(self, output: TextIO, plain: bool = False) -> None:
        self._console = Console(file=output, highlight=False)
        self._live = None
        if self._console.is_terminal and not plain:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._shown: tuple[object, float] = ("", 0.0)
        self._told: set[tuple[str, str]] = set()
        self._reader = _poll(output)

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Redraw; without a terminal a line whenever stage or task change and every ten seconds, and one for each problem.

        Raises BrokenPipeError when nobody reads the output any more.
        """
        if self._reader is not None and self._reader.poll(0):
            raise BrokenPipeError("nobody reads the output")
        if self._live is not None:
            # The cursor rests below the panel, where the ^C that a terminal echoes moves nothing.
            self._live.update(Group(snapshot.panel(self._console.width), Text("")), refresh=True)
            return
        now = time.monotonic()
        for problem in snapshot.problems:
            if (problem.node, problem.text) not in self._told:
                self._told.add((problem.node, problem.text))
                self.say(f"{'error' if problem.severe else 'warning'}: {problem.node}: {problem.text}")
        shown = (snapshot.stage, snapshot.task if snapshot.turn in (Turn.PERSON, Turn.HOLD) else "", bool(snapshot.waits))
        if shown != self._shown[0] or now - self._shown[1] >= LINE_EVERY_S:
            self._shown = (shown, now)
            self.say(snapshot.line())

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, soft_wrap=True, markup=False)


def _poll(output: TextIO) -> select.poll | None:
    """A poll object that tells when a pipe has lost its reader; None for an output that is no pipe."""
    try:
        number = output.fileno()
        os.fstat(number)
    except (OSError, ValueError):
        return None
    poll = select.poll()
    poll.register(number, 0)  # errors alone
    return poll
