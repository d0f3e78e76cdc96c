# SPDX-License-Identifier: Apache-2.0
"""reach-grasp repair: make readable bags of those whose recording was cut off."""

from __future__ import annotations

import argparse
from pathlib import Path

from reach_grasp.errors import CommandError


class Repair:
    """The verb."""

    name = "repair"
    text = "Mend bags that a kill, a full disk or a power cut left, in place; whole ones stay as they are."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="Folders of bags.")

    def run(self, options: argparse.Namespace) -> int:
        """Mend each and say what it holds."""
        from dataset_recorder.errors import RecordingError
        from dataset_recorder.repair import repair

        for bag in options.bags:
            try:
                found = repair(bag.expanduser())
            except RecordingError as error:
                raise CommandError(str(error)) from error
            what = f"mended, {found.bytes_cut} bytes behind the last whole chunk cut off" if found.changed else "is whole"
            print(f"{bag}: {what}; {found.messages} messages")
        return 0
