# SPDX-License-Identifier: Apache-2.0
"""reach-grasp rehearse: the whole road of a station on its twin, in real time, from the doctor to the report."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

from reach_grasp.interrupt import listen
from reach_grasp.rehearsal.settings import LIMITS, RehearsalSettings
from reach_grasp.task_files import user_files
from reach_grasp.values import folder_to_write, number
from reach_grasp.verbs.demo import add_run_options, own_domain

_TEXTS = {
    "seed": "Determines the twin, the hand, networks and noise; default: %(default)s.",
    "minutes": "Minutes of robot time to train for, at 600 steps each; default: %(default)s.",
    "demonstrations": "Demonstrations by the hand; default: %(default)s.",
    "eval_episodes": "Fresh episodes the trained policy is judged on; default: %(default)s.",
    "imitation_episodes": "Fresh episodes the policy is judged on that only imitates; default: %(default)s.",
}


class Rehearse:
    """The verb."""

    name = "rehearse"
    text = (
        "The whole road of a station on its twin, in real time and unattended: doctor, calibration, demonstrations by a "
        "scripted hand, dataset, reward classifier, training, evaluation and report; about an hour on 2 cores."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        defaults = RehearsalSettings()
        for name, text in _TEXTS.items():
            default = getattr(defaults, name)
            kind = number(type(default), *LIMITS[name])
            parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=text)
        parser.add_argument("--config", default="", help="A ROS parameter file that counts above the twin's station.yaml.")
        folder = Path("outputs/rehearsal")
        parser.add_argument("--output", type=folder_to_write, default=folder, help=f"Folder of the run; default: {folder}.")
        add_run_options(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Run it, or what is left of it."""
        from reach_grasp.rehearsal.runner import Rehearsal
        from reach_grasp.report.page import summary
        from reach_grasp.running.folder import open_folder

        config = ":".join(map(str, user_files(options.config)))
        values = {name: getattr(options, name) for name in _TEXTS}
        settings, domain = RehearsalSettings(**values, config=config), options.domain or own_domain()
        listen(signal.SIGINT, signal.SIGTERM)
        with open_folder(options.output, settings, options.resume, options.fresh) as folder:
            again = ", resumed" if folder.resumed else ""
            print(f"reach-grasp rehearse in {folder.path}, seed {settings.seed}{again}", flush=True)
            try:
                page = Rehearsal(folder, domain, lambda text: print(text, flush=True)).run()
            except KeyboardInterrupt:
                done = ", ".join(folder.state.get("done", [])) or "no stages"
                print(f"stopped: done and kept in {folder.path}: {done}", flush=True)
                print(f"go on with: {shlex.join(['reach-grasp', *sys.argv[1:]])}", flush=True)
                raise
        print(summary(page.with_name("report.json")))
        print(f"report: {page}")
        return 0
