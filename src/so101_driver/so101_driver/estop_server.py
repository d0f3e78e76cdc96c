# SPDX-License-Identifier: Apache-2.0
"""The emergency stop over ROS: `estop/request` and `~/estop` stop, `~/estop` clears, `estop` says whether it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from hilserl_ros import qos
from so101_driver.errors import DriverError
from so101_driver.estop import CLEAR_COMMAND, EmergencyStop

_GOES_ON = f"'{CLEAR_COMMAND}' ends the stop"


class EstopServer:
    """Topics and service of a node, in whatever state it is."""

    def __init__(
        self,
        node: Node,
        estop: EmergencyStop,
        clear: Callable[[], str],
        fault: Callable[[], bool],
        done: str = "stopped",
    ) -> None:
        """clear: ends the stop and says what was done, or raises DriverError. fault: whether something else wants consent.

        done: what a stop does, in words.
        """
        self._estop, self._clear, self._fault, self._done = estop, clear, fault, done
        self._log = node.get_logger()
        self._lock = threading.Lock()
        self._said: bool | None = None
        self._publisher = node.create_publisher(Bool, "estop", qos.STATUS)
        node.create_subscription(Bool, "estop/request", self._on_request, qos.ESTOP_REQUEST)
        node.create_service(SetBool, "~/estop", self._on_service)
        if estop.reason is not None:
            self._log.warning(f"begins stopped: {estop.reason}; {_GOES_ON}")
        self.say()

    def say(self, again: bool = False) -> None:
        """Publish whether the arm is stopped until a person clears it, when that has changed, or again. From any thread."""
        with self._lock:
            stopped = self._estop.reason is not None or self._fault()
            if again or stopped != self._said:
                self._said = stopped
                self._publisher.publish(Bool(data=stopped))

    def _on_request(self, message: Bool) -> None:
        if message.data:
            self._stop("emergency stop by a message")

    def _stop(self, reason: str) -> str:
        said, is_news = f"{self._done}; {_GOES_ON}", self._estop.reason is None
        try:
            self._estop.stop(reason)
        except DriverError as error:
            said = str(error)
        if is_news:
            self._log.warning(f"{reason}: {said}")
        self.say(again=True)  # the answer to who asked
        return said

    def _on_service(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            response.success, response.message = True, self._stop("emergency stop by the service")
            return response
        try:
            response.success, response.message = True, self._clear()
        except DriverError as error:
            response.message = str(error)
        self.say()
        return response
