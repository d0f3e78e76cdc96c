# SPDX-License-Identifier: Apache-2.0
"""Decoding of a joint command's bytes."""

from __future__ import annotations

import struct

import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from trajectory_msgs.msg import JointTrajectory

from hilserl_ros.convert import joint_command
from so101_description import JOINTS
from so101_driver import command_message
from so101_driver.arm import Command
from so101_driver.command_message import read_command
from so101_driver.errors import MessageError

_NAMES_AT = 20  # of the number of joints, behind encapsulation, stamp and an empty frame


def _sent(names: list[str]) -> bytes:
    return serialize_message(joint_command(Time(sec=5), dict.fromkeys(names, 0.25), 0.1))


def test_a_command_is_read() -> None:
    assert read_command(_sent(list(JOINTS))) == (5_000_000_000, Command(list(JOINTS), [0.25] * 6))
    assert read_command(serialize_message(JointTrajectory())) == (0, Command([], []))


def test_what_is_too_long_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_message, "deserialize_message", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(MessageError, match=r"it has \d{7} bytes, expected at most 4096"):
        read_command(_sent([f"joint_{index}" for index in range(100_000)]))


@pytest.mark.parametrize("size", [0, 1, 30])
def test_what_is_cut_off_is_no_command(size: int) -> None:
    with pytest.raises(MessageError, match=f"its {size} bytes are no JointTrajectory"):
        read_command(_sent(list(JOINTS))[:size])


@pytest.mark.parametrize("count", [0x0FFFFFFF, 0xFFFFFFFF])
def test_a_number_of_joints_that_is_not_there_costs_no_memory(count: int) -> None:
    data = bytearray(_sent(list(JOINTS)))
    assert struct.unpack_from("<I", data, _NAMES_AT) == (6,)
    struct.pack_into("<I", data, _NAMES_AT, count)
    with pytest.raises(MessageError, match="are no JointTrajectory"):
        read_command(bytes(data))
