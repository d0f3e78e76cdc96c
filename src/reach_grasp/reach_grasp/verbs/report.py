# SPDX-License-Identifier: Apache-2.0
"""reach-grasp report: write the report of a finished demo again."""

from __future__ import annotations

import argparse
from pathlib import Path


class Report:
    """The verb."""

    name = "report"
    text = "Write report.json and report.html of a demo's folder again, from what the run left there."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("folder", type=Path, nargs="?", default=Path("outputs/demo"), help="Default: outputs/demo.")

    def run(self, options: argparse.Namespace) -> int:
        """Write it and print its numbers."""
        from reach_grasp.report.page import summary, write_report

        page = write_report(options.folder.expanduser().resolve())
        print(summary(page.with_name("report.json")))
        print(f"report: {page}")
        return 0
