# SPDX-License-Identifier: Apache-2.0
"""Bags: what was recorded is read back, by anyone, also after a kill, a full disk or a torn chunk."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ament_index_python.packages import get_package_share_directory
from mcap.reader import NonSeekingReader, SeekingReader
from mcap_ros2.decoder import DecoderFactory
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from sensor_msgs.msg import JointState

from dataset_recorder.bag_writer import UNFINISHED, BagWriter, Topic
from dataset_recorder.errors import RecordingError
from dataset_recorder.recording import Recording
from dataset_recorder.repair import repair
from hilserl_interfaces.msg import Step
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


def _joints(number: int) -> bytes:
    # every part filled: rclpy pads what it serialises of empty ones, which DDS does not
    return serialize_message(JointState(name=["pan"], position=[float(number)], velocity=[0.5], effort=[0.1]))


def _write(folder: Path, count: int, close: bool = True) -> BagWriter:
    writer = BagWriter(folder, TOPICS, {"task": "grasp"})
    image = serialize_message(IMAGE)
    for number in range(count):
        writer.write("/joint_states", 1000 + 10 * number, _joints(number))
        writer.write("/wrist/image_raw", 1001 + 10 * number, image)
    if close:
        writer.close()
    return writer


def _numbers(folder: Path) -> list[int]:
    """The joint messages of a bag in order, read with the definitions that the bag itself holds."""
    with AnyReader([folder]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == "/joint_states"]
        return [
            int(reader.deserialize(data, connection.msgtype).position[0])
            for connection, _, data in reader.messages(connections=connections)
        ]


def _by_reader(folder: Path) -> dict[str, dict[str, list[float]]]:
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


def _metadata(folder: Path) -> dict:
    return yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]


def test_a_bag_gives_back_bytes_times_types_qos_and_notes(tmp_path):
    step = Step(run_id="run", sequence=7, images=[IMAGE], state=[0.5], action=[1.0, -1.0])
    writer = _write(tmp_path / "bag", 3, close=False)
    payload = serialize_message(step)
    writer.write("/steps", 5000, payload)
    writer.close()
    assert not (tmp_path / "bag" / UNFINISHED).exists()
    with AnyReader([tmp_path / "bag"]) as reader:
        assert [stamp for _, stamp, _ in reader.messages()] == [1000, 1001, 1010, 1011, 1020, 1021, 5000]
        by_topic = {connection.topic: connection for connection in reader.connections}
        (found,) = (data for _, _, data in reader.messages(connections=[by_topic["/steps"]]))
        assert bytes(found) == payload
        read = reader.deserialize(found, by_topic["/steps"].msgtype)
        assert read.sequence == 7 and np.array_equal(read.images[0].data, np.frombuffer(IMAGE.data, np.uint8))
        assert by_topic["/wrist/image_raw"].ext.offered_qos_profiles == [LATCHED]
    assert _metadata(tmp_path / "bag")["custom_data"] == {"task": "grasp"}


@pytest.mark.parametrize("killed", [False, True])
def test_a_bag_is_as_rosbag2_writes_it(tmp_path, killed):
    """What rosbag2_storage/yaml.hpp and mcap_storage.cpp of rosbag2 read of a bag of version 9."""
    bag = tmp_path / "bag"
    writer = _write(bag, 3, close=not killed)
    if killed:
        writer.flush()
        writer.abort()
        repair(bag)
    found = _metadata(bag)
    assert (found["version"], found["storage_identifier"], found["message_count"]) == (9, "mcap", 6)
    assert (found["compression_format"], found["compression_mode"]) == ("", "")  # its own, not that of MCAP chunks
    assert found["starting_time"] == {"nanoseconds_since_epoch": 1000} and found["duration"] == {"nanoseconds": 21}
    (file,) = found["files"]
    assert file == {"path": "bag.mcap"} | {key: found[key] for key in ("starting_time", "duration", "message_count")}
    assert found["relative_file_paths"] == ["bag.mcap"] and (bag / "bag.mcap").is_file()
    assert found["custom_data"] == {"task": "grasp"} and isinstance(found["ros_distro"], str)
    topics = {item["topic_metadata"]["name"]: item for item in found["topics_with_message_count"]}
    assert {name: item["message_count"] for name, item in topics.items()} == {
        "/joint_states": 3, "/wrist/image_raw": 3, "/steps": 0,
    }  # fmt: skip
    with (bag / "bag.mcap").open("rb") as stream:
        summary = SeekingReader(stream).get_summary()
    channels = {channel.topic: channel.metadata for channel in summary.channels.values()}
    forever = {"sec": FOREVER.sec, "nsec": FOREVER.nsec}
    latched = {
        "history": "keep_last", "depth": 1, "reliability": "reliable", "durability": "transient_local", "deadline": forever,
        "lifespan": forever, "liveliness": "automatic", "liveliness_lease_duration": forever,
        "avoid_ros_namespace_conventions": False,
    }  # fmt: skip
    for topic in TOPICS:
        package, _, short = topic.type.split("/")
        generated = json.loads((Path(get_package_share_directory(package)) / "msg" / f"{short}.json").read_text())
        known = {item["type_name"]: item["hash_string"] for item in generated["type_hashes"]}  # those of ROS itself
        qos = [latched] if topic.qos else []
        assert topics[topic.name]["topic_metadata"] == {
            "name": topic.name, "type": topic.type, "serialization_format": "cdr", "offered_qos_profiles": qos,
            "type_description_hash": known[topic.type],
        }  # fmt: skip
        assert channels[topic.name]["topic_type_hash"] == known[topic.type]
        assert yaml.safe_load(channels[topic.name]["offered_qos_profiles"]) == qos


def test_every_reader_knows_every_type_from_the_bag_alone(tmp_path):
    writer = _write(tmp_path / "bag", 3, close=False)
    writer.write("/steps", 5000, serialize_message(Step(run_id="run", sequence=7, images=[IMAGE], state=[0.5])))
    writer.close()
    found = _by_reader(tmp_path / "bag")
    assert found["rosbags"] == {"/joint_states": [0, 1, 2], "/wrist/image_raw": [64] * 3, "/steps": [7]}
    assert found["by index"] == found["front to back"] == found["rosbags"]


def test_the_hash_of_a_type_is_the_one_ros_computes(tmp_path):
    _write(tmp_path / "bag", 1)
    text = (tmp_path / "bag" / "metadata.yaml").read_text()
    description = json.loads((Path(get_package_share_directory("hilserl_interfaces")) / "msg" / "Step.json").read_text())
    (expected,) = (item["hash_string"] for item in description["type_hashes"] if item["type_name"].endswith("/Step"))
    assert expected in text


def test_an_existing_bag_is_never_touched(tmp_path):
    _write(tmp_path / "bag", 2)
    before = {file.name: file.read_bytes() for file in (tmp_path / "bag").iterdir()}
    with pytest.raises(RecordingError, match="exists already and is kept"):
        BagWriter(tmp_path / "bag", TOPICS, {})
    assert {file.name: file.read_bytes() for file in (tmp_path / "bag").iterdir()} == before


def test_an_unknown_type_is_named_before_anything_is_made(tmp_path):
    with pytest.raises(RecordingError, match="the type nowhere_msgs/msg/Thing is not known here: install its package"):
        BagWriter(tmp_path / "bag", [Topic("/a", "nowhere_msgs/msg/Thing")], {})
    assert not (tmp_path / "bag").exists()


def test_a_folder_that_cannot_be_written_gives_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=r"cannot record into .*Not a directory"):
        BagWriter(tmp_path / "file" / "bag", TOPICS, {})


@pytest.mark.parametrize("seed", range(12))
def test_wherever_the_file_is_cut_repair_keeps_every_whole_chunk(tmp_path, seed):
    writer = _write(tmp_path / "bag", 0, close=False)
    flushed = {}  # size of the file -> joint messages in it
    for number in range(40):
        writer.write("/joint_states", 10 * number + 1, _joints(number))
        if number % 4 == 3:
            writer.flush()
            flushed[writer.bytes_written] = number + 1
    writer.abort()
    path = tmp_path / "bag" / "bag.mcap"
    cut = random.Random(seed).randrange(200, path.stat().st_size)
    os.truncate(path, cut)
    whole = max((count for size, count in flushed.items() if size <= cut), default=0)
    done = repair(tmp_path / "bag")
    assert done.changed and done.messages >= whole and done.messages % 4 == 0
    assert _numbers(tmp_path / "bag") == list(range(done.messages))
    assert _metadata(tmp_path / "bag")["custom_data"] == {"task": "grasp"}
    assert repair(tmp_path / "bag") == type(done)(done.messages, 0, changed=False)


def test_a_chunk_whose_content_never_reached_the_disk_is_cut_off(tmp_path):
    writer = _write(tmp_path / "bag", 4, close=False)
    writer.flush()
    good = writer.bytes_written
    writer.write("/joint_states", 10**9, _joints(99))
    writer.flush()
    writer.abort()
    path = tmp_path / "bag" / "bag.mcap"
    with path.open("r+b") as file:
        file.seek(good + 60)
        file.write(bytes(path.stat().st_size - good - 60))
    assert repair(tmp_path / "bag").messages == 8 and _numbers(tmp_path / "bag") == [0, 1, 2, 3]


def test_what_is_no_bag_is_said(tmp_path):
    with pytest.raises(RecordingError, match="holds 0 MCAP files"):
        repair(tmp_path)
    (tmp_path / "a.mcap").write_bytes(b"something else entirely")
    with pytest.raises(RecordingError, match="does not begin as an MCAP file"):
        repair(tmp_path)


_CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_bags
from dataset_recorder.recording import Recording
recording = Recording(test_bags.BagWriter(Path(sys.argv[1]), test_bags.TOPICS, {"task": "grasp"}), 10**8)
print("begun", flush=True)
image, noise = test_bags.serialize_message(test_bags.IMAGE), test_bags.np.random.default_rng(0)
for number in range(10**6):
    recording.put("/joint_states", time.time_ns(), test_bags._joints(number))
    if number % 3 == 0:
        recording.put("/wrist/image_raw", time.time_ns(), image[:-1000] + noise.bytes(1000))
    print(number, time.time(), flush=True)
    time.sleep(0.01)
"""


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 20))])
def test_a_recording_killed_at_any_instant_keeps_all_but_its_last_second_for_every_reader(tmp_path, seed):
    after_s = (0.0, 0.5, random.Random(seed).uniform(0.0, 3.0))[min(seed, 2)]
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "bag"), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        assert first == "begun\n", "the recorder did not start"
        end, taken = time.monotonic() + after_s, []
        while time.monotonic() < end:
            taken.append(process.stdout.readline())
        killed_s = time.time()
        process.send_signal(signal.SIGKILL)
        taken += [line for line in process.stdout if line.endswith("\n")]
    old = [int(line.split()[0]) for line in taken if float(line.split()[1]) < killed_s - 1.0]
    assert repair(tmp_path / "bag").changed
    found = _by_reader(tmp_path / "bag")
    kept = found["rosbags"]["/joint_states"]
    assert kept == list(range(len(kept))) and len(kept) >= len(old)
    assert len(found["rosbags"]["/wrist/image_raw"]) >= len(old) // 3
    assert found["by index"] == found["front to back"] == found["rosbags"]
    assert _metadata(tmp_path / "bag")["custom_data"] == {"task": "grasp"}


def test_a_full_disk_ends_the_recording_with_a_reason_and_keeps_what_was_flushed(tmp_path):
    program = f"""
import resource, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np, test_bags
from dataset_recorder.errors import RecordingError
from dataset_recorder.recording import Recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = test_bags.BagWriter(Path(sys.argv[1]), test_bags.TOPICS, {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # writing beyond fails, as on a full disk
recording, empty = Recording(writer, 10**9), writer.bytes_written
rng = np.random.default_rng(0)
for number in range(5):
    recording.put("/joint_states", number + 1, test_bags._joints(number))
while writer.bytes_written == empty:
    time.sleep(0.01)
for number in range(5, 100):
    recording.put("/joint_states", number + 1, test_bags._joints(number))
    recording.put("/wrist/image_raw", number + 1, bytes(4) + rng.bytes(20_000))
try:
    recording.close()
except RecordingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "bag")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "File too large; what was flushed before is kept: 5 messages" in done.stdout
    assert _numbers(tmp_path / "bag") == list(range(5))


def test_messages_that_come_faster_than_the_disk_are_counted_not_hidden(tmp_path):
    recording = Recording(BagWriter(tmp_path / "bag", TOPICS, {}), most_waiting_bytes=10)
    assert not recording.put("/joint_states", 1, _joints(0)) and recording.dropped == 1
    recording.discard()
    assert not (tmp_path / "bag").exists()


def test_a_recording_writes_all_it_took(tmp_path):
    recording = Recording(BagWriter(tmp_path / "bag", TOPICS, {}), most_waiting_bytes=10**8)
    assert all(recording.put("/joint_states", number + 1, _joints(number)) for number in range(500))
    assert recording.close() == 500 and _numbers(tmp_path / "bag") == list(range(500))
