# SPDX-License-Identifier: Apache-2.0
"""The nodes' parameter tables; those of `SafetyConfig` are `safety.*`, of `HandoverConfig` `handover.*`, of `Mapping`
`mapping.*`."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_core.task import TaskSpec
from hilserl_ros.parameters import parameter

_READING = 0.8  # of a cycle


@dataclass(frozen=True)
class FollowerParameters:
    """Parameters of the follower node."""

    port: str = parameter("", "Serial port of the arm; empty: the USB port with servos 1 to 6, or that of usb_serial.")
    usb_serial: str = parameter("", "Serial number of the arm's USB adapter, by which it is found under any name.")
    calibration: str = parameter("follower", "Name of the arm, as LeRobot calibrated it, or the path of a calibration file.")
    write_calibration: bool = parameter(False, "Write that calibration into the servos, which makes the arm limp.")
    rate_hz: float = parameter(100.0, "Cycles of reading, deciding and writing.", minimum=10.0, maximum=200.0)
    reply_timeout_s: float = parameter(
        0.004, "How long a servo's answer may take beyond its time on the wire.", minimum=0.0005, maximum=10.0
    )
    retries: int = parameter(1, "How often a servo that did not answer is asked again in the same cycle.", minimum=0, maximum=5)
    release: bool = parameter(False, "Let go when the node is deactivated or ends, so that the arm sinks; else it holds.")
    estop_file: str = parameter(
        "", "File that keeps an emergency stop over a restart; empty: one for each calibration in reach-grasp/estop under "
        "XDG_STATE_HOME (~/.local/state).",
    )  # fmt: skip
    home_rad: tuple[float, ...] = parameter(
        (0.0, -0.9, 0.9, 0.9, 0.0, 0.0), "Where the arm goes when told to go home, one angle per joint."
    )
    home_velocity_rad_s: float = parameter(0.5, "How fast it goes there.", minimum=0.05, maximum=2.0, tunable=True)
    torque_nm: tuple[float, ...] = parameter(
        (0.0,) * 6,
        "Largest torque of each joint's servo: joint_states then has an effort, a servo's load as last heard times that, which "
        "is an estimate. Zeros: no effort.",
        minimum=0.0,
        maximum=20.0,
    )
    lockstep: bool = parameter(
        False, "With a simulation behind an emulated bus: a command is carried out for one tick of its time, then all wait."
    )
    autostart: bool = parameter(
        True, "Configure and activate as soon as the arm is there; else whoever manages the lifecycle does."
    )

    def __post_init__(self) -> None:
        if len(self.home_rad) != 6:
            raise ValueError(f"home_rad has {len(self.home_rad)} values, expected 6, one per joint")
        if len(self.torque_nm) != 6:
            raise ValueError(f"torque_nm has {len(self.torque_nm)} values, expected 6, one per joint")


@dataclass(frozen=True)
class RelayParameters:
    """Parameters of the command relay, beside somebody else's driver."""

    command_type: str = parameter(
        "JointTrajectory",
        "What its controller takes: JointTrajectory, as a joint_trajectory_controller, or Float64MultiArray, as a "
        "forward_command_controller.",
        choices=("JointTrajectory", "Float64MultiArray"),
    )
    rate_hz: float = parameter(100.0, "Cycles of deciding and sending.", minimum=10.0, maximum=500.0)
    estop_file: str = parameter(
        "", "File that keeps an emergency stop over a restart; empty: one for each topic of commands, in reach-grasp/estop "
        "under XDG_STATE_HOME (~/.local/state).",
    )  # fmt: skip


@dataclass(frozen=True)
class LeaderParameters:
    """Parameters of the leader node."""

    port: str = parameter("", "Serial port of the arm; empty: the USB port with servos 1 to 6, or that of usb_serial.")
    usb_serial: str = parameter("", "Serial number of the arm's USB adapter, by which it is found under any name.")
    calibration: str = parameter("leader", "Name of the arm, as LeRobot calibrated it, or the path of a calibration file.")
    write_calibration: bool = parameter(False, "Write that calibration into the servos.")
    rate_hz: float = parameter(100.0, "Cycles of reading, deciding and writing.", minimum=10.0, maximum=200.0)
    reply_timeout_s: float = parameter(
        0.004, "How long a servo's answer may take beyond its time on the wire.", minimum=0.0005, maximum=10.0
    )
    retries: int = parameter(1, "How often a servo that did not answer is asked again in the same cycle.", minimum=0, maximum=5)
    mode: str = parameter(
        "teleop",
        "What a person who drives moves: teleop, in the policy's action space, for an actor; mirror, the robot's joints.",
        choices=("teleop", "mirror"),
    )
    release: bool = parameter(True, "Let go when the node ends; else a leader that follows stays stiff.")
    lockstep: bool = parameter(
        False,
        "Answer every observation of a simulation that waits for it, once, and again when it is repeated; in mode teleop.",
    )

    def __post_init__(self) -> None:
        if self.lockstep and self.mode != "teleop":
            raise ValueError(f"lockstep is for mode teleop, mode is {self.mode}: it does not answer every observation")


def timing(params: FollowerParameters | LeaderParameters) -> dict[str, float]:
    """How an arm is read: within a cycle there has to be time left for the rest, unless an answer may take longer than that."""
    budget_s = max(_READING / params.rate_hz, params.reply_timeout_s)
    return {"reply_timeout_s": params.reply_timeout_s, "retries": params.retries, "budget_s": budget_s}


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of a camera node."""

    camera: str = parameter("wrist", "Name of the camera: the prefix of its topics, as task.cameras has it.")
    source: str = parameter(
        "/dev/video0", "Device (best its path under /dev/v4l/by-id), the path of a video file, or the address of a stream."
    )
    width: int = parameter(640, "Width in pixels, where the task does not say.", minimum=16, maximum=4096)
    height: int = parameter(480, "Height in pixels, where the task does not say.", minimum=16, maximum=4096)
    fps: float = parameter(30.0, "Frames per second asked of a device; a file has its own.", minimum=1.0, maximum=240.0)
    fourcc: str = parameter("MJPG", "Pixel format asked of a device; two cameras on one USB bus need a compressed one.")
    exposure: int = parameter(
        0, "Fixed exposure in the device's units (100 µs with USB cameras); 0: automatic.", minimum=0, maximum=1_000_000
    )
    white_balance_k: int = parameter(0, "Fixed white balance, a colour temperature; 0: automatic.", minimum=0, maximum=20_000)
    loop: bool = parameter(True, "Begin a video file again at its end.")
    timeout_s: float = parameter(
        1.0, "Without a good frame for this long the camera is opened again.", minimum=0.1, maximum=60.0
    )
    frozen_frames: int = parameter(
        30, "As many frames alike to the last byte mean that the camera is frozen; 0: it may stand still.", minimum=0
    )
    quality: int = parameter(90, "Quality of the JPEG on image_raw/compressed.", minimum=1, maximum=100, tunable=True)
    camera_info: str = parameter("", "File of the camera's calibration, as camera_calibration writes it; empty: none.")

    def __post_init__(self) -> None:
        if not self.camera or not self.source:
            raise ValueError(f"{'source' if self.camera else 'camera'} is empty, a camera needs both a name and a source")
        if len(self.fourcc) != 4:
            raise ValueError(f"fourcc is '{self.fourcc}', expected four letters such as MJPG or YUYV")
        if self.frozen_frames == 1:
            raise ValueError("frozen_frames is 1, expected 0 or at least 2: every frame is like itself")

    def size(self, task: TaskSpec) -> tuple[int, int]:
        """Width and height [pixels] of what the camera must deliver: the task's word, and only where it has none, ours."""
        if self.camera not in task.cameras:
            return self.width, self.height
        index = 2 * task.cameras.index(self.camera)
        return task.camera_sizes[index], task.camera_sizes[index + 1]


@dataclass(frozen=True)
class GamepadParameters:
    """Parameters of the gamepad node; what its controls mean is `mapping.*`."""

    device: str = parameter(
        "",
        "Input device: its path (best under /dev/input/by-id) or a part of its name; empty: the only one that has every "
        "control of the mapping; joy: none, another node publishes joy.",
    )
    mode: str = parameter(
        "teleop",
        "What a person who drives moves: teleop, in the policy's action space, for an actor; drive, the robot itself; events, "
        "nothing: beside a leader.",
        choices=("teleop", "drive", "events"),
    )
    lockstep: bool = parameter(
        False, "Mode teleop, with a simulation that waits: answer every observation once, instead of at task.fps."
    )
    grab: bool = parameter(False, "What is pressed reaches no other program: for a keyboard of its own.")
    debounce_s: float = parameter(
        0.05, "A button pressed again sooner than this after it was let go has bounced.", minimum=0.0, maximum=1.0
    )
    joy_timeout_s: float = parameter(
        0.5, "Without joy from another node for this long its gamepad is away.", minimum=0.05, maximum=10.0
    )
    rate_hz: float = parameter(100.0, "How often the device is looked at.", minimum=20.0, maximum=500.0)
