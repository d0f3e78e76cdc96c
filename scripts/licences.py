# SPDX-License-Identifier: Apache-2.0
"""Writes docs/licences.md: the packages that set-up installs, with the licences that their metadata state."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_STATED = "not stated"
NOTES = {
    "av": "its wheels carry FFmpeg's libraries, with x264 and x265 under GPL-2.0-or-later",
    "opencv-python-headless": "its wheels carry FFmpeg's libraries under LGPL-2.1-or-later",
}
"""What the metadata of a package do not say."""
HEAD = """# Licences of what set-up installs

This project is under Apache-2.0 ([LICENSE](../LICENSE)). It contains nothing of others; `make` installs the packages below
from PyPI. The licence is the one that each package states in its own metadata, which nobody here has checked. Packages of
ROS 2 (`ros-*`) are left out: most of their wheels state none ([where ROS 2 comes from](ros.md#the-wheels)); upstream they are
under Apache-2.0 or BSD licences.
CUDA's libraries (`nvidia-*`) are NVIDIA's own; `UV_TORCH_BACKEND=cpu make setup` installs none of them.

Who passes on an image or an environment made of these passes on their licences too. Look at the LGPL and GPL ones first.
Made by `python scripts/licences.py`.
"""


def licence_of(package: Distribution) -> str:
    """The licence that a package states: an SPDX expression, else its classifiers, else the first line of its own words."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [text.split(" :: ")[-1] for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    named = [text for text in classifiers if text != "OSI Approved"]
    if named:
        return ", ".join(named)
    words = (metadata.get("License") or "").strip().splitlines()
    return words[0].strip() if words and words[0].strip() and words[0].strip() != "UNKNOWN" else NOT_STATED


def name_of(package: Distribution) -> str:
    """A package's name as the index normalises it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()


def page() -> str:
    """The page as Markdown, of the environment that runs this."""
    found = {name_of(package): licence_of(package) for package in distributions()}
    pinned = {line.split("==")[0] for file in ROOT.glob("constraints-*.txt") for line in file.read_text().splitlines()}
    mine = {name: found[name] for name in sorted(found.keys() & pinned) if not name.startswith("ros-")}
    counts = Counter(mine.values())
    lines = [HEAD, "## How often\n", "| licence | packages |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {count} |" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    lines += ["\n## Package by package\n", "| package | licence | beside it |", "| --- | --- | --- |"]
    lines += [f"| {name} | {_cell(licence)} | {NOTES.get(name, '')} |" for name, licence in mine.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/licences.py", description=__doc__)
    parser.add_argument("file", nargs="?", default=str(ROOT / "docs" / "licences.md"), help="where to write the page")
    Path(parser.parse_args().file).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
