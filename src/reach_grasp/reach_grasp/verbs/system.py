# SPDX-License-Identifier: Apache-2.0
"""reach-grasp learner, sim: start a system and stay until it ends. And what the others share: a system on the display."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.errors import CommandError
from reach_grasp.interrupt import listen
from reach_grasp.specs import Argument, System
from reach_grasp.systems import nodes_of
from reach_grasp.values import domain_of_environment, reason

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
        from reach_grasp.running.alone import check_alone

        specs = nodes_of(self.system.name, self.given(options))
        check_alone(specs)
        return process.run(specs)


class ShowSystem(StartSystem):
    """The verb of a system that is shown on the display while its nodes write into a log."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options of the system, and --verbose."""
        super().add_arguments(parser)
        parser.add_argument("--verbose", action="store_true", help="Print what the nodes write, not the display.")

    def ticks(self, given: dict[str, str]) -> int:
        """Ticks of the longest episode, as the parameter files of the system say. Raises CommandError for bad arguments."""
        from reach_grasp.task_files import task_of

        return task_of(nodes_of(self.system.name, given)[0].parameter_files).max_ticks

    def follow(
        self,
        options: argparse.Namespace,
        given: dict[str, str],
        log: Path,
        look: Callable[[subprocess.Popen[bytes], Monitor], Snapshot | None],
        kept: Callable[[Monitor], str] = lambda monitor: "stopped",
    ) -> Monitor:
        """Run the system beside this process, its output in `log`, and stop it when `look` has no more to show.

        look: called four times a second. kept: what is left after Ctrl-C, in a sentence. Returns what listened to the system.
        Raises CommandError before anything is started, and when the system ends by itself; KeyboardInterrupt after Ctrl-C.
        """
        from reach_grasp.process import background
        from reach_grasp.running.alone import check_alone
        from reach_grasp.running.display import Display
        from reach_grasp.running.monitor import Monitor

        specs = nodes_of(self.system.name, given)
        domain = domain_of_environment()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.open("ab").close()
        except OSError as error:
            raise CommandError(f"{error.filename or log} cannot be written: {reason(error)}; name another folder") from None
        listen(signal.SIGINT, signal.SIGTERM)
        check_alone(specs)
        with Monitor(domain, namespace=given["namespace"]) as monitor:
            try:
                with (
                    background(self.system.name, given, None if options.verbose else log, {}) as process,
                    Display(sys.stdout, plain=options.verbose) as display,
                ):
                    try:
                        while (shown := look(process, monitor)) is not None:
                            if not options.verbose:
                                display.show(shown)
                            time.sleep(POLL_S)
                    except KeyboardInterrupt:
                        display.say("stopping: the nodes write what they hold")
                        raise
            except KeyboardInterrupt:
                print(f"stopped: {kept(monitor)}", flush=True)
                print(f"go on with: {shlex.join(['reach-grasp', *sys.argv[1:]])}", flush=True)
                raise
        return monitor


def _as_written(argument: Argument, text: str) -> str:
    """The text itself, once it is known to be allowed; `nodes_of` reads it again. Raises ValueRefused."""
    argument.read(text)
    return text
