# SPDX-License-Identifier: Apache-2.0
"""reach-grasp watch: what runs in this ROS domain, live, in Foxglove or Lichtblick."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
from pathlib import Path

from reach_grasp.values import namespace, number

_SPIN_S = 0.2  # how long Ctrl-C may wait


class Watch:
    """The verb."""

    name = "watch"
    text = "Show all topics of this ROS domain live in Foxglove or Lichtblick, to look at only; ends with Ctrl-C."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--host",
            default="127.0.0.1",
            metavar="ADDRESS",
            help="Address to listen at. Default: 127.0.0.1, this computer alone. At any other, all is shown to "
            "whoever reaches it, cameras too: there is no password.",
        )
        parser.add_argument(
            "--port", type=number(int, 0, 65535), default=8765, help="Port to listen at. Default: 8765; 0: a free one."
        )
        parser.add_argument(
            "--namespace",
            type=namespace,
            default="",
            help="Show the topics of this namespace alone, by their names in it: so the layout fits one of several arms.",
        )

    def run(self, options: argparse.Namespace) -> int:
        """Serve until told to stop."""
        from ament_index_python.packages import get_package_share_directory

        from reach_grasp.graph_server import GraphServer
        from reach_grasp.values import domain_of_environment
        from reach_grasp.visitor import Visitor

        layout = Path(get_package_share_directory("reach_grasp")) / "config" / "watch.json"
        stop = threading.Event()
        with (
            Visitor("watch", options.namespace, math.inf) as visitor,
            GraphServer(visitor.node, options.host, options.port, _say) as server,
        ):
            for kind in (signal.SIGINT, signal.SIGTERM):
                signal.signal(kind, lambda *_: stop.set())
            print(f"{server.address} shows ROS domain {domain_of_environment()}; Ctrl-C ends it")
            print(f"Foxglove, Lichtblick: open it as a Foxglove WebSocket, and import the layout {layout}", flush=True)
            visitor.until(stop.is_set, _SPIN_S)
            visitor.leave_open()  # what it showed may be ending too: see leftover.py
        return 0


def _say(text: str) -> None:
    print(f"reach-grasp: {text}", file=sys.stderr, flush=True)
