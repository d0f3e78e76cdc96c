# SPDX-License-Identifier: Apache-2.0
"""A test that plays the arm, the camera and the actor of the recorder, and reads its bags."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState

from hilserl_interfaces.msg import EpisodeEvent, EpisodeStatus, Step
from hilserl_ros import qos
from hilserl_ros.images import rgb_to_image
from hilserl_ros.testing import Rig, node_command

TIMEOUT_S = 30.0


class Station(Rig):
    """What the recorder hears."""

    def __init__(self, folder: Path) -> None:
        """folder: of the bags."""
        super().__init__(5, TIMEOUT_S)
        self.folder = folder
        create = self.node.create_publisher
        self.joints = create(JointState, "joint_states", qos.JOINT_STATES)
        self.image = create(Image, "wrist/image_raw", qos.IMAGE)
        self.steps = create(Step, "steps", qos.STEPS)
        self.status = create(EpisodeStatus, "episode/status", qos.STATUS)
        self.event = create(EpisodeEvent, "episode/event", qos.EPISODE_EVENT)
        self.number = 0

    def begin(self, *parameters: str, folder: Path | None = None, disk: str = "") -> tuple[Station, subprocess.Popen]:
        """Start a recorder; disk: mount options of one of its own, which only this process sees, at the folder."""
        folder = folder or self.folder
        command = node_command("dataset_recorder", "recorder_node", (f"folder:={folder}", "reserve_mb:=0", *parameters))
        if disk:
            folder.mkdir()
            mount = f'mount -t tmpfs -o {disk} none "$0" && exec "$@"'
            command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(folder), *command]
        return self, self.spawn(command)

    def say(self, episode: int, phase: int = EpisodeStatus.RUNNING) -> None:
        self.status.publish(EpisodeStatus(run_id="run", episode=episode, phase=phase))

    def observe(self) -> int:
        """Joints and an image; the number that the joints carry."""
        self.number += 1
        self.joints.publish(JointState(name=["pan"], position=[float(self.number)], velocity=[0.0], effort=[0.0]))
        self.image.publish(rgb_to_image(np.full((16, 16, 3), self.number % 256, np.uint8)))
        return self.number


def ready(station: Station) -> None:
    """The recorder takes everything that this test publishes."""
    everything = (station.joints, station.image, station.steps, station.status, station.event)
    station.until(lambda: all(publisher.get_subscription_count() for publisher in everything), "the recorder's subscriptions")


def numbers_of(bag: Path) -> list[int]:
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == "/joint_states"]
        return [int(reader.deserialize(data, c.msgtype).position[0]) for c, _, data in reader.messages(connections=connections)]


def count_of(bag: Path, topic: str) -> int:
    with AnyReader([bag]) as reader:
        return sum(connection.msgcount for connection in reader.connections if connection.topic == topic)


def recorded(bag: Path) -> Callable[[], bool]:
    return lambda: (bag / "metadata.yaml").is_file()


def reported(station: Station, key: str) -> list[int]:
    """What the recorder's diagnostics say of it from now on."""
    found: list[int] = []

    def report(message: DiagnosticArray) -> None:
        found.extend(int(item.value) for status in message.status for item in status.values if item.key == key)

    station.node.create_subscription(DiagnosticArray, "diagnostics", report, qos.DIAGNOSTICS)
    return found


def sequences_of(bag: Path) -> list[int]:
    with AnyReader([bag]) as reader:
        steps = [connection for connection in reader.connections if connection.topic == "/steps"]
        return [reader.deserialize(data, c.msgtype).sequence for c, _, data in reader.messages(connections=steps)]


def errors_of(process: subprocess.Popen) -> list[str]:
    """Errors of a recorder, which ends."""
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait(20) == 0 and "Traceback" not in said, said
    return [line for line in said.splitlines() if "[ERROR]" in line or "[FATAL]" in line]
