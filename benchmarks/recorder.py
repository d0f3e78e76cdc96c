# SPDX-License-Identifier: Apache-2.0
"""The recorder over real DDS: two raw cameras 640x480 at 30 Hz and joints at 100 Hz; nothing lost, and what it costs."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from lerobot.datasets import LeRobotDataset
from rclpy._rclpy_pybind11 import RCLError  # its only place
from rclpy.publisher import Publisher
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from benchmarks.peer import TIMEOUT_S, Peer, PeerError, node_command, running
from benchmarks.registry import Options
from benchmarks.rows import Better, Row, Target
from dataset_recorder.testing import bags
from dataset_recorder.testing.datasets import priority_kept
from hilserl_ros import qos

_HEIGHT, _WIDTH, _FPS, _JOINT_HZ = 480, 640, 30, 100
_CAMERAS = ("wrist", "front")
_TOPICS = {f"{camera}/image_raw": "sensor_msgs/msg/Image" for camera in _CAMERAS} | {
    "joint_states": "sensor_msgs/msg/JointState"
}


@dataclass(frozen=True)
class _Run:
    """What a subscriber cost. cpu_s: of the process, over wall_s. sent: messages by topic. late_s: worst delay of a message
    against its schedule. resident_mb: most at any second. printed: when it ended."""

    cpu_s: float
    wall_s: float
    sent: dict[str, int]
    late_s: float
    resident_mb: float
    printed: str

    @property
    def percent(self) -> float:
        """Of one core."""
        return 100 * self.cpu_s / self.wall_s


def run(options: Options) -> Iterator[Row]:
    """The rows of this group."""
    if not any(map(options.wanted, ("recorder_kept", "recorder_cpu", "recorder_frame"))):
        return
    seconds = 8.0 if options.quick else 25.0
    pictures = {camera: list(bags.pictures(60, _HEIGHT, _WIDTH, seed)) for seed, camera in enumerate(_CAMERAS)}
    station = _Station(pictures)
    try:
        bare = station.measure([sys.executable, "-m", "benchmarks.bare_subscriber", *map(":".join, _TOPICS.items())], seconds)
        folder = options.scratch / "bags"
        words = (f"folder:={folder}", "reserve_mb:=0", "follow_actor:=false", f"topics:=[{','.join(_TOPICS)}]")
        ours = station.measure(node_command("dataset_recorder", "recorder_node", *words), seconds, recorded=True)
    finally:
        station.close()
    (bag,) = (path.parent for path in folder.rglob("metadata.yaml"))
    kept = _kept(bag)
    size = sum(file.stat().st_size for file in bag.iterdir())
    shutil.rmtree(folder)
    sent, found = sum(ours.sent.values()), sum(len(stamps) for stamps in kept.values())
    whole = all(kept[topic] == list(range(1, count + 1)) for topic, count in ours.sent.items())
    reached = int(bare.printed.split()[-1])  # the logger prints here too
    conditions = {
        "seconds": ours.wall_s, "sent": ours.sent, "latest_ms": 1e3 * ours.late_s, "bag_mb": size / 1e6,
        "raw_mb_per_s": len(_CAMERAS) * _FPS * _HEIGHT * _WIDTH * 3 / 1e6, "recorder_percent": ours.percent,
        "transport_percent": bare.percent, "resident_mb": ours.resident_mb, "in_order": whole,
        "transport_kept_percent": 100 * reached / sum(bare.sent.values()),
    }  # fmt: skip
    load = "Two cameras 640x480 RGB at 30 Hz and joints at 100 Hz over DDS into the recorder's process."
    yield Row(
        name="recorder_kept",
        ours=100 * found / sent if whole else 99.0 * found / sent,
        lerobot=None,
        unit="% of messages",
        better=Better.HIGHER,
        target=Target("at_least", 100.0),
        note=f"{load} Messages in the bag against messages published, each one looked for by its number.",
        conditions=conditions,
    )
    extra = max(ours.percent - bare.percent, 0.1)
    yield Row(
        name="recorder_cpu",
        ours=extra,
        lerobot=None,
        unit="% of a core",
        target=Target("at_most", 30.0),
        note=f"{load} Processor time of it less that of a process with the same subscriptions that does nothing "
        f"({bare.percent:.1f} %). LeRobot's figure stands per frame in recorder_frame.",
        conditions=conditions,
    )
    frames = ours.sent["wrist/image_raw"]
    count = 30 if options.quick else 150
    add_s, encode_s = _lerobot(options.scratch / "lerobot", pictures, count)
    yield Row(
        name="recorder_frame",
        ours=1e3 * extra / 100 * ours.wall_s / frames,
        lerobot=1e3 * add_s / count,
        unit="ms/frame",
        note="Processor time to put a frame (two cameras 640x480, joints) on disk. LeRobot's is add_frame alone, from memory: "
        f"PNG files, and {1e3 * encode_s / count:.0f} ms a frame for its video come on top. Ours is a bag; see convert_640 for "
        "what makes a dataset of it.",
        conditions={**conditions, "lerobot_frames": count, "lerobot_encode_ms": 1e3 * encode_s / count},
    )


class _Station(Peer):
    """Publishes the load and measures who listens."""

    def __init__(self, pictures: dict[str, list[np.ndarray]]) -> None:
        super().__init__("bench_station")
        self._payloads = {
            f"{camera}/image_raw": [_bytes("sensor_msgs/msg/Image", bags.image(frame, 0, camera)) for frame in frames]
            for camera, frames in pictures.items()
        } | {"joint_states": [_joints()]}
        classes = {"sensor_msgs/msg/Image": (Image, qos.IMAGE), "sensor_msgs/msg/JointState": (JointState, qos.JOINT_STATES)}
        self._publishers: dict[str, Publisher] = {}
        for topic, kind in _TOPICS.items():
            message, quality = classes[kind]
            self._publishers[topic] = self.node.create_publisher(message, topic, quality)

    def measure(self, command: Sequence[str], seconds: float, recorded: bool = False) -> _Run:
        """Start a subscriber, send it the load, stop it. recorded: it is a recorder, which gets a bag for it."""
        with running(command) as process:
            self.until(lambda: all(item.get_subscription_count() == 1 for item in self._publishers.values()), "subscriptions")
            if recorded:
                self._call("recorder/start_episode")
            watched = psutil.Process(process.pid)
            before, start = watched.cpu_times(), time.monotonic()
            sent, late_s, resident = self._send(seconds, watched)
            time.sleep(1.0)  # what is on its way, and the last flush
            after, end = watched.cpu_times(), time.monotonic()
            if recorded:
                self._call("recorder/stop_episode")
        cpu_s = after.user + after.system - before.user - before.system
        self.until(lambda: not any(item.get_subscription_count() for item in self._publishers.values()), "the end")
        return _Run(cpu_s, end - start, sent, late_s, resident, process.stdout.read())

    def _send(self, seconds: float, watched: psutil.Process) -> tuple[dict[str, int], float, float]:
        """The load by its schedule; messages sent by topic, the worst delay [s], most memory of the subscriber [MB]."""
        rates = {topic: _JOINT_HZ if topic == "joint_states" else _FPS for topic in _TOPICS}
        plan = sorted((n / rate, topic) for topic, rate in rates.items() for n in range(round(seconds * rate)))
        sent, late_s, resident, look_s = dict.fromkeys(_TOPICS, 0), 0.0, 0.0, 0.0
        start = time.monotonic()
        for due_s, topic in plan:
            now_s = time.monotonic() - start
            if due_s > now_s:
                time.sleep(due_s - now_s)
            else:
                late_s = max(late_s, now_s - due_s)
            sent[topic] += 1
            payloads = self._payloads[topic]
            payload = bytearray(payloads[sent[topic] % len(payloads)])
            struct.pack_into("<i", payload, 4, sent[topic])  # the seconds of the header's stamp number the messages
            self._publish(topic, bytes(payload))
            if due_s >= look_s:
                resident, look_s = max(resident, watched.memory_info().rss / 1e6), look_s + 1.0
        return sent, late_s, resident

    def _publish(self, topic: str, payload: bytes) -> None:
        """DDS refuses a message while a reader is far behind; that counts as lateness, not as a loss: it was never sent."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._publishers[topic].publish(payload)
            except RCLError as error:
                if time.monotonic() > end:
                    raise PeerError(f"{topic} could not be published for {TIMEOUT_S:.0f} s: {error}") from error

    def _call(self, name: str) -> None:
        client = self.node.create_client(Trigger, name)
        self.until(client.service_is_ready, f"the service {name}")
        answer = client.call_async(Trigger.Request())
        self.until(answer.done, f"an answer of {name}")
        self.node.destroy_client(client)
        if not answer.result().success:
            raise PeerError(f"{name}: {answer.result().message}")


def _bytes(kind: str, message: object) -> bytes:
    return bytes(bags.store().serialize_cdr(message, kind))


def _joints() -> bytes:
    names = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    values = {part: np.arange(6.0) for part in ("position", "velocity", "effort")}
    return _bytes(
        "sensor_msgs/msg/JointState",
        bags.message("sensor_msgs/msg/JointState", header=bags.header(0), name=names, **values),
    )


def _kept(bag: Path) -> dict[str, list[int]]:
    """The numbers of the messages in a bag, by topic, in their order."""
    kept: dict[str, list[int]] = {topic: [] for topic in _TOPICS}
    with AnyReader([bag]) as reader:
        for connection, _, data in reader.messages():
            kept[connection.topic.lstrip("/")].append(struct.unpack_from("<i", data, 4)[0])
    return kept


def _lerobot(folder: Path, pictures: dict[str, list[np.ndarray]], count: int) -> tuple[float, float]:
    """Processor seconds of LeRobot's add_frame for `count` frames, and of the video encoding that follows."""
    shape = {"dtype": "video", "shape": (_HEIGHT, _WIDTH, 3), "names": ["height", "width", "channels"]}
    features = {f"observation.images.{camera}": shape for camera in _CAMERAS}
    for key in ("observation.state", "action"):
        features[key] = {"dtype": "float32", "shape": (6,), "names": None}
    dataset = LeRobotDataset.create("bench/recorded", fps=_FPS, features=features, root=folder)
    joints = np.arange(6, dtype=np.float32)
    before = _cpu_s()
    for index in range(count):
        frames = {f"observation.images.{camera}": pictures[camera][index % 60] for camera in _CAMERAS}
        dataset.add_frame({**frames, "observation.state": joints, "action": joints, "task": "grasp"})
    between = _cpu_s()
    with priority_kept():
        dataset.save_episode()
        dataset.finalize()
    return between - before, _cpu_s() - between


def _cpu_s() -> float:
    """Of this process and the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
