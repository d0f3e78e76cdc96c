# SPDX-License-Identifier: Apache-2.0
"""reach-grasp robot, learner, teleop, sim: start a system and stay until it ends. And what the others share."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.interrupt import listen
from reach_grasp.specs import Argument, System
from reach_grasp.systems import nodes_of
from reach_grasp.values import domain_of_environment

if TYPE_CHECKING:
    from reach_grasp.running.display import Snapshot
    from reach_grasp.running.monitor import Monitor

POLL_S = 0.25


class StartSystem:
    """The verb of one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.name, self.text = system.name, system.text

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """One option per argument of the system, as `ros2 launch --show-args` lists them."""
        for argument in self.system.arguments:
            allowed = argument.choices or (("true", "false") if argument.kind is bool else ())
            text = f"{argument.text} Default: {argument.default or 'none'}."
            parser.add_argument(
                argument.flag,
                type=partial(_as_written, argument),
                default=argument.default,
                metavar=f"{{{','.join(allowed)}}}" if allowed else argument.name.upper(),
                help=text.replace("%", "%%"),
            )

    def given(self, options: argparse.Namespace) -> dict[str, str]:
        """The arguments of the system as the user wrote them."""
        return {argument.name: getattr(options, argument.name) for argument in self.system.arguments}

    def run(self, options: argparse.Namespace) -> int:
        """Start the nodes and wait for the first to end for good, or for Ctrl-C."""
        from reach_grasp import process

        return process.run(nodes_of(self.system.name, self.given(options)))

    def follow(
        self,
        given: dict[str, str],
        log: Path,
        look: Callable[[subprocess.Popen[bytes], Monitor], Snapshot | None],
    ) -> Monitor:
        """Run the system beside this process, its output in `log`, and stop it when `look` has no more to show.

        look: called four times a second. Returns what listened to the system. Raises CommandError before anything is started.
        """
        from reach_grasp.process import background
        from reach_grasp.running.display import Display
        from reach_grasp.running.monitor import Monitor

        nodes_of(self.system.name, given)
        listen(signal.SIGINT)
        log.parent.mkdir(parents=True, exist_ok=True)
        domain = domain_of_environment()
        with (
            Display(sys.stdout) as display,
            Monitor(domain, namespace=given["namespace"]) as monitor,
            background(self.system.name, given, log, {}) as process,
        ):
            while (shown := look(process, monitor)) is not None:
                display.show(shown)
                time.sleep(POLL_S)
        return monitor


def _as_written(argument: Argument, text: str) -> str:
    """The text itself, once it is known to be allowed; `nodes_of` reads it again. Raises ValueRefused."""
    argument.read(text)
    return text
