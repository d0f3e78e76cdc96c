# SPDX-License-Identifier: Apache-2.0
"""reach-grasp repair: make readable bags of those whose recording was cut off."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.errors import CommandError

if TYPE_CHECKING:
    from dataset_recorder.repair import Repaired


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

        empty = False
        for bag in options.bags:
            try:
                found = repair(bag.expanduser())
            except RecordingError as error:
                raise CommandError(str(error)) from error
            empty |= found.kept is not None and not found.messages
            print(f"{bag}: {_text(found)}")
        return 1 if empty else 0


def _text(found: Repaired) -> str:
    """Sentence for the user about what was done to a bag."""
    if not found.changed:
        return f"is whole; {found.messages} messages"
    if found.kept is None:
        return f"mended; {found.messages} messages"
    if not found.messages:
        return f"no message could be read; the {found.bytes_cut} bytes that cannot be read are kept in {found.kept}"
    cut = f"{found.bytes_cut} bytes that cannot be read are cut off, and the file's end as it was is kept in {found.kept.name}"
    return f"mended, {cut}; {found.messages} messages"
