# SPDX-License-Identifier: Apache-2.0
"""reach-grasp release: free an arm that holds itself stiff though no program moves it."""

from __future__ import annotations

import argparse

from reach_grasp.errors import CommandError


class Release:
    """The verb."""

    name = "release"
    text = "Switch the torque of all six servos off, for an arm that was left stiff. It sinks: hold it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--port", required=True, help="The arm's serial port, such as /dev/ttyACM0.")
        parser.add_argument("--yes", action="store_true", help="Do not ask whether somebody holds the arm.")

    def run(self, options: argparse.Namespace) -> int:
        """Tell every servo, and say which did not confirm; 1 when there is one."""
        from reach_grasp.terminal import confirm
        from so101_driver.bus import Bus
        from so101_driver.errors import DriverError
        from so101_driver.motors import let_go

        try:
            with Bus(options.port) as bus, bus.patiently():
                if not confirm(f"The arm on {options.port} is let go now and sinks. Do you hold it?", options.yes):
                    print("nothing was changed")
                    return 1
                silent = let_go(bus)
        except DriverError as error:
            raise CommandError(str(error)) from error
        free = ", ".join(str(servo) for servo in bus.ids if servo not in silent)
        if free:
            print(f"servo {free} confirmed: no torque")
        for servo in silent:
            print(f"servo {servo} did not confirm: check its cable; without the arm's supply it is free in any case")
        return 1 if silent else 0
