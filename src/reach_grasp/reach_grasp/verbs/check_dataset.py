# SPDX-License-Identifier: Apache-2.0
"""reach-grasp check-dataset: what does not fit together in a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path


class CheckDataset:
    """The verb."""

    name = "check-dataset"
    text = "Check a LeRobot dataset v3.0: indices, times, counts, statistics, and that every row has its image."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("dataset", type=Path, help="Folder of the dataset.")

    def run(self, options: argparse.Namespace) -> int:
        """Print what is wrong, a sentence each; 1 when there is anything."""
        from dataset_recorder.check import check
        from reach_grasp.verbs.label import Images

        with Images("checking") as images:
            findings = check(options.dataset.expanduser(), images.done)
        print("\n".join(findings) or f"{options.dataset} is consistent")
        return 1 if findings else 0
