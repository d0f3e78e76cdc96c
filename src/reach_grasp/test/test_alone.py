# SPDX-License-Identifier: Apache-2.0
"""A system is not started beside another one that would drive the same arm."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from hilserl_ros.testing import Rig
from reach_grasp.command import main
from reach_grasp.errors import CommandError
from reach_grasp.running import alone
from reach_grasp.specs import NodeSpec

_NODE = """
import sys, rclpy
rclpy.init()
node = rclpy.create_node(sys.argv[1], namespace=sys.argv[2])
print("ready", flush=True)
rclpy.spin(node)
"""
SPECS = [NodeSpec("so101_driver", "follower_node", "follower"), NodeSpec("rviz2", "rviz2", "rviz2", optional=True)]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a node by its name and namespace, in the domain in which the command looks."""
    rig = Rig(8, 20.0)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(rig.domain))
    monkeypatch.setattr(alone, "SEEK_S", 20.0)  # a busy machine discovers slowly
    rig.close()
    started = []

    def node(name: str, namespace: str = "/") -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", _NODE, name, namespace], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process

    yield node
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_system_in_one_domain_is_refused_by_the_name_of_its_nodes(start, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(alone, "LEAVE_S", 1.0)
    start("follower")
    with pytest.raises(CommandError, match=r"^/follower already runs in ROS domain \d+: end that system first, or set ROS_DOM"):
        alone.check_alone(SPECS, lambda line: None)
    monkeypatch.chdir(tmp_path)
    assert main(["teleop", "--sim", "false"]) == 2 and "/follower already runs" in capsys.readouterr().err


def test_other_names_and_namespaces_are_nobodys_business(start, monkeypatch) -> None:
    start("follower", "/left")
    start("rviz2")
    monkeypatch.setattr(alone, "SEEK_S", 2.0)
    alone.check_alone(SPECS)


def test_a_system_that_is_just_ending_is_waited_for(start, monkeypatch) -> None:
    process, said = start("follower"), []

    def say(line: str) -> None:
        said.append(line)
        process.terminate()

    monkeypatch.setattr(alone, "LEAVE_S", 60.0)
    alone.check_alone(SPECS, say)
    assert said == ["waiting up to 60 s for another system to end: /follower still runs"] and process.wait() is not None
