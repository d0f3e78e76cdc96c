# SPDX-License-Identifier: Apache-2.0
"""The simulated world's arm as what the emulated servos move."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco

from so101_sim import scene
from so101_sim.bus.plant import Drive, Shaft
from so101_sim.world import World

# Torques of the servos themselves: the driver halves the gripper's, which leaves what the simulated arm without driver has.
_LARGEST_NM = (*(scene.ARM_TORQUE,) * 5, 2 * scene.GRIPPER_TORQUE)


class WorldPlant:
    """Moves a world's arm by its servos' set points and torques. Who else looks at the world must hold the emulator still."""

    def __init__(self, world: World, stiffness_nm_rad: float = scene.KP) -> None:
        """stiffness_nm_rad: torque of a servo for each radian that it is away from where it pulls to."""
        self._world, self._stiffness = world, stiffness_nm_rad
        self._left_s = 0.0

    def advance(self, duration_s: float, drives: Sequence[Drive]) -> None:
        """Let time pass under these drives, in steps of the simulation; what is left of one is made up for next time."""
        model, data = self._world.model, self._world.data
        for index, (drive, largest) in enumerate(zip(drives, _LARGEST_NM, strict=True)):
            limp = drive.target_rad is None
            gain, damping = (0.0, 0.0) if limp else (self._stiffness, scene.KV)
            model.actuator_gainprm[index, 0], model.actuator_biasprm[index, 1:3] = gain, (-gain, -damping)
            model.actuator_forcerange[index] = (-largest * drive.torque, largest * drive.torque)
            data.ctrl[index] = data.ctrl[index] if limp else drive.target_rad
        self._left_s += duration_s
        while self._left_s > scene.TIMESTEP_S / 2:
            mujoco.mj_step(model, data)
            self._left_s -= scene.TIMESTEP_S

    def shafts(self) -> Sequence[Shaft]:
        """How things are now."""
        world = self._world
        shares = world.joint_efforts / _LARGEST_NM
        values = zip(world.joint_positions.tolist(), world.joint_velocities.tolist(), shares.tolist(), strict=True)
        return [Shaft(*value) for value in values]
