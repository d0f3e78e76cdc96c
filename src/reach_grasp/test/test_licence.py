# SPDX-License-Identifier: Apache-2.0
"""make lint says which file does not name its licence."""

from __future__ import annotations

import subprocess
from pathlib import Path

CHECK = Path(__file__).resolve().parents[3] / "scripts" / "check-licence"
LINE = "# SPDX-License-Identifier: Apache-2.0\n"


def test_files_without_the_licence_are_named(tmp_path):
    def check() -> tuple[int, str]:
        done = subprocess.run([CHECK], cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout

    for name in ("config", "scripts", "src/one/one", "src/one/test/data"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("Makefile", "config/task.yaml", "src/one/one/code.py"):
        (tmp_path / name).write_text(f"{LINE}x\n")
    (tmp_path / "scripts/tool").write_text(f"#!/bin/sh\n{LINE}")
    (tmp_path / "src/one/test/data/metadata.yaml").write_text("recorded: 1\n")
    (tmp_path / "README.md").write_text("Words.\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    assert check() == (0, "")
    for name in ("config/task.yaml", "scripts/tool", "src/one/one/code.py"):
        (tmp_path / name).write_text(f'"""Only mentions {LINE.strip()}"""\n')
    assert check() == (1, f"config/task.yaml, scripts/tool, src/one/one/code.py: lacks the line {LINE}")
