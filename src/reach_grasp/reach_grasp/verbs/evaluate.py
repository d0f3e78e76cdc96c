# SPDX-License-Identifier: Apache-2.0
"""reach-grasp eval: run the evaluation system to its end and say how it went."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from reach_grasp.systems import SYSTEMS, nodes_of
from reach_grasp.verbs.system import StartSystem


class Evaluate(StartSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp eval.launch.py`, which go on until they are stopped."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["eval"])

    def run(self, options: argparse.Namespace) -> int:
        """Evaluate, print the result and write it to evaluation.json in the run's folder."""
        from reach_grasp.demo.display import Display, Snapshot
        from reach_grasp.demo.monitor import Monitor, check_running
        from reach_grasp.demo.progress import Rate, success_rate
        from reach_grasp.process import background
        from reach_grasp.report.numbers import evaluation_numbers
        from reach_grasp.report.page import percent

        given = {argument.name: getattr(options, argument.name) for argument in self.system.arguments}
        nodes_of(self.system.name, given)  # raises before anything is started
        folder, count, ticks = Path(given["run"]), int(given["episodes"]), Rate()
        folder.mkdir(parents=True, exist_ok=True)
        log, episodes = folder / "evaluation.log", []
        domain = int(os.environ.get("ROS_DOMAIN_ID", "0") or 0)
        with (
            Display(sys.stdout) as display,
            Monitor(domain, namespace=given["namespace"]) as monitor,
            background("eval", given, log, {}) as process,
        ):
            while len(episodes) < count:
                check_running(process, monitor, log)
                episodes += monitor.finished()
                steps = monitor.episode.steps if monitor.episode is not None else 0
                detail = f"{len(episodes)} of {count} episodes"
                rate = success_rate(episodes)
                display.show(Snapshot("evaluation", detail, len(episodes) / count, ticks.add(steps), rate))
                time.sleep(0.25)
        numbers = evaluation_numbers([episode.as_dict() for episode in episodes])
        result = {**numbers, "checkpoint": given["checkpoint"], "seed": int(given["seed"])}
        (folder / "evaluation.json").write_text(json.dumps(result | {"episode": [e.as_dict() for e in episodes]}, indent=1))
        interval = f"{percent(numbers['success_low'])} to {percent(numbers['success_high'])}"
        print(f"{numbers['successes']} of {count} = {percent(numbers['success_rate'])} (95 %: {interval})")
        return 0
