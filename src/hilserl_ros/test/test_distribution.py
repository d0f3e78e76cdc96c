# SPDX-License-Identifier: Apache-2.0
"""The name of the ROS 2 that runs, whatever a shell has sourced."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from hilserl_ros import distribution


@pytest.mark.parametrize(
    ("rclpy", "sourced", "expected"),
    [
        ("7.1.6", None, "jazzy"),
        ("9.1.2", "jazzy", "kilted"),
        ("99.0.0", "rolling", "rolling"),
        (None, "rolling", "rolling"),
        ("99.0.0", None, "unknown"),
    ],
)
def test_rclpys_version_counts_above_what_is_sourced(monkeypatch, rclpy, sourced, expected):
    def version(name: str) -> str:
        if rclpy is None:
            raise PackageNotFoundError(name)
        return rclpy

    monkeypatch.setattr(distribution, "version", version)
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    if sourced:
        monkeypatch.setenv("ROS_DISTRO", sourced)
    assert distribution.distribution() == expected
