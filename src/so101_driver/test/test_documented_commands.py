# SPDX-License-Identifier: Apache-2.0
"""What the documentation tells a person to type fits the follower: names, types, fields. It is parsed here, not run."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
import yaml

from so101_driver.follower_node import FollowerNode

DOCS = Path(__file__).parents[3] / "docs"
COMMAND = re.compile(r'ros2 (?:topic pub --once|service call) (\S+) (\S+) "(.+)"')


@pytest.fixture
def follower() -> Iterator[FollowerNode]:
    rclpy.init(args=["--ros-args", "-p", "autostart:=false", "-p", "lockstep:=true"])
    node = FollowerNode()
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def fill(message: object, values: dict[str, object]) -> None:
    """Raises AttributeError for a field that is not there, AssertionError for a value of another type."""
    for key, value in values.items():
        if isinstance(value, dict):
            fill(getattr(message, key), value)
        else:
            setattr(message, key, value)


def test_the_commands_in_the_documentation_fit_the_follower(follower):
    known = follower.get_subscriber_names_and_types_by_node("follower", "/")
    known += follower.get_service_names_and_types_by_node("follower", "/")
    found = [match.groups() for file in DOCS.glob("*.md") for match in COMMAND.finditer(file.read_text())]
    assert len(found) == 2
    for name, kind, values in found:
        package, folder, word = kind.split("/")
        made = getattr(importlib.import_module(f"{package}.{folder}"), word)
        fill(made.Request() if folder == "srv" else made(), yaml.safe_load(values))
        assert (name, [kind]) in known, (name, kind, known)
