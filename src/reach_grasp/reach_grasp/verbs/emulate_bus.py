# SPDX-License-Identifier: Apache-2.0
"""reach-grasp emulate-bus: six servos on a serial device, for whoever has no arm at hand."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from reach_grasp.errors import CommandError
from reach_grasp.values import number


class EmulateBus:
    """The verb."""

    name = "emulate-bus"
    text = "Emulate an arm's six servos on a serial device that drivers open like the real one; ends with Ctrl-C."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--port", type=Path, metavar="PATH", help="A link to make to the device; the device's own name changes each time."
        )
        parser.add_argument(
            "--faults",
            default="",
            metavar="LIST",
            help="What goes wrong, for example lost=0.05,corrupted=0.01,dead=4. lost, lost_requests, corrupted, truncated and "
            "delayed are probabilities of a packet; delay_s says how late; dead and hot are ids of servos (5+6); hot_c is the "
            "temperature of those; supply_v is the supply; echo=1 sends every byte back first; seed makes it repeatable.",
        )
        parser.add_argument(
            "--baud",
            type=number(int, 0, 10_000_000),
            default=1_000_000,
            help="Bits per second on the wire; 0: no delays at all.",
        )
        parser.add_argument(
            "--latency-ms",
            type=number(float, 0.0, 999.0),
            default=1.0,
            metavar="MS",
            help="What the USB adapter adds to an answer.",
        )

    def run(self, options: argparse.Namespace) -> int:
        """Print the device's name, answer until told to stop, then say what was done."""
        from hilserl_ros.realtime import take_precedence
        from so101_sim.bus.emulator import BusEmulator, EmulatorError, Line
        from so101_sim.bus.faults import FaultError, Faults, parse_faults

        try:
            faults = Faults(parse_faults(options.faults))
            line = Line(options.baud, options.latency_ms / 1000)
            port = options.port and options.port.expanduser().absolute()
            with BusEmulator(port=port, line=line, faults=faults) as emulator:
                take_precedence()  # a real servo waits for nobody
                print(emulator.device, flush=True)
                _wait()
                handled = emulator.handled
        except (EmulatorError, FaultError) as error:
            raise CommandError(str(error)) from error
        done = {kind: sum(count for (which, _), count in faults.done.items() if which == kind) for kind, _ in faults.done}
        print(f"{handled} packets; " + (", ".join(f"{count} {kind}" for kind, count in done.items()) or "no faults"))
        return 0


def _wait() -> None:
    stop = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stop.set())
    stop.wait()
