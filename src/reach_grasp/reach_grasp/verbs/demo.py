# SPDX-License-Identifier: Apache-2.0
"""reach-grasp demo: a simulated arm learns to grasp, from the first demonstration to the report."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from pathlib import Path

from reach_grasp.errors import CommandError
from reach_grasp.interrupt import listen

# Domains up to 101 leave room for the ports of a hundred processes each on every system.
DOMAINS = range(1, 99)


class Demo:
    """The verb."""

    name = "demo"
    text = (
        "Demonstrations, dataset, reward classifier, training with interventions, evaluation and report, unattended; 7 "
        "to 12 minutes on 2 cores."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("--seed", type=int, default=0, help="Determines worlds, person, networks and noise. Default: 0.")
        add("--minutes", type=float, default=10.0, help="Minutes of robot time to train for, at 600 steps each. Default: 10.")
        add("--demonstrations", type=int, default=20, help="Demonstrations before training. Default: 20.")
        add("--eval-episodes", type=int, default=100, help="Fresh episodes each policy is judged on. Default: 100.")
        add(
            "--reward",
            default="classifier",
            choices=("classifier", "simulation"),
            help="Who says in training what success is: the classifier trained before, or the simulator. Default: classifier.",
        )
        add(
            "--driver",
            default="none",
            choices=("none", "bus"),
            help="bus: the real arm's driver moves the simulated arm, through an emulated servo bus. Default: none.",
        )
        add("--config", default="", help="A ROS parameter file whose values count above the installed ones.")
        add("--output", type=Path, default=Path("outputs/demo"), help="Folder of the run. Default: outputs/demo.")
        again = parser.add_mutually_exclusive_group()
        again.add_argument(
            "--resume",
            action="store_true",
            help="Refuse to begin anew. An unfinished run of the same settings goes on anyway, any other is moved aside.",
        )
        again.add_argument("--fresh", action="store_true", help="Delete the run in the folder and begin anew.")
        add(
            "--real-time-factor",
            type=float,
            default=0.0,
            help="Pace of the simulation in training: 1 is real time, 0 is as fast as the machine goes. Default: 0.",
        )
        add("--domain", type=int, help="First of three ROS domains to use. Default: ROS_DOMAIN_ID, else a random one.")

    def run(self, options: argparse.Namespace) -> int:
        """Run it, or what is left of it."""
        from reach_grasp.demo.display import Display
        from reach_grasp.demo.folder import open_folder
        from reach_grasp.demo.runner import run_demo
        from reach_grasp.demo.settings import DemoSettings

        config = str(Path(options.config).expanduser().resolve()) if options.config else ""
        numbers = (options.seed, options.minutes, options.demonstrations, options.eval_episodes)
        settings = DemoSettings(*numbers, config, options.reward, options.driver)
        domain = _domain(options.domain)
        listen(signal.SIGINT, signal.SIGTERM)
        with open_folder(options.output, settings, options.resume, options.fresh) as folder:
            print(f"reach-grasp demo in {folder.path}, seed {settings.seed}{', resumed' if folder.resumed else ''}", flush=True)
            try:
                with Display(sys.stdout) as display:
                    page = run_demo(folder, display, domain, options.real_time_factor)
            except KeyboardInterrupt:
                print("stopped; the same command goes on from here", flush=True)
                return 130
        from reach_grasp.report.page import summary

        print(summary(page.with_name("report.json")))
        print(f"report: {page}")
        return 0


def _domain(asked: int | None) -> int:
    if asked is None:
        asked = int(os.environ.get("ROS_DOMAIN_ID", "0") or 0) or random.choice(DOMAINS)
    if asked not in DOMAINS:
        raise CommandError(f"--domain is {asked}, allowed is {DOMAINS[0]} to {DOMAINS[-1]}")
    return asked
