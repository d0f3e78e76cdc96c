# SPDX-License-Identifier: Apache-2.0
"""The twin's world and its two arms in real time, and the actions of a person's hands in it."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import numpy as np

from hilserl_core.task import TaskSpec
from so101_description import JOINTS
from so101_sim import scene
from so101_sim.bus.emulator import BusEmulator, Line
from so101_sim.bus.physics import WorldPlant
from so101_sim.station.arms import FollowerArm, Hands, LeaderArm, odd_mountings
from so101_sim.station.clock import RealTime
from so101_sim.station.files import read_servos, write_servos
from so101_sim.station.furniture import furnish
from so101_sim.station.settings import StationError, StationSettings
from so101_sim.station.shared import SharedState, Snapshot
from so101_sim.world import World

STEP_S = scene.TIMESTEP_S
_REST_RAD = (0.0, -1.745, 1.497, 1.60, 1.559, 0.10)  # folded: the arm stays there without torque, clear of the cube's area
_LEADER_RAD = (0.0, -1.2, 1.2, 0.9, 1.5, 0.5)


class Twin:
    """Follower and leader as servos on serial devices, at one simulated table. Use it as a context manager."""

    def __init__(self, folder: Path, settings: StationSettings | None = None, task: TaskSpec | None = None) -> None:
        """folder: where the devices `follower` and `leader` appear. Raises WorldError for settings that give no world."""
        self.settings = settings = settings or StationSettings()
        self.task = task or TaskSpec()
        self.world = make_world(settings, self.task)
        self.world.put_arm(np.array(_REST_RAD))
        self.state = SharedState()
        self.clock = RealTime(STEP_S)
        velocity = settings.arm.hand_velocity_rad_s
        follower = FollowerArm(WorldPlant(self.world, settings.servo.stiffness_nm_rad), Hands(velocity), settings.servo, STEP_S)
        leader = LeaderArm(_LEADER_RAD, Hands(velocity))
        self.hands = {"follower": follower.hands, "leader": leader.hands}
        line = Line(latency_s=settings.arm.adapter_latency_s)
        self.buses = {
            name: BusEmulator(
                plant, odd_mountings(settings.arm, settings.seed, arm), port=folder / name, line=line, step_s=None
            )
            for arm, (name, plant) in enumerate({"follower": follower, "leader": leader}.items())
        }
        self._folder, self._kept = folder, read_servos(folder, settings.seed)
        for name, servos in self._kept.items():
            for servo, permanent in zip(self.buses[name].servos, servos, strict=True):
                servo.memory.keep(permanent)
        self._places = self._steps = 0
        self._leader = np.array(_LEADER_RAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)

    def __enter__(self) -> Twin:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Plug the arms in and run in real time. Raises EmulatorError when a device cannot be made."""
        self.plug_in()
        self.run()

    def run(self) -> None:
        """Run in real time from now on."""
        self._thread.start()

    def plug_in(self) -> None:
        """Plug the arms in; time passes only by `step`. Raises EmulatorError when a device cannot be made."""
        started = []
        try:
            for bus in self.buses.values():
                bus.start()
                started.append(bus)
        except OSError:
            for bus in started:
                bus.stop()
            raise
        self.step()

    def stop(self) -> None:
        """Stop time, and remove the devices."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for bus in self.buses.values():
            bus.stop()
        self.state.close()

    def keep(self) -> None:
        """Write what the servos keep without power into `servos.json`, if it has changed. Raises StationError."""
        kept = {name: [servo.memory.permanent for servo in bus.servos] for name, bus in self.buses.items()}
        if kept != self._kept:
            write_servos(self._folder, self.settings.seed, kept)
            self._kept = kept

    def hold(self, arm: str, joints: dict[str, float]) -> None:
        """Take joints of the `follower` or the `leader` by hand, by name, and move each there [rad].

        Only on the leader does a joint with torque move. Raises StationError.
        """
        self._hands(arm).hold(joints)

    def release(self, arm: str) -> None:
        """Let go of an arm. Raises StationError."""
        self._hands(arm).release()

    def _hands(self, arm: str) -> Hands:
        if arm not in self.hands:
            raise StationError(f"there is no arm '{arm}', only {' and '.join(self.hands)}")
        return self.hands[arm]

    def place_cube(self, x: float, y: float, yaw: float) -> None:
        """Put the cube on the table, x and y [m] in the base frame, turned by yaw [rad]. Raises StationError."""
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in (x, y, yaw)):
            raise StationError(f"the cube cannot be put at {x!r}, {y!r}, turned by {yaw!r}; expected metres, metres, radians")
        with self.buses["follower"].still():
            world = self.world
            world.put_cube(np.array([x, y, world.cube_half_m]), np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]))
            self._places += 1

    def joints(self) -> dict[str, dict[str, float]]:
        """Joint angles of both arms [rad], by arm and name, as hands feel them."""
        state = self.state.read()
        found = {"follower": state.joints, "leader": state.leader} if state else {}
        return {arm: dict(zip(JOINTS, values.tolist(), strict=True)) for arm, values in found.items()}

    def step(self) -> None:
        """Let one step of time pass."""
        follower, leader = self.buses.values()
        leader.advance(STEP_S)
        self._leader = np.array([shaft.position_rad for shaft in leader.plant.shafts()])
        with follower.still():
            follower.advance(STEP_S)
            if self._steps % round(self.task.tick_s / STEP_S) == 0:
                self.world.end_tick()
                grasp = self.world.grasp()
                self._truth = (grasp.pinched, self.world.success, self.world.failed, self.world.ticks)
            position, (x, y, z, w) = self.world.cube_pose
            joints, places = self.world.joint_positions, self._places
        self._steps += 1
        now_s = time.monotonic()
        behind_s = max(0.0, self.clock.behind_s(now_s))
        cube = np.array([*position, w, x, y, z])
        self.state.write(Snapshot(now_s, behind_s, places, joints, cube, self._leader, *self._truth))

    def _run(self) -> None:
        while not self._stop.is_set():
            for _ in range(self.clock.due(time.monotonic())):
                self.step()
            self._stop.wait(max(0.0, self.clock.next_s() - time.monotonic()))


def make_world(settings: StationSettings, task: TaskSpec) -> World:
    """Make the world of the settings' seed, the same in every process. Raises WorldError."""
    world = World(settings.world, task, furnish=furnish(settings.scene.distractors, settings.seed))
    world.reset(settings.seed)
    return world
