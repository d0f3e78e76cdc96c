# SPDX-License-Identifier: Apache-2.0
"""The reach-grasp command: one verb per file in reach_grasp.verbs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from reach_grasp import leftover
from reach_grasp.errors import CommandError
from reach_grasp.interrupt import exit_code
from reach_grasp.options import Parser, normalized
from reach_grasp.verbs import VERBS

_CLOSED_PIPE = 141  # what a shell reports of a program that SIGPIPE ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except CommandError as error:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"reach-grasp: {error}\n")
        return 2
    except KeyboardInterrupt:
        return exit_code()
    except BrokenPipeError:
        # Python flushes standard output once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE


def _run(written: list[str]) -> int:
    words, typed = normalized(written)
    parser = Parser(
        prog="reach-grasp",
        description="Teaches an SO-101 arm to grasp from a camera: demonstrations, training with interventions, evaluation.",
        epilog="Arguments may also be written as in ros2 launch: reach-grasp train seed:=7",
        typed=typed,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    children = {}
    for verb in VERBS:
        child = verbs.add_parser(verb.name, help=verb.text, description=verb.text, typed=typed)
        verb.add_arguments(child)
        child.set_defaults(verb_run=verb.run)
        children[verb.name] = child
    options, rest = parser.parse_known_args(words)
    if rest:
        children[options.verb].refuse(rest)
    return options.verb_run(options)


def end() -> NoReturn:
    """Run the command as a process of its own."""
    leftover.end(main())


if __name__ == "__main__":
    end()
