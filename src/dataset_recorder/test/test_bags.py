# SPDX-License-Identifier: Apache-2.0
"""Bags: what was recorded is read back, by anyone; a full disk ends a bag with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ament_index_python.packages import get_package_share_directory
from bag_fixtures import FOREVER, IMAGE, LATCHED, TOPICS, by_reader, joints, metadata, numbers, write
from mcap.reader import SeekingReader
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader

from dataset_recorder import types
from dataset_recorder.bag_writer import UNFINISHED, BagWriter, Topic
from dataset_recorder.errors import RecordingError
from dataset_recorder.recording import Recording
from dataset_recorder.repair import repair
from hilserl_interfaces.msg import Step
from hilserl_ros.distribution import distribution


def test_a_bag_gives_back_bytes_times_types_qos_and_notes(tmp_path):
    step = Step(run_id="run", sequence=7, images=[IMAGE], state=[0.5], action=[1.0, -1.0])
    writer = write(tmp_path / "bag", 3, close=False)
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
    assert metadata(tmp_path / "bag")["custom_data"] == {"task": "grasp"}


@pytest.mark.parametrize("killed", [False, True])
def test_a_bag_is_as_rosbag2_writes_it(tmp_path, killed):
    """What rosbag2_storage/yaml.hpp and mcap_storage.cpp of rosbag2 read of a bag of version 9."""
    bag = tmp_path / "bag"
    writer = write(bag, 3, close=not killed)
    if killed:
        writer.flush()
        writer.abort()
        repair(bag)
    found = metadata(bag)
    assert (found["version"], found["storage_identifier"], found["message_count"]) == (9, "mcap", 6)
    assert (found["compression_format"], found["compression_mode"]) == ("", "")  # its own, not that of MCAP chunks
    assert found["starting_time"] == {"nanoseconds_since_epoch": 1000} and found["duration"] == {"nanoseconds": 21}
    (file,) = found["files"]
    assert file == {"path": "bag.mcap"} | {key: found[key] for key in ("starting_time", "duration", "message_count")}
    assert found["relative_file_paths"] == ["bag.mcap"] and (bag / "bag.mcap").is_file()
    assert found["custom_data"] == {"task": "grasp"} and found["ros_distro"] == distribution() in ("jazzy", "kilted")
    topics = {item["topic_metadata"]["name"]: item for item in found["topics_with_message_count"]}
    assert {name: item["message_count"] for name, item in topics.items()} == {
        "/joint_states": 3, "/wrist/image_raw": 3, "/steps": 0,
    }  # fmt: skip
    with (bag / "bag.mcap").open("rb") as stream:
        summary = SeekingReader(stream).get_summary()
        (repeated,) = [record.metadata["serialized_metadata"] for record in SeekingReader(stream).iter_metadata()]
    assert yaml.safe_load(repeated)["ros_distro"] == found["ros_distro"]
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
    writer = write(tmp_path / "bag", 3, close=False)
    writer.write("/steps", 5000, serialize_message(Step(run_id="run", sequence=7, images=[IMAGE], state=[0.5])))
    writer.close()
    found = by_reader(tmp_path / "bag")
    assert found["rosbags"] == {"/joint_states": [0, 1, 2], "/wrist/image_raw": [64] * 3, "/steps": [7]}
    assert found["by index"] == found["front to back"] == found["rosbags"]


def test_the_hash_of_a_type_is_the_one_ros_computes(tmp_path):
    write(tmp_path / "bag", 1)
    text = (tmp_path / "bag" / "metadata.yaml").read_text()
    description = json.loads((Path(get_package_share_directory("hilserl_interfaces")) / "msg" / "Step.json").read_text())
    (expected,) = (item["hash_string"] for item in description["type_hashes"] if item["type_name"].endswith("/Step"))
    assert expected in text


def test_an_existing_bag_is_never_touched(tmp_path):
    write(tmp_path / "bag", 2)
    before = {file.name: file.read_bytes() for file in (tmp_path / "bag").iterdir()}
    with pytest.raises(RecordingError, match="exists already and is kept"):
        BagWriter(tmp_path / "bag", TOPICS, {})
    assert {file.name: file.read_bytes() for file in (tmp_path / "bag").iterdir()} == before


def test_an_unknown_type_is_named_before_anything_is_made(tmp_path):
    with pytest.raises(RecordingError, match="the type nowhere_msgs/msg/Thing is not known here: install its package"):
        BagWriter(tmp_path / "bag", [Topic("/a", "nowhere_msgs/msg/Thing")], {})
    assert not (tmp_path / "bag").exists()


def test_a_definition_that_cannot_be_read_is_named_too(tmp_path, monkeypatch):
    (tmp_path / "msg").mkdir()
    (tmp_path / "msg" / "Thing.msg").write_text("float64 2nd\n")
    monkeypatch.setattr(types, "get_package_share_directory", lambda _: str(tmp_path))
    with pytest.raises(RecordingError, match="the type odd_msgs/msg/Thing is not known here: install its package"):
        types.typestore_for("odd_msgs/msg/Thing")


def test_a_folder_that_cannot_be_written_gives_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=r"cannot record into .*Not a directory"):
        BagWriter(tmp_path / "file" / "bag", TOPICS, {})


def test_a_full_disk_ends_the_recording_with_a_reason_and_keeps_what_was_flushed(tmp_path):
    program = f"""
import resource, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from bag_fixtures import TOPICS, BagWriter, joints
from dataset_recorder.errors import RecordingError
from dataset_recorder.recording import Recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = BagWriter(Path(sys.argv[1]), TOPICS, {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # writing beyond fails, as on a full disk
recording, empty = Recording(writer, 10**9), writer.bytes_written
rng = np.random.default_rng(0)
for number in range(5):
    recording.put("/joint_states", number + 1, joints(number))
while writer.bytes_written == empty:
    time.sleep(0.01)
for number in range(5, 100):
    recording.put("/joint_states", number + 1, joints(number))
    recording.put("/wrist/image_raw", number + 1, bytes(4) + rng.bytes(20_000))
try:
    recording.close()
except RecordingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "bag")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "File too large; what was flushed before is kept: 5 messages" in done.stdout
    assert numbers(tmp_path / "bag") == list(range(5))


def test_messages_that_come_faster_than_the_disk_are_counted_not_hidden(tmp_path):
    recording = Recording(BagWriter(tmp_path / "bag", TOPICS, {}), most_waiting_bytes=10)
    assert not recording.put("/joint_states", 1, joints(0)) and recording.dropped == 1
    recording.discard()
    assert not (tmp_path / "bag").exists()


def test_a_recording_writes_all_it_took(tmp_path):
    recording = Recording(BagWriter(tmp_path / "bag", TOPICS, {}), most_waiting_bytes=10**8)
    assert all(recording.put("/joint_states", number + 1, joints(number)) for number in range(500))
    assert recording.close() == 500 and numbers(tmp_path / "bag") == list(range(500))
