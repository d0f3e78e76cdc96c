# SPDX-License-Identifier: Apache-2.0
"""reach-grasp demo: a simulated arm learns to grasp, from the first demonstration to the report."""

from __future__ import annotations

import argparse
import random
import shlex
import signal
import sys
from pathlib import Path

from reach_grasp.demo.settings import DRIVERS, LIMITS, REWARDS, DemoSettings
from reach_grasp.errors import CommandError
from reach_grasp.interrupt import listen
from reach_grasp.task_files import user_files
from reach_grasp.values import domain_of_environment, folder_to_write, number

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
        limited = {name: number(float if name == "minutes" else int, *limits) for name, limits in LIMITS.items()}
        add(
            "--seed",
            type=limited["seed"],
            default=0,
            help="Determines worlds, person, networks and noise. Default: 0.",
        )
        add(
            "--minutes",
            type=limited["minutes"],
            default=10.0,
            help="Minutes of robot time to train for, at 600 steps each. Default: 10.",
        )
        add(
            "--demonstrations",
            type=limited["demonstrations"],
            default=20,
            help="Demonstrations before training. Default: 20.",
        )
        add(
            "--eval-episodes",
            type=limited["eval_episodes"],
            default=100,
            help="Fresh episodes each policy is judged on. Default: 100.",
        )
        add(
            "--reward",
            default="classifier",
            choices=REWARDS,
            help="Who says in training what success is: the classifier trained before, or the simulator. Default: classifier.",
        )
        add(
            "--driver",
            default="none",
            choices=DRIVERS,
            help="bus: the real arm's driver moves the simulated arm, through an emulated servo bus. Default: none.",
        )
        add("--config", default="", help="A ROS parameter file whose values count above the installed ones.")
        add("--output", type=folder_to_write, default=Path("outputs/demo"), help="Folder of the run. Default: outputs/demo.")
        add(
            "--real-time-factor",
            type=number(float, 0.0, 100.0),
            default=0.0,
            help="Pace of the simulation in training: 1 is real time, 0 is as fast as the machine goes. Default: 0.",
        )
        add_run_options(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Run it, or what is left of it."""
        from reach_grasp.demo.runner import run_demo
        from reach_grasp.running.display import Display
        from reach_grasp.running.folder import open_folder

        config = ":".join(map(str, user_files(options.config)))
        numbers = (options.seed, options.minutes, options.demonstrations, options.eval_episodes)
        settings = DemoSettings(*numbers, config, options.reward, options.driver)
        domain = options.domain or own_domain()
        listen(signal.SIGINT, signal.SIGTERM)
        with open_folder(options.output, settings, options.resume, options.fresh) as folder:
            print(f"reach-grasp demo in {folder.path}, seed {settings.seed}{', resumed' if folder.resumed else ''}", flush=True)
            try:
                with Display(sys.stdout) as display:
                    page = run_demo(folder, display, domain, options.real_time_factor)
            except KeyboardInterrupt:
                done = ", ".join(folder.state.get("done", [])) or "no stage yet"
                print(f"stopped: all so far is kept in {folder.path} (done: {done})", flush=True)
                print(f"go on with: {shlex.join(['reach-grasp', *sys.argv[1:]])}", flush=True)
                raise
        from reach_grasp.report.page import summary

        print(summary(page.with_name("report.json")))
        print(f"report: {page}")
        return 0


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of a run in stages: what becomes of an earlier one in its folder, and its ROS domain."""
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="Refuse to begin anew. An unfinished run of the same settings goes on anyway, any other is moved aside.",
    )
    again.add_argument("--fresh", action="store_true", help="Delete the run in the folder and begin anew.")
    parser.add_argument(
        "--domain",
        type=number(int, DOMAINS[0], DOMAINS[-1]),
        help="First of three ROS domains to use. Default: ROS_DOMAIN_ID, else a random one.",
    )


def own_domain() -> int:
    """The environment's domain, and a random one where it names none or 0, which everybody uses."""
    domain = domain_of_environment() or random.choice(DOMAINS)
    if domain not in DOMAINS:
        raise CommandError(f"ROS_DOMAIN_ID is {domain}, needed is {DOMAINS[0]} to {DOMAINS[-1]}; or use --domain")
    return domain
