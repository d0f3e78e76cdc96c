# SPDX-License-Identifier: Apache-2.0
"""reach-grasp convert: bags to a LeRobot dataset."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from reach_grasp.errors import CommandError
from reach_grasp.values import number

_MODES = ("demonstration", "training", "evaluation")


class Convert:
    """The verb."""

    name = "convert"
    text = "Write the episodes of bags as a LeRobot dataset v3.0; an interrupted conversion goes on when it is repeated."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("bags", type=Path, nargs="+", metavar="BAG", help="rosbag2 folders, or folders that hold some.")
        add("--repo-id", required=True, metavar="OWNER/NAME", help="Name of the dataset, as on the Hub.")
        add("--root", type=Path, metavar="DIR", help="Folder of the dataset. Default: datasets/OWNER/NAME.")
        add(
            "--mapping",
            type=Path,
            metavar="YAML",
            help="For bags without steps, recorded by anyone: which topics become which features (docs/mapping.md).",
        )
        add(
            "--modes",
            nargs="+",
            choices=_MODES,
            metavar="MODE",
            help="Which episodes of steps to take: demonstration, training, evaluation. Default: the first two.",
        )
        add("--task", help="Sentence that names the task in the dataset. Default: what bag or mapping say.")
        add("--fps", type=number(int, 1, 1000), help="Rows per second of bags with steps. Default: what the bags say.")
        add("--robot-type", default="so101", help="Default: so101.")

    def run(self, options: argparse.Namespace) -> int:
        """Convert and print what came of it."""
        from dataset_recorder.convert.conversion import Options, Result, convert
        from dataset_recorder.convert.errors import ConversionError
        from dataset_recorder.convert.mapping import load_mapping
        from hilserl_core.step import Mode

        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", options.repo_id, re.ASCII):
            raise CommandError(f"--repo-id is {options.repo_id!r}, expected OWNER/NAME, such as me/grasp")
        root = (options.root or Path("datasets") / options.repo_id).expanduser()
        if options.mapping and (options.modes or options.fps):
            raise CommandError("--modes and --fps are for bags with steps; with --mapping the file says what to take")
        modes = tuple(Mode[mode.upper()] for mode in options.modes or _MODES[:2])
        start = time.monotonic()
        try:
            mapping = load_mapping(options.mapping.expanduser()) if options.mapping else None
            chosen = Options(root, options.repo_id, mapping, modes, options.fps, options.task, options.robot_type)
            with _Bar() as bar:
                result: Result = convert([path.expanduser() for path in options.bags], chosen, bar.progress)
        except ConversionError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", flush=True)
            return 130
        except OSError as error:
            raise CommandError(f"{error.filename or root}: {error.strerror}; finished episodes are kept") from error
        seconds = time.monotonic() - start
        print(f"{result.episodes} episodes, {result.frames} frames in {seconds:.1f} s: {result.root}")
        resumed = f"{result.resumed} episodes were there from an earlier run" if result.resumed else ""
        found = {
            "duplicate steps dropped": result.duplicates,
            "gaps in the sequence": result.gaps,
            "episodes without an end": result.unfinished,
            "ticks dropped": result.dropped,
            "messages left out that cannot be used": result.left_out,
        }
        for line in [resumed, ", ".join(f"{count} {text}" for text, count in found.items() if count)]:
            if line:
                print(line)
        print(f"report: {result.root / 'meta' / 'conversion.json'}")
        return 0


class _Bar:
    """The progress bar, on a terminal only. `progress` is what the conversion calls."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from dataset_recorder.convert.conversion import Progress as Calls

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("reading", total=None)
        self.progress = Calls(self._begin, self._read, self._frames)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _read(self, path: Path) -> None:
        self._bar.update(self._task, description=f"reading {path.name}")

    def _begin(self, total: int, done: int) -> None:
        self._bar.update(self._task, description="encoding", total=total, completed=done)

    def _frames(self, count: int) -> None:
        self._bar.advance(self._task, count)
