# SPDX-License-Identifier: Apache-2.0
"""A publisher that outlives a reader which takes nothing."""

from __future__ import annotations

from typing import Any

import rclpy.publisher
from rclpy._rclpy_pybind11 import RCLError  # its only place
from rclpy.logging import get_logger


class Publisher(rclpy.publisher.Publisher):  # no class of one message: up to Jazzy rclpy's is not generic
    """DDS may refuse a message when a reader has fallen far behind, a suspended program for instance. That one is then lost."""

    def publish(self, msg: Any) -> bool:
        """Whether it was accepted; said when it was not."""
        try:
            super().publish(msg)
        except RCLError as error:
            get_logger("publisher").error(
                f"a message on {self.topic_name} was refused, a reader takes none: {error}", throttle_duration_sec=5.0
            )
            return False
        return True
