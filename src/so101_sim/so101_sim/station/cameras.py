# SPDX-License-Identifier: Apache-2.0
"""The twin's cameras: a process of its own that draws the shared state as a cheap camera would see it.

When the machine does not keep up, pictures become fewer, the front camera's first. The arms' world always comes first.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from multiprocessing.connection import Connection

import cv2
import numpy as np

from hilserl_core.task import TaskSpec
from so101_sim import gl
from so101_sim.station.settings import CameraSettings, SceneSettings, StationSettings
from so101_sim.station.shared import SharedState
from so101_sim.station.stream import Outlet, StreamServer
from so101_sim.station.twin import make_world
from so101_sim.world import World

_NICENESS = {"wrist": -5, "front": 5}  # the robot waits for the wrist's pictures; a real camera takes no processor time at all
_MARGIN = 64  # pixels by which the table of noise is larger than a picture
_BEHIND_S = 0.05  # a world this far behind needs the processor more than the cameras do


class Governor:
    """Decides how many pictures there is time for. Each higher level asks for fewer; the front camera gives way first."""

    LEVELS = (
        {"wrist": 1.0, "front": 1.0},
        {"wrist": 1.0, "front": 0.5},
        {"wrist": 1.0, "front": 0.2},
        {"wrist": 0.67, "front": 0.2},
        {"wrist": 0.5, "front": 0.1},
    )

    def __init__(self, window_s: float = 2.0, patience_s: float = 10.0, late_share: float = 0.2) -> None:
        """Fewer pictures after a window with more than `late_share` of late ones, more again after `patience_s` without any."""
        self._window_s, self._patience_s, self._late_share = window_s, patience_s, late_share
        self._noted: deque[tuple[float, bool]] = deque()
        self._changed_s = -math.inf
        self._lock = threading.Lock()
        self.level = 0

    def note(self, now_s: float, late: bool) -> None:
        """Note that a picture was made, late or in time."""
        with self._lock:
            noted = self._noted
            noted.append((now_s, late))
            while noted[0][0] < now_s - self._patience_s:
                noted.popleft()
            recent = [was_late for when_s, was_late in noted if when_s > max(now_s - self._window_s, self._changed_s)]
            if self._changed_s == -math.inf:
                self._changed_s = now_s
            if now_s - self._changed_s >= self._window_s and sum(recent) > self._late_share * len(recent):
                self._change(now_s, min(self.level + 1, len(self.LEVELS) - 1))
            elif now_s - self._changed_s >= self._patience_s and not any(was_late for _, was_late in noted):
                self._change(now_s, max(self.level - 1, 0))

    def _change(self, now_s: float, level: int) -> None:
        self.level, self._changed_s = level, now_s

    def share(self, camera: str) -> float:
        """Share of a camera's full rate (0 to 1) that the present level allows."""
        return self.LEVELS[self.level][camera]


class Sensor:
    """Sensor of a cheap camera: wandering exposure, noise, JPEG."""

    def __init__(self, settings: CameraSettings, seed: int) -> None:
        self._settings = settings
        self._rng = rng = np.random.default_rng([seed, 73])
        shape = (settings.height + _MARGIN, settings.width + _MARGIN, 3)
        self._noise = np.rint(rng.normal(0.0, settings.noise, shape)).astype(np.int16) if settings.noise else None
        self._phase = rng.uniform(-np.pi, np.pi)

    def encode(self, pixels: np.ndarray, time_s: float) -> bytes:
        """Encode a drawn picture as JPEG. pixels: (height, width, 3) uint8 RGB. time_s: sets the exposure."""
        settings = self._settings
        angle = 2 * np.pi * time_s / settings.exposure_period_s + self._phase
        found = cv2.convertScaleAbs(pixels, alpha=1.0 + settings.exposure_spread * math.sin(angle))
        if self._noise is not None:
            top, left = self._rng.integers(0, _MARGIN, 2)
            noise = self._noise[top : top + settings.height, left : left + settings.width]
            found = cv2.add(found, noise, dtype=cv2.CV_8U)
        found = cv2.cvtColor(found, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", found, [cv2.IMWRITE_JPEG_QUALITY, settings.quality])[1].tobytes()

    def latency_s(self) -> float:
        """Time [s] that the next picture takes from drawing to sending."""
        spread = self._settings.latency_spread_s
        return max(0.0, self._settings.latency_s + self._rng.uniform(-spread, spread))


class Lamp:
    """The lamp of the scene, whose brightness wanders."""

    def __init__(self, world: World, settings: SceneSettings, seed: int) -> None:
        self._world, self._settings = world, settings
        self._usual = world.model.light_diffuse.copy()
        self._phase = np.random.default_rng([seed, 74]).uniform(-np.pi, np.pi)

    def shine(self, time_s: float) -> None:
        """Set the scene's light to the lamp's brightness at `time_s`."""
        angle = 2 * np.pi * time_s / self._settings.light_period_s + self._phase
        self._world.model.light_diffuse[:] = self._usual * (1.0 + self._settings.light_spread * math.sin(angle))


class CameraThread:
    """Draws one camera at its rate while its stream is read, and hands each picture over when its latency is over."""

    def __init__(self, name: str, settings: StationSettings, task: TaskSpec, state: SharedState, governor: Governor) -> None:
        self.name, self.outlet = name, Outlet()
        self._settings, self._state, self._governor = settings.cameras()[name], state, governor
        self._world = make_world(settings, task)
        self._lamp = Lamp(self._world, settings.scene, settings.seed)
        self._sensor = Sensor(self._settings, settings.seed)
        self._coming: deque[tuple[float, bytes]] = deque()  # time to hand it over [s], JPEG
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._drawn_s, self._pictures, self._late = 0.0, 0, 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS[self.name])
        exposure_s = 0.0
        while not self.outlet.closed:
            if not self._coming and not self.outlet.wait_for_reader(0.5):
                self._state.count(self.name, readers=0, fps=0)
                exposure_s = 0.0
                continue
            now_s = time.monotonic()
            rate = self._settings.fps * self._governor.share(self.name)
            if now_s - exposure_s > 2.0 / rate:
                exposure_s = now_s  # the first one, or the machine was busy: missed pictures are not made up for
            due_s = self._coming[0][0] if self._coming else math.inf
            if due_s <= now_s:
                self.outlet.put(self._coming.popleft()[1])
            elif exposure_s <= now_s and self.outlet.readers:
                self._take(exposure_s, now_s, 1.0 / rate)
                exposure_s += 1.0 / rate
            else:
                time.sleep(max(0.0, min(due_s, exposure_s, now_s + 0.1) - now_s) if self.outlet.readers else 0.005)
        self._world.close()

    def _take(self, exposure_s: float, now_s: float, period_s: float) -> None:
        state = self._state.read()
        if state is None:
            return
        world, settings = self._world, self._settings
        world.put_arm(state.joints)
        world.put_cube(state.cube[:3], state.cube[3:])
        world.look()
        self._lamp.shine(now_s)
        picture = self._sensor.encode(world.render(self.name, settings.width, settings.height), now_s)
        done_s = time.monotonic()
        due_s = now_s + self._sensor.latency_s()
        self._coming.append((due_s, picture))
        late = now_s - exposure_s > period_s / 2 or done_s - due_s > period_s / 2 or state.behind_s > _BEHIND_S
        self._governor.note(done_s, late)
        self._drawn_s, self._pictures, self._late = self._drawn_s + done_s - now_s, self._pictures + 1, self._late + late
        self._state.count(
            self.name, pictures=self._pictures, late=self._late, readers=self.outlet.readers, draw_s=self._drawn_s,
            fps=1.0 / period_s, level=self._governor.level,
        )  # fmt: skip


def serve(settings: StationSettings, task: TaskSpec, state_path: str, port: int, told: Connection) -> None:
    """Run the cameras until `told` is closed at the other end. Sends through it the streams' port, or why there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    cv2.setNumThreads(1)
    try:
        gl.choose()
        state, governor = SharedState(state_path), Governor()
        threads = [CameraThread(name, settings, task, state, governor) for name in settings.cameras()]
        server = StreamServer({thread.name: thread.outlet for thread in threads}, port)
    except (OSError, ValueError) as error:
        told.send(f"the camera streams cannot be served on port {port}: {error}" if isinstance(error, OSError) else str(error))
        return
    for thread in threads:
        thread.start()
    server.start()
    told.send(server.port)
    with contextlib.suppress(EOFError, OSError):
        told.recv()  # until the twin ends, however it ends
    server.stop()
    os._exit(0)  # drawing contexts of other threads cannot be freed here


class Cameras:
    """Starts and ends the process of the cameras. Use it as a context manager."""

    def __init__(self, settings: StationSettings, task: TaskSpec, state: SharedState, port: int = 0) -> None:
        """port: of the streams; 0 takes a free one. Starts the process, and raises OSError when it cannot serve."""
        context = multiprocessing.get_context("spawn")
        self._told, theirs = context.Pipe()
        arguments = (settings, task, state.path, port, theirs)
        self._process = context.Process(target=serve, args=arguments, name="cameras", daemon=True)
        self._process.start()
        theirs.close()
        try:
            answer = self._told.recv()
        except EOFError:
            answer = "the process of the cameras has ended; look above for why"
        if isinstance(answer, str):
            self.stop()
            raise OSError(answer)
        self.port = answer

    def address(self, camera: str) -> str:
        """HTTP address of a camera's stream."""
        return f"http://127.0.0.1:{self.port}/{camera}"

    def __enter__(self) -> Cameras:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the streams and the process."""
        self._told.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
