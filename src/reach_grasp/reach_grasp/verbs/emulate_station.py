# SPDX-License-Identifier: Apache-2.0
"""reach-grasp emulate-station: a whole station without hardware, in real time, for whoever has none at hand."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.errors import CommandError
from reach_grasp.values import SEEDS, folder_to_write, number

if TYPE_CHECKING:
    from so101_sim.station.twin import Twin

_KEEP_S = 0.2  # how often it is saved; a real servo writes its EEPROM at once
_REPORT_S = 2.0


class EmulateStation:
    """The verb."""

    name = "emulate-station"
    text = (
        "Emulate a station in real time: follower and leader on serial devices, two camera streams, keys, one simulated table; "
        "ends with Ctrl-C."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add(
            "--folder",
            type=folder_to_write,
            required=True,
            metavar="DIR",
            help="Folder for the twin's devices, station.yaml and twin.json.",
        )
        add(
            "--seed",
            type=number(int, *SEEDS),
            default=0,
            help="Seed of the table's looks, the light, the things on it and the mounting of the servos.",
        )
        add(
            "--port",
            type=number(int, 0, 65535),
            default=0,
            metavar="PORT",
            help="Port of the camera streams on 127.0.0.1. Default: a free one.",
        )
        add("--follower-id", default="my_arm", metavar="NAME", help="Name of the follower's calibration in station.yaml.")
        add("--leader-id", default="my_leader", metavar="NAME", help="Name of the leader's calibration in station.yaml.")
        add(
            "--hand",
            choices=("none", "scripted"),
            default="none",
            help="scripted: a person who puts the cube back, shows the task with the leader, helps and judges with keys.",
        )
        add("--hand-config", type=Path, metavar="FILE", help="ROS parameter file of the nodes hand and twin: person.*, hand.*.")
        add("--truth", action="store_true", help="Publish the true state of its world on twin/truth, for measurements.")
        add(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="A setting of the twin, such as servo.backlash_rad=0; docs/twin.md lists them. May be given again.",
        )

    def run(self, options: argparse.Namespace) -> int:
        """Serve until told to stop, then print how well time was kept."""
        from hilserl_ros.realtime import take_precedence
        from so101_sim.station.cameras import Cameras
        from so101_sim.station.channel import HandChannel
        from so101_sim.station.files import write_station
        from so101_sim.station.keys import make_keys
        from so101_sim.station.settings import parse_settings
        from so101_sim.station.twin import Twin

        try:
            settings = parse_settings(options.set, options.seed)
            folder = options.folder.expanduser().absolute()
            folder.mkdir(parents=True, exist_ok=True)
            twin = Twin(folder, settings)
            with (
                _alone(folder),
                Cameras(settings, twin.task, twin.state, options.port) as cameras,
                twin,
                closing(make_keys(folder / "keys")) as keys,
                closing(HandChannel(folder / "hand", twin, keys)),
            ):
                addresses = {name: cameras.address(name) for name in settings.cameras()}
                names = options.follower_id, options.leader_id
                devices = write_station(folder, addresses, settings, names)
                with _nodes(options, folder, twin.state.path):
                    take_precedence()  # a real servo waits for nobody
                    print("\n".join(f"{real} -> {ours}" for real, ours in devices.items()), flush=True)
                    figures = _watch(twin, folder, _stop_signal())
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        print(figures)
        return 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no other twin takes its names. Raises CommandError when another twin runs there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CommandError(f"another twin runs in {folder}; end it or choose another --folder") from error
    finally:
        os.close(descriptor)


@contextmanager
def _nodes(options: argparse.Namespace, folder: Path, state: str) -> Iterator[None]:
    """Run the nodes that were asked for; they write into `nodes.log`. A guard restarts a node that ends."""
    from reach_grasp.process import guarded
    from reach_grasp.specs import NodeSpec

    files = (options.hand_config.expanduser().absolute(),) if options.hand_config else ()
    specs = []
    if options.truth or options.hand == "scripted":
        values = {"state": state, "seed": options.seed}
        specs.append(NodeSpec("so101_sim", "twin_node", "twin", parameters=values, parameter_files=files, respawn=True))
    if options.hand == "scripted":
        values = {"hands": str(folder / "hand"), "seed": options.seed}
        specs.append(NodeSpec("so101_sim", "hand_node", "hand", parameters=values, parameter_files=files, respawn=True))
    processes: list[subprocess.Popen] = []
    own = folder / "nodes"  # for their parameters, beside which a user's hand.yaml must not lie
    own.mkdir(exist_ok=True)
    try:
        with (folder / "nodes.log").open("wb") as log:
            for spec in specs:
                command = guarded(spec, os.getpid(), own)
                streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                processes.append(subprocess.Popen(command, **streams, start_new_session=True))
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _stop_signal() -> threading.Event:
    stop = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stop.set())
    return stop


def _watch(twin: Twin, folder: Path, stop: threading.Event) -> str:
    """Save the servos' memory at once and `twin.json` now and then, until told to stop. Returns the last figures in words."""
    from so101_sim.station.files import REPORT, write_file
    from so101_sim.station.report import report, sentence
    from so101_sim.station.settings import StationError

    said, due_s = "", 0.0
    while True:
        ended, now_s = stop.wait(_KEEP_S), time.monotonic()
        try:
            twin.keep()
            if ended or now_s >= due_s:
                due_s = now_s + _REPORT_S
                write_file(folder / REPORT, json.dumps(report(twin, twin.settings, now_s), indent=2) + "\n")
        except StationError as error:  # the arms keep running
            if str(error) != said:
                said = str(error)
                sys.stderr.write(f"reach-grasp: {said}\n")
        if ended:
            return sentence(report(twin, twin.settings, now_s))
