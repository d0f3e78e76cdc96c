# SPDX-License-Identifier: Apache-2.0
"""What has listened to a system is not taken apart: in Fast DDS that may take for ever."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from hilserl_ros.testing import Rig
from reach_grasp.running.monitor import Monitor

PROGRAM = """
import atexit
from reach_grasp import leftover

class Node:
    def close(self):
        print("closed")

    def __del__(self):
        print("taken apart")

node = Node()
if {kept}:
    leftover.keep(node.close)
atexit.register(print, "the end of Python")
print("result")
leftover.end(3)
"""


@pytest.mark.parametrize("kept", [False, True])
def test_a_process_that_kept_something_ends_at_once_with_its_exit_code(kept):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(kept=kept)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines() == ["result", *([] if kept else ["the end of Python", "taken apart"])]


def test_a_monitor_leaves_its_node_to_the_end_of_the_process():
    rig = Rig(8)
    try:
        with Monitor(rig.domain) as monitor:
            rig.until(lambda: f"monitor_{rig.domain}" in rig.node.get_node_names(), "the monitor")
        del monitor
        end = time.monotonic() + 2.0
        rig.until(lambda: time.monotonic() > end, "two seconds")
        assert f"monitor_{rig.domain}" in rig.node.get_node_names()
    finally:
        rig.close()
