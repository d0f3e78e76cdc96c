# SPDX-License-Identifier: Apache-2.0
"""The newest problem of every node, from what nodes log and from their diagnostics."""

from __future__ import annotations

from dataclasses import dataclass

LOGGED_S = 45.0  # a logged problem that is not logged again is forgotten after this long
SILENT_S = 6.0  # diagnostics come every second; those of a node that ended are forgotten after this long


@dataclass(frozen=True)
class Problem:
    """A problem of a node in one sentence. severe: an error, else a warning. age_s: time since it began, or was logged."""

    node: str
    text: str
    severe: bool
    age_s: float


@dataclass
class _Known:
    text: str
    severe: bool
    since_s: float
    heard_s: float


class Problems:
    """Feed it with every warning and every diagnostic status. Times are those of one steady clock, in seconds."""

    def __init__(self) -> None:
        self._logged: dict[str, _Known] = {}
        self._diagnosed: dict[tuple[str, str], _Known] = {}

    def log(self, node: str, text: str, severe: bool, now_s: float) -> None:
        """Keep what a node logged as a warning or as an error; the newest replaces what it logged before."""
        self._logged[node] = _Known(_line(text), severe, now_s, now_s)

    def diagnose(self, name: str, text: str, severe: bool | None, now_s: float) -> None:
        """Keep a diagnostic status, named `node: part`. severe: None for one that is well, which ends its problem."""
        node, _, part = name.partition(": ")
        known = self._diagnosed.pop((node, part), None)
        if severe is None:
            return
        text = _line(f"{part}: {text}" if part else text)
        since_s = known.since_s if known is not None and known.text == text else now_s
        self._diagnosed[node, part] = _Known(text, severe, since_s, now_s)

    def current(self, now_s: float) -> list[Problem]:
        """Problems to show, errors first: of each node its newest error, else its newest warning."""
        self._logged = {node: known for node, known in self._logged.items() if now_s - known.heard_s <= LOGGED_S}
        self._diagnosed = {key: known for key, known in self._diagnosed.items() if now_s - known.heard_s <= SILENT_S}
        found: dict[str, _Known] = {}
        for node, known in [*self._logged.items(), *((node, known) for (node, _), known in self._diagnosed.items())]:
            other = found.get(node)
            if other is None or (known.severe, known.since_s) > (other.severe, other.since_s):
                found[node] = known
        problems = [Problem(node, known.text, known.severe, now_s - known.since_s) for node, known in found.items()]
        return sorted(problems, key=lambda problem: (not problem.severe, problem.age_s))


def _line(text: str) -> str:
    return " ".join(text.split())
