# SPDX-License-Identifier: Apache-2.0
"""The twin of a station, met as a real one is: through its serial devices and its camera streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

import cv2
import numpy as np
import pytest

from so101_driver.backup import store
from so101_driver.bus import Bus
from so101_driver.calibrate import Sweep, find_by_hand
from so101_driver.calibration import Conversion, read_calibration
from so101_driver.camera_device import LiveDevice, open_device
from so101_driver.capture import Camera
from so101_driver.settings import CameraParameters
from so101_sim.station.calibrating import middles, move, sweep
from so101_sim.station.cameras import Cameras
from so101_sim.station.settings import StationSettings, parse_settings
from so101_sim.station.stream import Outlet, StreamServer
from so101_sim.station.twin import Twin


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    with Twin(tmp_path_factory.mktemp("twin"), StationSettings(seed=5)) as found:
        yield found


def connect(twin: Twin, arm: str) -> Bus:
    return Bus(twin.buses[arm].device, reply_timeout_s=10.0)


def test_the_driver_finds_two_arms_that_are_not_calibrated(twin):
    for arm in ("follower", "leader"):
        with connect(twin, arm) as bus:
            bus.check()
            assert [bus.read(servo, "Homing_Offset") for servo in bus.ids] == [0] * 6
            assert bus.read_state().fresh


def test_the_follower_moves_in_its_own_time_and_holds_its_goal_nearly(twin):
    with connect(twin, "follower") as bus:
        start = bus.read_state().samples[1].position
        goal = start + 300
        bus.write(1, "Goal_Position", goal)
        bus.write(1, "Torque_Enable", 1)
        while abs(bus.read_state().samples[1].position - goal) > 30:
            time.sleep(0.001)
        bus.write(1, "Torque_Enable", 0)
    assert twin.state.read().joints[0] == pytest.approx(300 * 2 * np.pi / 4096, abs=0.06)


def picture(brightness: int) -> bytes:
    return cv2.imencode(".jpg", np.full((240, 320, 3), brightness, np.uint8))[1].tobytes()


@pytest.fixture
def stream() -> Iterator[StreamServer]:
    server = StreamServer({"wrist": Outlet()})
    server.start()
    yield server
    server.stop()


def test_the_camera_node_grabs_a_picture_before_the_next_one_is_sent(stream):
    """FFmpeg looks at some pictures before it opens; after that it holds none back."""
    outlet, address = stream.outlets["wrist"], f"http://127.0.0.1:{stream.port}/wrist"
    device = opened_while_it_plays(outlet, CameraParameters(source=address, fps=100.0))
    try:
        for brightness in (60, 120, 180, 240):
            outlet.put(picture(brightness))
            found = device.decode() if device.grab() is None else None
            while abs(float(found.mean()) - brightness) > 5:  # the pictures from before it was open
                device.grab()
                found = device.decode()
    finally:
        device.close()


def opened_while_it_plays(outlet: Outlet, params: CameraParameters) -> LiveDevice:
    done = threading.Event()

    def play() -> None:
        while not done.wait(0.01):
            outlet.put(picture(10))

    player = threading.Thread(target=play)
    player.start()
    try:
        return open_device(params, (320, 240))
    finally:
        done.set()
        player.join()


def test_a_camera_is_drawn_only_while_its_stream_is_read(twin):
    settings = parse_settings(["front.fps=30", "front.latency_s=0.1"], seed=5)
    with Cameras(settings, twin.task, twin.state) as cameras:
        params = CameraParameters(camera="front", source=cameras.address("front"), fps=30.0)
        camera = Camera(params, (320, 240), lambda: open_device(params, (320, 240)), time.time_ns, print, print)
        frames = []
        while len(frames) < 5:
            frame, _ = camera.step()
            frames += [frame] if frame is not None else []
        camera.close()
        assert frames[0].pixels.shape == (240, 320, 3) and not np.array_equal(frames[-1].pixels, frames[-2].pixels), "noise"
        assert twin.state.counted("front")["pictures"] >= 5 and twin.state.counted("wrist")["pictures"] == 0
        while twin.state.counted("front")["readers"]:
            time.sleep(0.01)
        drawn = twin.state.counted("front")["pictures"]
        now = twin.state.read().ticks
        while twin.state.read().ticks < now + 10:
            time.sleep(0.01)
        assert twin.state.counted("front")["pictures"] == drawn


class Carries:
    """A person's hands on the twin, for whom time passes with every look."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self.hold = twin.hold
        self.feel = twin.joints

    def moment(self) -> None:
        for _ in range(4):
            self._twin.step()


class AtTwin:
    """Does what calibration asks for."""

    def __init__(self, twin: Twin, arm: str) -> None:
        self._hands, self._arm, self._poses = Carries(twin), arm, sweep()

    def ask(self, text: str) -> str:
        self._move(middles())
        return ""

    def tell(self, text: str) -> None:
        pass

    def moved(self, sweeps: Mapping[str, Sweep]) -> bool:
        pose = next(self._poses, None)
        if pose is not None:
            self._move(pose)
        return pose is None

    def _move(self, pose: dict[str, float]) -> None:
        move(self._hands, self._arm, pose, self._hands.moment)


@pytest.mark.parametrize("arm", ["follower", "leader"])
def test_an_arm_of_the_twin_can_be_calibrated_by_hand(tmp_path, arm):
    """With the resulting calibration file the driver reads the joints where they truly are."""
    twin = Twin(tmp_path, parse_settings(["arm.hand_velocity_rad_s=15"], seed=6))
    twin.plug_in()
    try:
        with connect(twin, arm) as bus:
            calibration = find_by_hand(bus, AtTwin(twin, arm))
            twin.run()
            store(bus, tmp_path / "arm.json", calibration)
            conversions = {
                joint: Conversion.of(joint, motor) for joint, motor in read_calibration(tmp_path / "arm.json").items()
            }
            samples = bus.read_state().samples
            read = {joint: found.to_rad(samples[servo].position) for servo, (joint, found) in enumerate(conversions.items(), 1)}
            assert read == pytest.approx(twin.joints()[arm], abs=0.03)
    finally:
        twin.stop()
