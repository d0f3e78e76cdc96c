# SPDX-License-Identifier: Apache-2.0
"""The state of the twin's world in memory that all of its processes see: one writes, any read."""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass

import numpy as np

JOINTS, CUBE = 6, 7
CAMERAS = ("wrist", "front")
COUNTERS = ("pictures", "late", "readers", "draw_s", "fps", "level")  # one row for each camera, written by the cameras' process
_STATE = 3 + JOINTS + CUBE + JOINTS + 4
_SIZE = 1 + _STATE + len(CAMERAS) * len(COUNTERS)


@dataclass(frozen=True)
class Snapshot:
    """The world at one instant.

    time_s: on the steady clock. behind_s: how far the world is behind that clock. places: how often the cube was put somewhere.
    joints: (6,) rad of the follower. cube: (7,) position [m] and quaternion w x y z. leader: (6,) rad. The rest as in World.
    """

    time_s: float
    behind_s: float
    places: int
    joints: np.ndarray
    cube: np.ndarray
    leader: np.ndarray
    pinched: bool
    success: bool
    failed: bool
    ticks: int


class SharedState:
    """Numbers behind a version that is odd while they are written. `path` opens the same memory in another process."""

    def __init__(self, path: str | None = None) -> None:
        """path: of a state that another process made; None makes a new one, which lasts as long as this process."""
        self._file = os.memfd_create("twin") if path is None else os.open(path, os.O_RDWR)
        if path is None:
            os.ftruncate(self._file, 8 * _SIZE)
        self.path = path or f"/proc/{os.getpid()}/fd/{self._file}"
        self._memory = mmap.mmap(self._file, 8 * _SIZE)
        self._numbers = np.frombuffer(self._memory, np.float64)
        self._state = self._numbers[1 : 1 + _STATE]
        self._counters = self._numbers[1 + _STATE :].reshape(len(CAMERAS), len(COUNTERS))

    def write(self, snapshot: Snapshot) -> None:
        """Replace what is there. Only one process may write."""
        flags = (snapshot.pinched, snapshot.success, snapshot.failed, snapshot.ticks)
        head = (snapshot.time_s, snapshot.behind_s, snapshot.places)
        state = np.concatenate([head, snapshot.joints, snapshot.cube, snapshot.leader, flags])
        self._numbers[0] += 1
        self._state[:] = state
        self._numbers[0] += 1

    def read(self) -> Snapshot | None:
        """The newest state; None before the first."""
        while True:
            version = self._numbers[0]
            state = self._state.copy()
            if version % 2 == 0 and version == self._numbers[0]:
                break
            time.sleep(0.0001)
        if not version:
            return None
        joints, cube, leader, flags = np.split(state[3:], np.cumsum([JOINTS, CUBE, JOINTS]))
        truth = (bool(flags[0]), bool(flags[1]), bool(flags[2]), int(flags[3]))
        return Snapshot(float(state[0]), float(state[1]), int(state[2]), joints, cube, leader, *truth)

    def count(self, camera: str, **values: float) -> None:
        """Note numbers about a camera, by the names in COUNTERS."""
        for name, value in values.items():
            self._counters[CAMERAS.index(camera), COUNTERS.index(name)] = value

    def counted(self, camera: str) -> dict[str, float]:
        """Numbers about a camera."""
        return dict(zip(COUNTERS, self._counters[CAMERAS.index(camera)].tolist(), strict=True))

    def close(self) -> None:
        """Give the memory back."""
        del self._state, self._counters, self._numbers
        self._memory.close()
        os.close(self._file)
