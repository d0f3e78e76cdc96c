# SPDX-License-Identifier: Apache-2.0
"""A camera as a node. How frames come about is in camera_device.py, what is done when they do not in capture.py."""

from __future__ import annotations

import array
import threading
from functools import partial
from pathlib import Path

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hilserl_ros import qos
from hilserl_ros.convert import to_stamp
from hilserl_ros.diagnostics import Diagnostics, status
from hilserl_ros.images import rgb_to_image
from hilserl_ros.node import BaseNode, NodeError, main_of
from hilserl_ros.realtime import take_precedence
from so101_driver.camera_device import open_device
from so101_driver.camera_info import read_camera_info, uncalibrated
from so101_driver.capture import Camera, Frame, Reader
from so101_driver.errors import CameraInfoError
from so101_driver.settings import CameraParameters


class CameraNode(BaseNode[CameraParameters]):
    """One thread reads the camera, another publishes the newest frame, and only what somebody listens to."""

    def __init__(self) -> None:
        super().__init__("camera", CameraParameters)
        params, size, log = self.params, self.params.size(self.task), self.get_logger()
        self._frame_id = f"{params.camera}_camera_optical_frame"
        self._info = uncalibrated(size)
        if params.camera_info:
            try:
                self._info = read_camera_info(Path(params.camera_info).expanduser(), size)
            except CameraInfoError as error:
                raise NodeError(str(error)) from error
        create = self.create_publisher
        self._images = create(Image, f"{params.camera}/image_raw", qos.IMAGE)
        self._compressed = create(CompressedImage, f"{params.camera}/image_raw/compressed", qos.IMAGE)
        self._infos = create(CameraInfo, f"{params.camera}/camera_info", qos.IMAGE)
        self._diagnostics = Diagnostics(self)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        log.info(f"camera '{params.camera}' {size[0]}x{size[1]} from {params.source}, runs with {take_precedence()}")
        self._camera = Camera(
            params,
            size,
            partial(open_device, params, size),
            lambda: self.get_clock().now().nanoseconds,
            log.warning,
            log.info,
        )
        self._reader = Reader(self._camera)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publish")
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            if (frame := self._reader.take(timeout_s=0.2)) is not None:
                self._publish(frame)

    def _publish(self, frame: Frame) -> None:
        stamp = to_stamp(frame.stamp_ns)
        if self._images.get_subscription_count():
            self._images.publish(rgb_to_image(frame.pixels, stamp, self._frame_id))
        if self._compressed.get_subscription_count():
            message = CompressedImage(format="rgb8; jpeg compressed bgr8")  # as image_transport calls it
            message.header.stamp, message.header.frame_id = stamp, self._frame_id
            message.data = array.array("B", jpeg(frame, self.params.quality))
            self._compressed.publish(message)
        if self._infos.get_subscription_count():
            self._info.header.stamp, self._info.header.frame_id = stamp, self._frame_id
            self._infos.publish(self._info)

    def _report(self) -> None:
        camera, counts, params = self._camera, self._camera.counts, self.params
        problem = camera.problem
        values = {
            "source": params.source,
            "size": "{}x{}".format(*camera.size),
            "fps": f"{camera.fps:.1f}",
            "frames": counts.frames,
            "missed": self._reader.missed,
            "damaged": counts.damaged,
            "frozen": counts.frozen,
            "opened": counts.opened,
        }
        level = DiagnosticStatus.OK if problem is None else DiagnosticStatus.ERROR
        self._diagnostics.publish([status(params.camera, level, problem or "delivers", values)], params.source)

    def close(self) -> None:
        """Give the device back."""
        self._ending.set()
        self._thread.join()
        self._reader.close()


def jpeg(frame: Frame, quality: int) -> bytes:
    """The frame as a JPEG file. quality: 1 to 100."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    return data.tobytes()


def main() -> None:
    """The console entry point."""
    main_of(CameraNode)()
