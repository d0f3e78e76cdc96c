# SPDX-License-Identifier: Apache-2.0
"""The simulated world behind an emulated servo bus: a driver moves its arm, through a serial device and nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from so101_sim.bus.emulator import INSTANT, BusEmulator, standard_mountings
from so101_sim.bus.physics import WorldPlant
from so101_sim.world import World


class BusArm:
    """Six servos that move a world's arm in lockstep with the driver's cycles."""

    def __init__(self, world: World, port: Path, cycle_s: float) -> None:
        """port: the link to make to the device. cycle_s: of the driver. Raises EmulatorError."""
        self._world = world
        plant = WorldPlant(world)
        self._emulator = BusEmulator(plant, standard_mountings(), port=port, line=INSTANT, step_s=cycle_s)
        self._emulator.start()

    def still(self) -> AbstractContextManager[object]:
        """While it is entered the driver waits, and the world can be looked at."""
        return self._emulator.still()

    def reset(self, seed: int) -> None:
        """A new world; the arm stands where that begins, and its servos hold it there. Raises WorldError."""
        with self.still():
            self._world.reset(seed)
            self._emulator.settle()

    def close(self) -> None:
        """Take the device away."""
        self._emulator.stop()
