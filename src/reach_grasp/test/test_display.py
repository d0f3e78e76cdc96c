# SPDX-License-Identifier: Apache-2.0
"""What the terminal shows."""

from __future__ import annotations

import io

from rich.console import Console

from reach_grasp.running.display import Display, Snapshot

SNAPSHOT = Snapshot(
    phase="training",
    detail="step 120 of 6000",
    progress=0.02,
    ticks_per_second=21.4,
    success_last_20=0.85,
    intervention_rate=0.25,
    updates_per_second=43.0,
    policy_version=30,
    left_s=305.0,
)
VALUES = ["21", "85%", "25%", "43", "30", "5:05"]


def test_the_panel_has_a_row_for_everything():
    console = Console(file=io.StringIO(), width=80)
    console.print(SNAPSHOT.panel())
    rows = [line.strip("│ ") for line in console.file.getvalue().splitlines()]
    assert "training  step 120 of 6000" in rows
    labels = ["ticks/s", "success of last 20", "interventions", "updates/s", "policy version", "time left"]
    shown = [row for row in rows if any(row.startswith(label) for label in labels)]
    assert [row.split()[-1] for row in shown] == VALUES


def test_what_does_not_apply_is_not_shown():
    assert Snapshot("report").fields() == []
    assert Snapshot("report").line() == "report 0%"


def test_without_a_terminal_there_are_plain_lines_and_not_too_many():
    output = io.StringIO()
    with Display(output) as display:
        for _ in range(50):
            display.show(SNAPSHOT)
        display.show(Snapshot("evaluation"))
        display.say("done")
    lines = output.getvalue().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in output.getvalue()
    assert lines[0].startswith("training 2%, step 120 of 6000")
    assert all(value in lines[0] for value in VALUES)
    assert lines[1:] == ["evaluation 0%", "done"]
