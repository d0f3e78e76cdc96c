# SPDX-License-Identifier: Apache-2.0
"""Bags that a kill, a torn chunk or a power cut left: mended, everything up to the last whole chunk is there for anyone."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from backports import zstd
from bag_fixtures import by_reader, joints, metadata, numbers, write
from mcap.writer import Writer
from rosbags import rosbag2
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore

from dataset_recorder.bag_writer import BagWriter
from dataset_recorder.convert.bag import Bag
from dataset_recorder.convert.errors import BagError
from dataset_recorder.errors import RecordingError
from dataset_recorder.repair import Repaired, repair


def _chunks(folder: Path) -> tuple[BagWriter, dict[int, int]]:
    """A bag of forty joint messages in chunks of four, and for each size it had in between: how many were in it."""
    writer, flushed = write(folder, 0, close=False), {}
    for number in range(40):
        writer.write("/joint_states", 10 * number + 1, joints(number))
        if number % 4 == 3:
            writer.flush()
            flushed[writer.bytes_written] = number + 1
    return writer, flushed


def _topics(content: dict) -> list[dict]:
    return [item["topic_metadata"] for item in content["topics_with_message_count"]]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("closed", [False, True], ids=["killed", "cut off after closing"])
def test_wherever_the_file_is_cut_repair_keeps_every_whole_chunk(tmp_path, seed, closed):
    bag = tmp_path / "bag"
    writer, flushed = _chunks(bag)
    if closed:
        writer.close()
        before = metadata(bag)
    else:
        writer.abort()
    path = bag / "bag.mcap"
    cut = random.Random(seed).randrange(200, path.stat().st_size)
    os.truncate(path, cut)
    whole = max((count for size, count in flushed.items() if size <= cut), default=0)
    done = repair(bag)
    assert done.changed and done.messages >= whole and done.messages % 4 == 0
    assert numbers(bag) == list(range(done.messages))
    assert metadata(bag)["custom_data"] == {"task": "grasp"} and metadata(bag)["message_count"] == done.messages
    assert repair(bag) == type(done)(done.messages, 0, changed=False)
    found = by_reader(bag)
    assert found["by index"] == found["front to back"] == found["rosbags"]
    if closed and done.messages:
        assert _topics(metadata(bag)) == _topics(before)


@pytest.mark.parametrize("lost", ["", "rosbag2_bagfile_information: {vers", "\0" * 100], ids=["empty", "cut off", "zeros"])
def test_metadata_that_never_reached_the_disk_is_written_again(tmp_path, lost):
    bag = tmp_path / "bag"
    _chunks(bag)[0].close()
    before = metadata(bag)
    (bag / "metadata.yaml").write_text(lost)
    assert repair(bag).changed and metadata(bag) == before
    assert numbers(bag) == list(range(40))


def test_a_damaged_chunk_in_the_middle_of_a_finished_bag_is_where_it_ends(tmp_path):
    bag = tmp_path / "bag"
    writer, flushed = _chunks(bag)
    writer.close()
    good = next(size for size, count in flushed.items() if count == 20)
    with (bag / "bag.mcap").open("r+b") as file:
        file.seek(good + 9)  # behind the chunk's opcode and length
        file.write(bytes(200))
    with Bag(bag) as opened, pytest.raises(BagError, match="run `reach-grasp repair"):
        list(opened.messages(["/joint_states"]))
    assert repair(bag).messages == 20 and numbers(bag) == list(range(20))


def test_a_whole_bag_stays_as_it_is_and_what_closing_left_behind_goes(tmp_path):
    bag = tmp_path / "bag"
    write(bag, 4)
    before = {file.name: file.read_bytes() for file in bag.iterdir()}
    for name in ("unfinished.json", "reserve"):
        (bag / name).write_text("{}")
    assert repair(bag).messages == 8
    assert {file.name: file.read_bytes() for file in bag.iterdir()} == before


@pytest.mark.parametrize("with_metadata", [False, True])
def test_a_torn_file_that_another_program_wrote_is_left_alone(tmp_path, with_metadata):
    """Its layout may hold records that this repair does not know and would cut off."""
    path = tmp_path / "other.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "libmcap 1.4.0")
        writer.add_metadata("rosbag2", {"serialized_metadata": "a: 1"})
        writer.finish()
    os.truncate(path, path.stat().st_size - 20)
    if with_metadata:
        (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: {}\n")
    before = path.read_bytes()
    with pytest.raises(RecordingError, match=r"not whole .* stays as it is: save what it holds with 'mcap recover other.mcap"):
        repair(tmp_path)
    assert path.read_bytes() == before


def test_a_chunk_whose_content_never_reached_the_disk_is_cut_off(tmp_path):
    writer = write(tmp_path / "bag", 4, close=False)
    writer.flush()
    good = writer.bytes_written
    writer.write("/joint_states", 10**9, joints(99))
    writer.flush()
    writer.abort()
    path = tmp_path / "bag" / "bag.mcap"
    with path.open("r+b") as file:
        file.seek(good + 60)
        file.write(bytes(path.stat().st_size - good - 60))
    assert repair(tmp_path / "bag").messages == 8 and numbers(tmp_path / "bag") == [0, 1, 2, 3]


def _uncompressed(folder: Path, count: int, storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A bag as rosbags writes it, one chunk, no compression; its storage file. Messages hold their numbers."""
    store = get_typestore(Stores.ROS2_KILTED)
    with rosbag2.Writer(folder, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=store)
        for number in range(count):
            writer.write(connection, 1000 + number, joints(number))
    return next(path for path in folder.iterdir() if path.name != "metadata.yaml")


def test_repair_takes_every_whole_message_of_a_torn_chunk_and_keeps_the_rest_beside(tmp_path):
    """Before, repair cut off the whole chunk, which holds all messages of such a bag, and kept no copy."""
    path = _uncompressed(tmp_path / "bag", 200)
    torn = path.read_bytes()[: path.stat().st_size * 66 // 100]
    begun = torn.count(b"pan\0")
    path.write_bytes(torn)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    done = repair(tmp_path / "bag")
    assert begun - 1 <= done.messages <= begun and done.messages > 100
    assert numbers(tmp_path / "bag") == list(range(done.messages)) == by_reader(tmp_path / "bag")["by index"]["/joint_states"]
    assert torn.endswith(done.kept.read_bytes()) and 0 < done.bytes_cut < 200


@pytest.mark.parametrize("damage", ["chunk", "index", "opcode"])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_repair_destroys_nothing_behind_damage_in_the_middle(tmp_path, damage, closed):
    bag = tmp_path / "bag"
    writer, flushed = _chunks(bag)
    writer.close() if closed else writer.abort()
    (bag / "metadata.yaml").unlink(missing_ok=True)
    place = next(size for size, count in flushed.items() if count == 20)
    at, content = {"chunk": (place + 9, bytes(200)), "index": (place - 79, b"\x55"), "opcode": (place, b"\x55")}[damage]
    data = bytearray((bag / "bag.mcap").read_bytes())
    data[at : at + len(content)] = content
    (bag / "bag.mcap").write_bytes(data)
    done = repair(bag)
    whole = 40 if closed and damage != "chunk" else 20  # a closed file is read by its index
    assert numbers(bag) == list(range(whole)) and done.messages == whole
    if whole == 20:
        assert data.endswith(done.kept.read_bytes()) and len(done.kept.read_bytes()) >= len(data) - place
    assert repair(bag) == Repaired(whole, 0, changed=False)


def test_repair_changes_nothing_when_there_is_no_room_for_what_it_cuts_off(tmp_path, monkeypatch):
    path = _uncompressed(tmp_path / "bag", 50)
    torn = path.read_bytes()[:-3000]
    path.write_bytes(torn)

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(RecordingError, match=r"stays as it is: its last .* free some space and repair it again"):
        repair(tmp_path / "bag")
    assert path.read_bytes() == torn and sorted(item.name for item in path.parent.iterdir()) == ["bag.mcap", "metadata.yaml"]


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP], ids=["sqlite3", "mcap"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "zstd"])
def test_a_whole_file_without_metadata_gets_it_as_convert_says_it_would(tmp_path, storage, compressed):
    bag = tmp_path / "bag"
    path = _uncompressed(bag, 30, storage)
    before = metadata(bag)
    (bag / "metadata.yaml").unlink()
    if compressed:
        path.with_name(f"{path.name}.zstd").write_bytes(zstd.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(BagError, match=f"run `reach-grasp repair {bag}`"):
        Bag(bag)
    assert repair(bag) == Repaired(30, 0, changed=True)
    with Bag(bag) as opened:
        assert [message().position[0] for _, _, message in opened.messages(["/joint_states"])] == list(range(30))
    for key in ("message_count", "duration", "starting_time", "storage_identifier"):
        assert metadata(bag)[key] == before[key]
    assert repair(bag) == Repaired(30, 0, changed=False)


def test_a_database_whose_last_messages_are_in_its_journal_is_repaired_with_them(tmp_path):
    path = _uncompressed(tmp_path / "bag", 30, StoragePlugin.SQLITE3)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES(1, 5000, ?)", (joints(30),))
    writer.commit()
    killed = tmp_path / "killed"
    shutil.copytree(path.parent, killed)  # as a kill of the recorder leaves it: closing would merge the journal
    writer.close()
    assert repair(killed).messages == 31 and numbers(killed) == list(range(31))


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("bag.db3", "copy it again from where it was recorded"),
        ("bag.db3.zstd", "zstd -dc bag.db3.zstd > saved.db3"),
    ],
)
def test_a_torn_database_is_left_as_it_is(tmp_path, name, cure):
    path = _uncompressed(tmp_path / "bag", 500, StoragePlugin.SQLITE3)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    data = zstd.compress(path.read_bytes()) if name.endswith("zstd") else path.read_bytes()
    path.unlink()
    torn = path.with_name(name)
    torn.write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordingError, match=re.escape(cure)):
        repair(tmp_path / "bag")
    assert [item.name for item in torn.parent.iterdir()] == [name] and torn.read_bytes() == data[: len(data) // 2]


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
import numpy as np
from bag_fixtures import IMAGE, TOPICS, BagWriter, joints, serialize_message
from dataset_recorder.recording import Recording
recording = Recording(BagWriter(Path(sys.argv[1]), TOPICS, {"task": "grasp"}), 10**8)
print("begun", flush=True)
image, noise = serialize_message(IMAGE), np.random.default_rng(0)
for number in range(10**6):
    recording.put("/joint_states", time.time_ns(), joints(number))
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
        process.wait()
    old = [int(line.split()[0]) for line in taken if float(line.split()[1]) < killed_s - 1.0]
    assert repair(tmp_path / "bag").changed
    found = by_reader(tmp_path / "bag")
    kept = found["rosbags"]["/joint_states"]
    assert kept == list(range(len(kept))) and len(kept) >= len(old)
    assert len(found["rosbags"]["/wrist/image_raw"]) >= len(old) // 3
    assert found["by index"] == found["front to back"] == found["rosbags"]
    assert metadata(tmp_path / "bag")["custom_data"] == {"task": "grasp"}
