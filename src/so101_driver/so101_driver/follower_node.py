# SPDX-License-Identifier: Apache-2.0
"""The real follower arm as a node. What may reach its servos is decided in safety.py, what is said to them in follower.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.diagnostics import Diagnostics
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.realtime import take_precedence
from so101_driver.arm import Command
from so101_driver.calibration import find_calibration, read_calibration
from so101_driver.command_message import read_command
from so101_driver.diagnostics import hardware_id, statuses
from so101_driver.errors import DriverError, MessageError
from so101_driver.estop import EmergencyStop, stop_file
from so101_driver.estop_server import EstopServer
from so101_driver.finder import find_port, usb_serial_of
from so101_driver.follower import Follower, Report
from so101_driver.gripper import EASED
from so101_driver.joint_state import joint_state, stamp_of
from so101_driver.lockstep import Lockstep
from so101_driver.pace import Pace
from so101_driver.safety_config import SafetyConfig
from so101_driver.settings import FollowerParameters, timing

_Response = TypeVar("_Response", SetBool.Response, Trigger.Response)
_RETRY_S = 2.0
_ON = "goes on from where it is"
_NOT_ACTIVE = "the follower is not active: activate it first"


class FollowerNode(LifecycleNodeMixin, BaseNode[FollowerParameters]):
    """Inactive it has the port and does nothing; active it reads, decides and writes in a thread of its own."""

    def __init__(self) -> None:
        BaseNode.__init__(self, "follower", FollowerParameters, {"safety.": SafetyConfig})
        LifecycleNodeMixin.__init__(self)
        if not self.params.lockstep:
            self.refuse_sim_time()
        self._latch = EmergencyStop(stop_file(self.params.estop_file, self.params.calibration))
        self._follower: Follower | None = None
        self._usb_serial = self.params.usb_serial or None
        self._lock = threading.Lock()  # one at a time on the bus
        self._mail = threading.Lock()
        self._command: Command | None = None
        self._come_s = 0.0  # when it came
        self._thread: threading.Thread | None = None
        self._active = False
        self._ending = threading.Event()
        self._pace = Pace(1.0 / self.params.rate_hz)
        self._suspended = False
        self._joints = self.create_publisher(JointState, "joint_states", qos.recorded(qos.JOINT_STATES))
        self._diagnostics = Diagnostics(self)
        self.create_subscription(JointTrajectory, "joint_command", self._on_command, qos.JOINT_COMMAND, raw=True)
        self._estop = EstopServer(self, self._latch, self._clear_stop, self._wants_consent)
        self.create_service(SetBool, "~/set_torque", self._on_torque)
        self.create_service(Trigger, "~/home", self._on_home)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._report, clock=steady)
        self._lockstep: Lockstep | None = None
        if self.params.lockstep:
            self._lockstep = Lockstep(round(self.task.tick_s * 1e9), self.params.rate_hz)
            self.create_subscription(ClockMessage, "/clock", self._on_clock, qos.CLOCK)
            self.create_service(SetBool, "~/suspend", self._on_suspend)
        else:
            self.get_logger().info(f"runs with {take_precedence()}")
        self._said = ""
        self._start = self.create_timer(_RETRY_S, self._autostart, clock=steady) if self.params.autostart else None
        if self.params.autostart:
            self._autostart()

    def _autostart(self) -> None:
        """Now, or as soon as the arm is there; what is wrong is said once."""
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
            self._start.cancel()

    # Lifecycle --------------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the port and check everything; the arm stays as it is."""
        params = self.params
        try:
            file = find_calibration("follower", params.calibration)
            options = timing(params)
            if self._lockstep is not None:
                options["clock"] = self._lockstep.clock
            follower = Follower(self._find, read_calibration(file), self.tables["safety."], estop=self._latch, **options)
            follower.open(params.write_calibration)
        except DriverError as error:
            return self._failed("the arm cannot be used", error)
        self._follower = follower
        port = follower.connection.bus.port_name
        self._usb_serial = self._usb_serial or usb_serial_of(port)
        self.get_logger().info(f"found the arm on {port}, calibrated by {file}")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Torque on where the arm is, and hold; while an emergency stop is latched only read."""
        try:
            if self._latch.reason is None:
                self._follower.switch_on()
        except DriverError as error:
            return self._failed("the arm stays off", error)
        self._active = True
        if self._lockstep is None:
            self._ending.clear()
            self._pace = Pace(1.0 / self.params.rate_hz)
            self._thread = threading.Thread(target=self._run, name="bus")
            self._thread.start()
        return LifecycleNodeMixin.on_activate(self, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold, or let go where `release` says so."""
        self._end_loop()
        try:
            if self.params.release:
                self._follower.switch_off()
        except DriverError as error:
            self.get_logger().error(str(error))
        self._follower.safety.stop("deactivated")
        self._suspended = False
        self._estop.say()
        return LifecycleNodeMixin.on_deactivate(self, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the port back."""
        self._follower.close()
        self._follower = None
        return TransitionCallbackReturn.SUCCESS

    def _failed(self, what: str, error: DriverError) -> TransitionCallbackReturn:
        if str(error) != self._said:
            self._said = str(error)
            again = f"; tried again every {_RETRY_S:g} s" if self.params.autostart else ""
            self.get_logger().error(f"{what}: {error}{again}")
        return TransitionCallbackReturn.FAILURE

    def _find(self) -> str:
        """The port; once the adapter's serial number is known, by that alone: another arm may have the old name."""
        if self.params.port and not self._usb_serial:
            return self.params.port
        return find_port(self._usb_serial)

    # The loop ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            now_s = self._pace.wait()
            with self._lock:
                report = self._follower.cycle(now_s, self._take_command(now_s))
            if report.fresh:
                self._publish(report, stamp_of(self.get_clock(), report.time_s))
            self._say(report)

    def _on_clock(self, message: ClockMessage) -> None:
        """Lockstep: the world was reset, or somebody has missed where the arm is."""
        stamp_ns = to_ns(message.clock)
        if self._active and (report := self._lockstep.time(stamp_ns, self._follower)) is not None:
            self._publish(report, stamp_ns)

    def _take_command(self, now_s: float) -> Command | None:
        """The newest since the last cycle, older by how long it has waited."""
        with self._mail:
            command, self._command = self._command, None
            return command and replace(command, age_s=command.age_s + max(0.0, now_s - self._come_s))

    def _publish(self, report: Report, stamp_ns: int) -> None:
        efforts = report.loads * self.params.torque_nm if any(self.params.torque_nm) else None
        if (message := joint_state(stamp_ns, report.positions, report.velocities, efforts)) is not None:
            self._joints.publish(message)

    def _say(self, report: Report) -> None:
        decision, log = report.decision, self.get_logger()
        if decision.refused:
            log.warning(f"joint_command is refused: {decision.refused}", throttle_duration_sec=5.0)
        if decision.reasons == (EASED,):
            log.info(EASED, throttle_duration_sec=5.0)
        elif decision.reasons:
            log.warning("; ".join(decision.reasons), throttle_duration_sec=5.0)
        self._estop.say()

    def _wants_consent(self) -> bool:
        return self._active and not self._suspended and self._follower.safety.stopped is not None

    # Messages and services --------------------------------------------------------------------------------------------

    def _on_command(self, data: bytes) -> None:
        """The newest counts. Its age is that of the observation it answers."""
        try:
            stamp_ns, command = read_command(data)
        except MessageError as error:
            self.get_logger().warning(f"joint_command is refused: {error}", throttle_duration_sec=5.0)
            if self._follower is not None:
                self._follower.safety.counts["refused: message"] += 1
            return
        if self._lockstep is not None:
            self._carry_out(stamp_ns, command)
            return
        age_s = (self.get_clock().now().nanoseconds - stamp_ns) / 1e9
        with self._mail:
            self._command, self._come_s = replace(command, age_s=age_s), time.monotonic()

    def _carry_out(self, stamp_ns: int, command: Command) -> None:
        if self._active and (report := self._lockstep.command(stamp_ns, command, self._follower, self._say)) is not None:
            self._publish(report, self._lockstep.stamp_ns)

    def _clear_stop(self) -> str:
        """A person's consent, after whatever stop; what was done. Raises DriverError."""
        if not self._active:
            self._latch.clear()
            return "the arm is not active"
        with self._lock:
            self._follower.switch_on(clear=True)
        self._suspended = False
        return _ON

    def _on_suspend(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """A world is reset meanwhile. It is no emergency stop, and ends none."""
        if request.data:
            self._suspended = self._active
            return self._on_bus(lambda: self._follower.safety.stop("suspended"), response, "suspended")
        self._on_bus(lambda: self._follower.switch_on(), response, _ON)
        self._suspended = self._active and not response.success
        return response

    def _on_torque(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            return self._on_bus(lambda: self._follower.switch_on(), response, "holds where it is")
        return self._on_bus(lambda: self._follower.switch_off(), response, "limp")

    def _on_home(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        goal, pace = np.array(self.params.home_rad), self.params.home_velocity_rad_s
        return self._on_bus(lambda: self._follower.home(time.monotonic(), goal, pace), response, "on its way")

    def _on_bus(self, call: Callable[[], object], response: _Response, done: str) -> _Response:
        """Do it between two cycles; what is wrong is the answer."""
        if not self._active:
            response.message = _NOT_ACTIVE
            return response
        try:
            with self._lock:
                call()
            response.success, response.message = True, done
        except DriverError as error:
            response.success, response.message = False, str(error)
        return response

    # Now and then -----------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        found = statuses(self._follower, self._pace, self._active, self._latch.reason)
        self._diagnostics.publish(found, hardware_id(self._usb_serial, self.params.port))

    def _end_loop(self) -> None:
        self._active = False
        if self._thread is not None:
            self._ending.set()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Hold or let go, as when deactivated, and give the port back."""
        self._end_loop()
        if self._follower is None:
            return
        if self.params.release and self._follower.connection.bus is not None:
            try:
                self._follower.switch_off()
            except DriverError as error:
                self.get_logger().error(str(error))
        self._follower.close()


main = main_of(FollowerNode)
