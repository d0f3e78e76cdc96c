# SPDX-License-Identifier: Apache-2.0
"""The reach-grasp command: one verb per file in reach_grasp.verbs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from reach_grasp.errors import CommandError
from reach_grasp.verbs import VERBS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="reach-grasp",
        description="Teaches an SO-101 arm to grasp from a camera: demonstrations, training with interventions, evaluation.",
        epilog="Arguments may also be written as in ros2 launch: reach-grasp train seed:=7",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        child = verbs.add_parser(verb.name, help=verb.text, description=verb.text)
        verb.add_arguments(child)
        child.set_defaults(verb_run=verb.run)
    options = parser.parse_args([_as_option(word) for word in words])
    try:
        return options.verb_run(options)
    except CommandError as error:
        sys.stderr.write(f"reach-grasp: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _as_option(word: str) -> str:
    """`name:=value` as `--name=value`."""
    name, sign, value = word.partition(":=")
    return f"--{name}={value}" if sign and name.isidentifier() else word


if __name__ == "__main__":
    sys.exit(main())
