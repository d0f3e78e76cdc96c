# SPDX-License-Identifier: Apache-2.0
"""An ament prefix with packages whose nodes are small scripts, so that process handling can be tested without ROS."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reach_grasp import leftover

sys.path.insert(0, str(Path(__file__).parent))  # tests import `lossy_link` by name


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    """Nodes that a command keeps to the end of its process: in the next tests they would be discovered too."""
    yield
    leftover.take_apart()


class FakePrefix:
    """Installs executables that run a piece of Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, package: str, executable: str, body: str) -> None:
        """`body` finds what it was called with in sys.argv."""
        marker = self.folder / "share" / "ament_index" / "resource_index" / "packages" / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        (self.folder / "share" / package).mkdir(parents=True, exist_ok=True)
        script = self.folder / "lib" / package / executable
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!{sys.executable} -IS\nimport os, signal, sys, time\n{body}\n")
        script.chmod(0o755)


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrefix:
    """A prefix in front of the real ones."""
    folder = tmp_path / "prefix"
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{folder}{os.pathsep}{os.environ.get('AMENT_PREFIX_PATH', '')}")
    return FakePrefix(folder)


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> bool:
    """Poll until the condition holds; False when it never did."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> Callable[..., bool]:
    """`wait_for(condition, timeout_s)`."""
    return wait_for
