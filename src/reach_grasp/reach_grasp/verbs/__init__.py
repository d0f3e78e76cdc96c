# SPDX-License-Identifier: Apache-2.0
"""The verbs of the command. Each has a name, a text, its arguments, and runs."""

from __future__ import annotations

import argparse
from typing import Protocol

from reach_grasp.systems import SYSTEMS
from reach_grasp.verbs.demo import Demo
from reach_grasp.verbs.evaluate import Evaluate
from reach_grasp.verbs.report import Report
from reach_grasp.verbs.system import StartSystem


class Verb(Protocol):
    """One thing the command can do."""

    name: str
    text: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; the exit code. Raises CommandError with a sentence for the user."""


_SYSTEMS = tuple(Evaluate() if name == "eval" else StartSystem(system) for name, system in SYSTEMS.items())
VERBS: tuple[Verb, ...] = (*_SYSTEMS, Demo(), Report())
