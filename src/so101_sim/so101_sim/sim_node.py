# SPDX-License-Identifier: Apache-2.0
"""The simulated station: the topics of the real arm and cameras, in lockstep or by the wall clock."""

from __future__ import annotations

import array
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from hilserl_interfaces.msg import Reward
from hilserl_interfaces.srv import ResetWorld
from hilserl_ros import qos
from hilserl_ros.convert import to_ns, to_stamp
from hilserl_ros.images import rgb_to_image
from hilserl_ros.node import BaseNode, main_of
from hilserl_ros.parameters import ParameterError, parameter
from hilserl_ros.realtime import take_precedence
from so101_sim.bus_arm import BusArm
from so101_sim.config import WorldConfig
from so101_sim.scene import CAMERAS
from so101_sim.world import World

_REPEAT_S = 0.5


@dataclass(frozen=True)
class SimParameters:
    """Parameters of the sim node; those of the world are `world.*`."""

    lockstep: bool = parameter(
        True,
        "Wait for the joint command that answers each observation; else time runs by the wall clock and the newest counts.",
    )
    real_time_factor: float = parameter(
        0.0, "Speed of simulated time: 1 is real time, 0 (lockstep only) is as fast as the machine goes.",
        minimum=0.0, maximum=100.0, tunable=True,
    )  # fmt: skip
    front_width: int = parameter(
        320, "Width in pixels of the front camera, where the task does not say.", minimum=16, maximum=1920
    )
    front_height: int = parameter(240, "Height in pixels of the front camera.", minimum=16, maximum=1080)
    publish_reward: bool = parameter(True, "Publish the truth as `reward` too; false where a classifier says what success is.")
    bus_port: str = parameter(
        "",
        "Where to make a serial device with the arm's servos, for a driver in lockstep that then publishes joint_states and "
        "takes joint_command; empty: this node does.",
    )
    bus_cycle_s: float = parameter(0.01, "Time of one cycle of that driver.", minimum=0.001, maximum=0.1)
    camera_stop_after_ticks: int = parameter(
        0, "Fault for tests: the cameras fall silent after this many ticks; 0 for never.", minimum=0, tunable=True
    )


class SimNode(BaseNode[SimParameters]):
    """All of one observation carry the same stamp. While nobody answers, it is repeated for those who came late.

    `truth` says what success is: its probability is 1 while the jaws pinch the cube, 0 otherwise, whatever came before.
    """

    def __init__(self) -> None:
        super().__init__("sim", SimParameters, {"world.": WorldConfig})
        task = self.task
        self._world = World(self.tables["world."], task)
        port = self.params.bus_port
        if port and not self.params.lockstep:
            raise ParameterError("bus_port needs lockstep: a driver by the wall clock has emulate-bus")
        self._bus = BusArm(self._world, Path(port), self.params.bus_cycle_s) if port else None
        sizes = dict(zip(task.cameras, zip(task.camera_sizes[::2], task.camera_sizes[1::2], strict=True), strict=True))
        self._sizes = {camera: sizes.get(camera, (self.params.front_width, self.params.front_height)) for camera in CAMERAS}
        self._tick = 1
        self._tick_ns = round(task.tick_s * 1e9)
        self._targets = self._world.joint_positions.copy()
        self._images: dict[str, Image] = {}
        self._published_s = 0.0
        self._due_s: float | None = None  # paced lockstep: when the next observation goes out
        self._reset: tuple[int, int] | None = None  # seed of the newest world, and the tick at which it began
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.stale_commands = 0

        self._time = self.create_publisher(ClockMessage, "/clock", qos.CLOCK)
        names = ("truth", "reward") if self.params.publish_reward else ("truth",)
        self._rewards = [self.create_publisher(Reward, name, qos.recorded(qos.REWARD)) for name in names]
        self._cube = self.create_publisher(PoseStamped, "cube_pose", qos.CUBE_POSE)
        self._cameras = {camera: self.create_publisher(Image, f"{camera}/image_raw", qos.IMAGE) for camera in CAMERAS}
        self._infos = {camera: self.create_publisher(CameraInfo, f"{camera}/camera_info", qos.IMAGE) for camera in CAMERAS}
        if self._bus is None:
            self._joints = self.create_publisher(JointState, "joint_states", qos.recorded(qos.JOINT_STATES))
            self.create_subscription(JointTrajectory, "joint_command", self._on_command, qos.JOINT_COMMAND)
        else:
            self.create_subscription(JointState, "joint_states", self._on_driven, qos.JOINT_STATES)
        self.create_service(ResetWorld, "~/reset", self._on_reset)
        if self.params.lockstep:
            self.create_timer(_REPEAT_S / 2, self._on_repeat, clock=self._steady)
            self._pace = self.create_timer(3600.0, self._on_pace, clock=self._steady, autostart=False)
            self._publish()
        else:
            factor = self.params.real_time_factor or 1.0
            self._pace = self.create_timer(task.tick_s / factor, self._on_wall_tick, clock=self._steady)
            take_precedence()  # real cameras and servos do not wait for other programs either

    @property
    def stamp_ns(self) -> int:
        """Stamp of the current observation."""
        return self._tick * self._tick_ns

    def _on_reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        # A request that is repeated since its answer came late finds its world: a run does not depend on how late that was.
        again = self._reset == (request.seed, self._tick)
        if not again:
            try:
                (self._bus or self._world).reset(request.seed)
            except ValueError as error:
                response.success, response.message = False, str(error)
                return response
            self._targets = self._world.joint_positions.copy()
            self._tick += 1
            self._due_s = None
            self._reset = (request.seed, self._tick)
        response.success = True
        response.stamp = to_stamp(self.stamp_ns)
        self._publish(again)
        return response

    def _on_command(self, message: JointTrajectory) -> None:
        if self.params.lockstep and (to_ns(message.header.stamp) != self.stamp_ns or self._waiting_for_pace):
            self.stale_commands += 1
            return
        targets = self._read(message)
        if targets is None:
            return
        self._targets = targets
        if self.params.lockstep:
            self._step()
            self._publish_paced()

    def _on_driven(self, message: JointState) -> None:
        """The driver has carried out a command for one tick, and says where the arm is then."""
        if to_ns(message.header.stamp) == self.stamp_ns + self._tick_ns:
            with self._bus.still():
                self._world.end_tick()
            self._tick += 1
            self._publish_paced()

    def _read(self, message: JointTrajectory) -> np.ndarray | None:
        """Joint targets (J,) rad within the joint limits; None, and said, when the message is not a command for this arm."""
        joints = self.task.joints
        positions = message.points[0].positions if len(message.points) == 1 else ()
        by_name = dict(zip(message.joint_names, positions, strict=False))
        if set(by_name) != set(joints) or len(positions) != len(joints) or not all(map(math.isfinite, positions)):
            self.get_logger().error(
                f"joint_command is refused: it holds {by_name or 'no point'}, expected a finite position for each of {joints}",
                throttle_duration_sec=5.0,
            )
            return None
        kinematics = self._world.kinematics
        return np.clip([by_name[joint] for joint in joints], kinematics.lower, kinematics.upper)

    def _step(self) -> None:
        self._world.step(self._targets)
        self._tick += 1

    def _on_wall_tick(self) -> None:
        self._step()
        self._publish()

    @property
    def _waiting_for_pace(self) -> bool:
        return self._due_s is not None and not self._pace.is_canceled()

    def _publish_paced(self) -> None:
        """At once, or when simulated time is due by the wall clock."""
        factor, now = self.params.real_time_factor, time.monotonic()
        if factor == 0.0:
            self._publish()
            return
        interval = self.task.tick_s / factor
        due = (self._due_s or self._published_s) + interval
        self._due_s = due if now - due < interval else now  # after a long pause, do not race to catch up
        self._pace.timer_period_ns = max(1, round((self._due_s - now) * 1e9))
        self._pace.reset()

    def _on_pace(self) -> None:
        self._pace.cancel()
        self._publish()

    def _on_repeat(self) -> None:
        if time.monotonic() - self._published_s >= _REPEAT_S and not self._waiting_for_pace:
            self._publish(again=True)

    def _publish(self, again: bool = False) -> None:
        """The current observation, images last: they take longest."""
        self._published_s = time.monotonic()
        stamp = to_stamp(self.stamp_ns)
        self._time.publish(ClockMessage(clock=stamp))
        with self._bus.still() if self._bus is not None else nullcontext():
            self._publish_world(stamp)
            self._publish_images(stamp, again)

    def _publish_world(self, stamp: object) -> None:
        world = self._world
        if self._bus is None:
            joints = JointState(name=list(self.task.joints))
            joints.header.stamp = stamp
            joints.position = array.array("d", world.joint_positions)
            joints.velocity = array.array("d", world.joint_velocities)
            joints.effort = array.array("d", world.joint_efforts)
            self._joints.publish(joints)
        if self._cube.get_subscription_count():
            self._cube.publish(self._cube_message(stamp))
        truth = Reward(probability=float(world.grasp().pinched), success=world.success, artifact="simulation")
        truth.reward = self.task.success_reward if world.success else 0.0
        truth.header.stamp = stamp
        for publisher in self._rewards:
            publisher.publish(truth)

    def _publish_images(self, stamp: object, again: bool) -> None:
        stop = self.params.camera_stop_after_ticks
        if stop and self._tick > stop:
            return
        if not again:
            self._images.clear()
        for camera, publisher in self._cameras.items():
            if not publisher.get_subscription_count():
                continue
            if camera not in self._images:
                pixels = self._world.render(camera, *self._sizes[camera])
                self._images[camera] = rgb_to_image(pixels, stamp, f"{camera}_camera_optical_frame")
            publisher.publish(self._images[camera])
            if self._infos[camera].get_subscription_count():
                self._infos[camera].publish(self._camera_info(camera, stamp))

    def _cube_message(self, stamp: object) -> PoseStamped:
        position, quaternion = self._world.cube_pose
        message = PoseStamped()
        message.header.stamp, message.header.frame_id = stamp, "base_link"
        place, turn = message.pose.position, message.pose.orientation
        place.x, place.y, place.z = map(float, position)
        turn.x, turn.y, turn.z, turn.w = map(float, quaternion)
        return message

    def _camera_info(self, camera: str, stamp: object) -> CameraInfo:
        """A pinhole without distortion; focal length in pixels from the vertical field of view."""
        width, height = self._sizes[camera]
        fovy = math.radians(getattr(self.tables["world."], f"{camera}_fovy_deg"))
        focal = height / (2 * math.tan(fovy / 2))
        message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
        message.header.stamp, message.header.frame_id = stamp, f"{camera}_camera_optical_frame"
        message.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
        message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        message.p = [focal, 0.0, width / 2, 0.0, 0.0, focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
        return message

    def on_parameters(self, params: SimParameters) -> None:
        """A new speed counts from the next tick on."""
        if not params.lockstep:
            self._pace.timer_period_ns = round(1e9 * self.task.tick_s / (params.real_time_factor or 1.0))

    def close(self) -> None:
        """Free the drawing contexts, and take the serial device away."""
        if self._bus is not None:
            self._bus.close()
        self._world.close()


def main() -> None:
    """The console entry point."""
    main_of(SimNode)()
