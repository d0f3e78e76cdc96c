# SPDX-License-Identifier: Apache-2.0
"""Small bags, and how anyone reads them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from mcap.reader import NonSeekingReader, SeekingReader
from mcap_ros2.decoder import DecoderFactory
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from sensor_msgs.msg import JointState

from dataset_recorder.bag_writer import BagWriter, Topic
from hilserl_ros.images import rgb_to_image

FOREVER = QosTime(2147483647, 4294967295)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, FOREVER, FOREVER,
    QosLiveliness.AUTOMATIC, FOREVER, False,
)  # fmt: skip
TOPICS = [
    Topic("/joint_states", "sensor_msgs/msg/JointState"),
    Topic("/wrist/image_raw", "sensor_msgs/msg/Image", (LATCHED,)),
    Topic("/steps", "hilserl_interfaces/msg/Step"),
]
IMAGE = rgb_to_image(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8), frame_id="wrist")


def joints(number: int) -> bytes:
    """A serialised message that holds its number."""
    # every part filled: rclpy pads what it serialises of empty ones, which DDS does not
    return serialize_message(JointState(name=["pan"], position=[float(number)], velocity=[0.5], effort=[0.1]))


def write(folder: Path, count: int, close: bool = True) -> BagWriter:
    """A bag with so many messages of joints and of the camera."""
    writer = BagWriter(folder, TOPICS, {"task": "grasp"})
    image = serialize_message(IMAGE)
    for number in range(count):
        writer.write("/joint_states", 1000 + 10 * number, joints(number))
        writer.write("/wrist/image_raw", 1001 + 10 * number, image)
    if close:
        writer.close()
    return writer


def numbers(folder: Path) -> list[int]:
    """The joint messages of a bag in order, read with the definitions that the bag itself holds."""
    with AnyReader([folder]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == "/joint_states"]
        return [
            int(reader.deserialize(data, connection.msgtype).position[0])
            for connection, _, data in reader.messages(connections=connections)
        ]


def by_reader(folder: Path) -> dict[str, dict[str, list[float]]]:
    """What each reader finds in a bag: reader -> topic -> values of its messages in their order."""

    def value(message: object) -> float:
        return message.position[0] if hasattr(message, "position") else getattr(message, "sequence", None) or message.width

    found: dict[str, dict[str, list[float]]] = {}
    with AnyReader([folder]) as reader:
        found["rosbags"] = {connection.topic: [] for connection in reader.connections}
        for connection, _, data in reader.messages():
            found["rosbags"][connection.topic].append(value(reader.deserialize(data, connection.msgtype)))
    (file,) = folder.glob("*.mcap")
    for name, kind in (("by index", SeekingReader), ("front to back", NonSeekingReader)):
        with file.open("rb") as stream:
            reader = kind(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
            found[name] = {topic: [] for topic in found["rosbags"]}
            for _, channel, _, message in reader.iter_decoded_messages():
                found[name][channel.topic].append(value(message))
    return found


def metadata(folder: Path) -> dict:
    """What metadata.yaml says."""
    return yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
