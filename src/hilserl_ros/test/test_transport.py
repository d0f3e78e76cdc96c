# SPDX-License-Identifier: Apache-2.0
"""What is asked of Fast DDS, that whoever has asked already is left alone, and that it cannot make a node deaf."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from std_msgs.msg import String

from hilserl_ros.distribution import distribution
from hilserl_ros.testing import Rig
from hilserl_ros.transport import LOCAL, NETWORK, small_datagrams, use_udp

NAMES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
SET = NAMES[:1] if distribution() == "kilted" else NAMES  # Kilted warns of the other
PORTS = ("fastdds_port", "fastrtps_port")  # as Fast DDS 3 and 2 name them
DOMAIN = 3  # from the environment's

LISTENER = """
import rclpy
from hilserl_ros.node import run_node
from rclpy.node import Node
from std_msgs.msg import String

class Listener(Node):
    def __init__(self):
        super().__init__("listener")
        self.create_subscription(String, "word", lambda message: print("heard", flush=True), 10)
        self.word = self.create_publisher(String, "answer", 10)
        self.create_timer(0.1, lambda: self.word.publish(String(data="x" * 300_000)))
        print("ready", flush=True)

    def close(self):
        pass

"""
OURS = "run_node(Listener)"
THEIRS = "rclpy.init()\nrclpy.spin(Listener())"


@pytest.fixture(params=["LOCALHOST", "SUBNET"])
def plain(request, monkeypatch) -> None:
    """An environment in which nobody has chosen anything, and how far nodes look for one another."""
    for name in (*NAMES, "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", request.param)


@contextmanager
def _listener(how: str) -> Iterator[subprocess.Popen]:
    environment = {**os.environ, "ROS_DOMAIN_ID": str(int(os.environ["ROS_DOMAIN_ID"]) + DOMAIN)}
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER + how], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            os.set_blocking(process.stdout.fileno(), False)
            yield process
        finally:
            process.kill()


def _talk(listener: subprocess.Popen) -> None:
    """Until each has heard the other."""
    rig, answers, heard = Rig(DOMAIN, timeout_s=60.0), [], []
    try:
        word = rig.node.create_publisher(String, "word", 10)
        rig.node.create_subscription(String, "answer", answers.append, 10)

        def told() -> bool:
            word.publish(String(data="?"))
            heard.append(listener.stdout.readline())
            return "heard\n" in heard and bool(answers)

        rig.until(told, "one another")
    finally:
        rig.close()


def _ports(pid: int) -> set[Path]:
    """The segments of Fast DDS's shared memory through which a process is reached or reaches others."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5].removesuffix(" (deleted)")) for line in lines if any(port in line for port in PORTS)}


def test_whoever_has_chosen_profiles_or_transports_is_left_alone():
    environment: dict[str, str] = {}
    use_udp(environment)
    assert environment == dict.fromkeys(SET, str(LOCAL))
    network = dict.fromkeys(SET, str(NETWORK))
    assert small_datagrams(environment) == network, "a node for the network, started by one that uses UDP"
    assert LOCAL.is_file() and NETWORK.is_file()
    for name in (*NAMES, "FASTDDS_BUILTIN_TRANSPORTS"):
        chosen = {name: "mine"}
        use_udp(chosen)
        assert chosen == {name: "mine"} and small_datagrams(chosen) == {}


@pytest.mark.parametrize("distribution", ["jazzy", "kilted", None])
def test_a_node_opens_no_shared_memory_whatever_the_environment_says_of_the_distribution(plain, monkeypatch, distribution):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    if distribution:
        monkeypatch.setenv("ROS_DISTRO", distribution)
    with _listener(THEIRS) as listener:
        assert _ports(listener.pid), "what is looked for is found where it is"
    with _listener(OURS) as listener:
        assert not _ports(listener.pid)


def test_who_takes_its_segments_for_left_over_does_not_make_a_node_deaf(plain):
    with _listener(OURS) as listener:
        for port in _ports(listener.pid):
            port.unlink(missing_ok=True)  # as Fast DDS does: a newcomer makes a new one of this name
        _talk(listener)


def test_programs_with_the_transports_of_fast_dds_hear_and_are_heard(plain):
    """Such as rviz or `ros2 topic echo`."""
    with _listener(THEIRS) as listener:
        assert _ports(listener.pid)
        use_udp(os.environ)
        _talk(listener)
