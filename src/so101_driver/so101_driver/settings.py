# SPDX-License-Identifier: Apache-2.0
"""The parameter tables of follower and leader; those of `SafetyConfig` are `safety.*`, of `HandoverConfig` `handover.*`."""

from __future__ import annotations

from dataclasses import dataclass

from hilserl_ros.parameters import parameter


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
