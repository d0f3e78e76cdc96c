# SPDX-License-Identifier: Apache-2.0
"""What the terminal shows while the demo runs: one live panel, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a demo at one moment; None stands for what does not apply in this phase."""

    phase: str
    detail: str = ""
    progress: float = 0.0  # of the phase, 0 to 1
    ticks_per_second: float | None = None
    success_last_20: float | None = None
    intervention_rate: float | None = None  # of the steps of the last 20 episodes
    updates_per_second: float | None = None
    policy_version: int | None = None
    left_s: float | None = None

    def fields(self) -> list[tuple[str, str]]:
        """Label and value of everything that applies."""
        values = [
            ("ticks/s", self.ticks_per_second, "{:.0f}"),
            ("success of last 20", self.success_last_20, "{:.0%}"),
            ("interventions", self.intervention_rate, "{:.0%}"),
            ("updates/s", self.updates_per_second, "{:.0f}"),
            ("policy version", self.policy_version, "{}"),
        ]
        shown = [(label, form.format(value)) for label, value, form in values if value is not None]
        if self.left_s is not None:
            shown.append(("time left", clock(self.left_s)))
        return shown

    def line(self) -> str:
        """All of it in one line of text."""
        parts = [f"{self.phase} {self.progress:.0%}", *([self.detail] if self.detail else [])]
        return ", ".join(parts + [f"{label} {value}" for label, value in self.fields()])

    def panel(self) -> Panel:
        """All of it for a terminal."""
        table = Table.grid(padding=(0, 2))
        for label, value in self.fields():
            table.add_row(Text(label, style="dim"), Text(value, style="bold"))
        head = Text.assemble((self.phase, "bold cyan"), ("  " + self.detail if self.detail else "", "default"))
        bar = ProgressBar(total=1.0, completed=min(max(self.progress, 0.0), 1.0), width=56)
        return Panel(Group(head, Padding(bar, (0, 0, 1, 0)), table), title="reach-grasp demo", width=64)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Display:
    """Use as a context manager; `show` as often as you like, `say` for what must stay readable."""

    def __init__(self, output: TextIO) -> None:
        self._console = Console(file=output, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if self._console.is_terminal else None
        self._shown: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Redraw; without a terminal a line whenever the phase changes and every ten seconds."""
        if self._live is not None:
            self._live.update(snapshot.panel())
            return
        now = time.monotonic()
        if snapshot.phase != self._shown[0] or now - self._shown[1] >= LINE_EVERY_S:
            self._shown = (snapshot.phase, now)
            self.say(snapshot.line())

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, soft_wrap=True)
