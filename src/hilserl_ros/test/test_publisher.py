# SPDX-License-Identifier: Apache-2.0
"""What DDS refuses, as it may when a reader is suspended, must not end whoever publishes."""

from dataclasses import dataclass

import rclpy
import rclpy.publisher
from rclpy._rclpy_pybind11 import RCLError
from std_msgs.msg import String

from hilserl_ros.node import BaseNode


@dataclass(frozen=True)
class _Table:
    """No parameters."""


def test_a_message_that_dds_refuses_is_said_and_lost_and_the_next_one_goes_out(monkeypatch, capfd):
    rclpy.init()
    try:
        publisher = BaseNode("camera", _Table).create_publisher(String, "image", 1)
        with monkeypatch.context() as patch:

            def refuse(*_):
                raise RCLError("cannot publish data")

            patch.setattr(rclpy.publisher.Publisher, "publish", refuse)
            assert publisher.publish(String()) is False
        assert publisher.publish(String()) is True
    finally:
        rclpy.try_shutdown()
    assert "a message on /image was refused, a reader takes none: cannot publish data" in capfd.readouterr().err
