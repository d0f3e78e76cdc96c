# SPDX-License-Identifier: Apache-2.0
"""reach-grasp train, robot, learner, eval, sim: start a system and stay until it ends."""

from __future__ import annotations

import argparse

from reach_grasp.systems import System, nodes_of


class StartSystem:
    """The verb of one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.name, self.text = system.name, system.text

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """One option per argument of the system, as `ros2 launch --show-args` lists them."""
        for argument in self.system.arguments:
            allowed = argument.choices or (("true", "false") if argument.kind is bool else None)
            metavar = None if allowed else argument.name.upper()
            text = f"{argument.text} Default: {argument.default or 'none'}."
            parser.add_argument(
                f"--{argument.name}", default=argument.default, choices=allowed, metavar=metavar, help=text.replace("%", "%%")
            )

    def run(self, options: argparse.Namespace) -> int:
        """Start the nodes and wait for the first to end for good, or for Ctrl-C."""
        from reach_grasp import process

        given = {argument.name: getattr(options, argument.name) for argument in self.system.arguments}
        return process.run(nodes_of(self.system.name, given))
