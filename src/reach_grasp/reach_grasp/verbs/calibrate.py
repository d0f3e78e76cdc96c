# SPDX-License-Identifier: Apache-2.0
"""reach-grasp calibrate: a follower or leader arm, moved by hand, as LeRobot calibrates it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.errors import CommandError

if TYPE_CHECKING:
    from so101_driver.bus import Bus
    from so101_driver.calibration import Calibration

_NOTICEABLE = 0.6  # a joint that was moved over less of its range was perhaps not moved to its ends


class Calibrate:
    """The verb."""

    name = "calibrate"
    text = (
        "Calibrate an arm by moving it by hand: the middle of every joint, then its range. Writes the file that LeRobot reads, "
        "and the servos; nothing is written before you agree."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add("kind", choices=("follower", "leader"), help="Which arm.")
        add("--port", required=True, help="Its serial port, such as /dev/ttyACM0.")
        add("--id", required=True, metavar="NAME", help="Its name, which names the file.")
        add("--undo", action="store_true", help="Bring back the file and the servos' values from before the last calibration.")
        add("--yes", action="store_true", help="Write without asking.")

    def run(self, options: argparse.Namespace) -> int:
        """Calibrate, or undo it."""
        from reach_grasp.terminal import need_terminal
        from so101_driver.bus import Bus
        from so101_driver.calibration import calibration_folder
        from so101_driver.errors import DriverError

        if Path(options.id).name != options.id:
            raise CommandError(f"--id {options.id!r} cannot name a file; give a plain name such as my_arm")
        file = calibration_folder(options.kind) / f"{options.id}.json"
        if not options.undo:
            need_terminal("calibrate guides a person who moves the arm")
        try:
            with Bus(options.port) as bus, bus.patiently():
                bus.check()
                return self._undo(bus, file, options.yes) if options.undo else self._calibrate(bus, file, options)
        except DriverError as error:
            raise CommandError(str(error)) from error

    def _calibrate(self, bus: Bus, file: Path, options: argparse.Namespace) -> int:
        from reach_grasp.terminal import TerminalPerson, confirm
        from so101_driver.backup import store
        from so101_driver.calibrate import find_by_hand

        question = f"The {options.kind} on {options.port} is let go now and sinks. Do you hold it?"
        if not confirm(question, options.yes):
            print("nothing was changed")
            return 1
        try:
            with TerminalPerson() as person:
                calibration = find_by_hand(bus, person)
            print(_table(calibration))
            replaced = f"{file}, which is there already," if file.exists() else str(file)
            if not confirm(f"Write this into {replaced} and into the servos?", options.yes):
                print("nothing was written; the arm is limp")
                return 1
            store(bus, file, calibration)
        except KeyboardInterrupt:
            print("\ninterrupted: file and servos are as they were, the arm is limp")
            raise
        print(f"calibrated: {file}\nundo: reach-grasp calibrate {options.kind} --port {options.port} --id {options.id} --undo")
        return 0

    def _undo(self, bus: Bus, file: Path, yes: bool) -> int:
        from reach_grasp.terminal import confirm
        from so101_driver.backup import Backup

        backup = Backup.read(file)
        what = f"removes {file}" if backup.text is None else f"brings back the {file} of before"
        print(_table(backup.servos))
        if not confirm(f"This {what}, and these values into the servos; the arm is let go and sinks. Do it?", yes):
            print("nothing was changed")
            return 1
        backup.restore(bus)
        backup.forget()
        print(f"undone: {file} and the servos are as before the last calibration")
        return 0


def _table(calibration: Calibration) -> str:
    """A line for each joint, and what looks wrong."""
    from so101_description import joint_limits

    lines = [f"{'joint':<14}  id  offset   min   max  range"]
    for joint, motor in calibration.items():
        line = f"{joint:<14}  {motor.id:>2}  {motor.homing_offset:>6}  {motor.range_min:>4}  {motor.range_max:>4}"
        if motor.range_max > motor.range_min:
            low, high = joint_limits()[joint]
            moved = (motor.range_max - motor.range_min) * 2 * math.pi / 4095
            line += f"  {math.degrees(moved):>4.0f}°"
            if moved < _NOTICEABLE * (high - low):
                line += f"  of {math.degrees(high - low):.0f}°: was it moved to both ends?"
        lines.append(line)
    return "\n".join(lines)
