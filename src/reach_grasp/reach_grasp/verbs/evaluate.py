# SPDX-License-Identifier: Apache-2.0
"""reach-grasp eval: run the evaluation system to its end and say how it went."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.systems import SYSTEMS
from reach_grasp.verbs.system import StartSystem

if TYPE_CHECKING:
    from reach_grasp.running.monitor import Monitor


class Evaluate(StartSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp eval.launch.py`, which go on until they are stopped."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["eval"])

    def run(self, options: argparse.Namespace) -> int:
        """Evaluate, print the result and write it to evaluation.json in the run's folder."""
        from reach_grasp.report.numbers import evaluation_numbers
        from reach_grasp.report.page import percent
        from reach_grasp.running.display import Snapshot
        from reach_grasp.running.monitor import check_running
        from reach_grasp.running.rates import Rate, success_rate

        given, ticks = self.given(options), Rate()
        folder, count = Path(given["run"]), int(given["episodes"])
        log, episodes = folder / "evaluation.log", []

        def look(process: subprocess.Popen[bytes], monitor: Monitor) -> Snapshot | None:
            episodes.extend(monitor.finished())
            if len(episodes) >= count:
                return None
            check_running(process, monitor, log)
            steps = monitor.episode.steps if monitor.episode is not None else 0
            detail = f"{len(episodes)} of {count} episodes"
            return Snapshot("evaluation", detail, len(episodes) / count, ticks.add(steps), success_rate(episodes))

        self.follow(given, log, look)
        numbers = evaluation_numbers([episode.as_dict() for episode in episodes])
        result = {**numbers, "checkpoint": given["checkpoint"], "seed": int(given["seed"])}
        (folder / "evaluation.json").write_text(json.dumps(result | {"episode": [e.as_dict() for e in episodes]}, indent=1))
        interval = f"{percent(numbers['success_low'])} to {percent(numbers['success_high'])}"
        print(f"{numbers['successes']} of {count} = {percent(numbers['success_rate'])} (95 %: {interval})")
        return 0
