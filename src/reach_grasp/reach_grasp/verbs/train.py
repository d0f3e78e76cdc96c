# SPDX-License-Identifier: Apache-2.0
"""reach-grasp train: the whole training, until its steps are taken and learned from."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from reach_grasp.interrupt import heed, listen
from reach_grasp.systems import SYSTEMS, nodes_of
from reach_grasp.values import domain_of_environment
from reach_grasp.verbs.system import POLL_S, StartSystem


class Train(StartSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp train.launch.py`, which go on until they are stopped."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["train"])

    def run(self, options: argparse.Namespace) -> int:
        """Show what the nodes say; the exit code is that of a system that ended by itself, else 0."""
        from reach_grasp.process import background
        from reach_grasp.running.monitor import Monitor, all_learned

        given = self.given(options)
        nodes_of(self.system.name, given)
        listen(signal.SIGINT)
        domain = domain_of_environment()
        with (
            Monitor(domain, namespace=given["namespace"]) as monitor,
            background(self.system.name, given, None, {}) as process,
        ):
            while not (learned := all_learned(monitor.episode, monitor.learner)) and process.poll() is None:
                heed()
                time.sleep(POLL_S)
        if not learned:
            return process.returncode
        checkpoint = Path(given["run"]).expanduser() / "checkpoints" / "last"
        print(f"{monitor.episode.steps} steps are taken and learned from: {checkpoint}")
        print(f"next: reach-grasp eval --checkpoint {checkpoint}")
        return 0
