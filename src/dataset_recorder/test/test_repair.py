# SPDX-License-Identifier: Apache-2.0
"""Bags that a kill, a torn chunk or a power cut left: mended, everything up to the last whole chunk is there for anyone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bag_fixtures import by_reader, joints, metadata, numbers, write
from mcap.writer import Writer

from dataset_recorder.bag_writer import BagWriter
from dataset_recorder.convert.bag import Bag
from dataset_recorder.convert.errors import BagError
from dataset_recorder.errors import RecordingError
from dataset_recorder.repair import repair


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
    with pytest.raises(RecordingError, match=r"written by libmcap 1.4.0 and stays as it is: mend it with 'mcap recover'"):
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
    old = [int(line.split()[0]) for line in taken if float(line.split()[1]) < killed_s - 1.0]
    assert repair(tmp_path / "bag").changed
    found = by_reader(tmp_path / "bag")
    kept = found["rosbags"]["/joint_states"]
    assert kept == list(range(len(kept))) and len(kept) >= len(old)
    assert len(found["rosbags"]["/wrist/image_raw"]) >= len(old) // 3
    assert found["by index"] == found["front to back"] == found["rosbags"]
    assert metadata(tmp_path / "bag")["custom_data"] == {"task": "grasp"}
