# SPDX-License-Identifier: Apache-2.0
"""The recorder in trouble: killed, lagging, without a disk to write on; steps that get lost or are acknowledged twice."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from rclpy._rclpy_pybind11 import RCLError
from rclpy.duration import Duration
from rclpy.serialization import serialize_message
from recorder_station import Station, count_of, errors_of, numbers_of, ready, recorded, reported, sequences_of
from rosbags.highlevel import AnyReader
from std_srvs.srv import Trigger

from dataset_recorder.bag_writer import BagWriter, Topic
from dataset_recorder.errors import RecordingError
from dataset_recorder.repair import repair
from hilserl_core.delivery import Outbox
from hilserl_interfaces.msg import EpisodeStatus, Reward, Step, StepAck
from hilserl_ros import qos
from hilserl_ros.images import rgb_to_image


class _Sender:
    """The actor's end of `steps`: a spool that sends again; every fourth step is lost on the way the first time."""

    def __init__(self, station: Station, folder: Path) -> None:
        self.outbox = Outbox(folder, resend_s=1.0)
        self.station, self.acks, self._lost = station, [], set()
        station.node.create_subscription(StepAck, "steps/ack", self._on_ack, qos.STEPS_ACK)

    def put(self, sequence: int, episode: int, index: int, is_last: bool) -> None:
        step = Step(run_id="run", sequence=sequence, episode=episode, index=index, is_last=is_last, state=[0.0])
        self.outbox.put(sequence, serialize_message(step))
        self.send()

    def send(self) -> bool:
        """Whether all is acknowledged."""
        for sequence, payload in self.outbox.due(time.monotonic()):
            if sequence % 4 == 0 and sequence not in self._lost:
                self._lost.add(sequence)
            else:
                self.station.steps.publish(payload)
        return self.outbox.pending == 0

    def _on_ack(self, ack: StepAck) -> None:
        self.acks.append(ack)
        self.outbox.acknowledge(ack.received_through, list(ack.missing))


def test_no_step_is_lost_when_the_recorder_is_killed_or_a_step_gets_lost_on_the_way(start, tmp_path):
    station, process = start("acknowledge:=true")
    ready(station)
    sender, bags = _Sender(station, tmp_path / "spool"), tmp_path / "bags" / "run"
    sequence = 0
    for episode in range(3):
        station.say(episode)
        for index in range(8):
            sequence += 1
            sender.put(sequence, episode, index, is_last=index == 7)
            station.executor.spin_once(timeout_sec=0.02)
            if (episode, index) == (1, 4):
                station.until(lambda: sender.send() or sender.outbox.acknowledged >= 8, "acknowledgements")
                process.kill()
                process.wait()
                _, process = start("acknowledge:=true")
    station.say(3, EpisodeStatus.DONE)
    station.until(sender.send, "all steps to be acknowledged")
    station.until(
        lambda: all(recorded(bag)() for bag in bags.iterdir() if bag.name not in ("000001", "acknowledged")), "closing"
    )
    assert int((bags / "acknowledged").read_text()) == sequence
    assert all(ack.trained_through == ack.received_through for ack in sender.acks)
    if not recorded(bags / "000001")():
        repair(bags / "000001")
    found = {bag.name: sequences_of(bag) for bag in bags.iterdir() if bag.is_dir()}
    assert set(found) == {"000000", "000001", "000001_2", "000002"}, found
    assert all(len(set(numbers)) == len(numbers) for numbers in found.values()), found
    assert sorted({number for numbers in found.values() for number in numbers}) == list(range(1, sequence + 1))


def test_steps_of_a_discarded_episode_do_not_stay_in_the_spool(start, tmp_path):
    station, _ = start("acknowledge:=true")
    ready(station)
    sender, bags = _Sender(station, tmp_path / "spool"), tmp_path / "bags" / "run"
    station.say(0)
    station.until((bags / "000000" / "unfinished.json").is_file, "the bag to be begun")
    sender.put(1, 0, 0, is_last=False)
    assert station.call(Trigger, "recorder/discard_episode").success
    sender.put(2, 0, 1, is_last=True)
    station.until(sender.send, "all steps to be acknowledged")
    assert not (bags / "000000").exists()


def test_a_recorder_does_not_acknowledge_beside_a_learner(start, tmp_path):
    station, process = start("acknowledge:=true")
    learner = station.node.create_publisher(StepAck, "steps/ack", qos.STEPS_ACK)
    ready(station)
    sender = _Sender(station, tmp_path / "spool")
    station.until(lambda: station.node.count_publishers("steps/ack") == 2, "both publishers")
    station.say(0)
    sender.put(1, 0, 0, is_last=True)
    lines = iter(process.stderr.readline, "")
    assert any("station acknowledges steps too: set acknowledge to false" in line for line in lines)
    assert not sender.acks
    station.node.destroy_publisher(learner)
    station.until(sender.send, "the acknowledgement")


def test_acknowledging_needs_episodes_cut_by_the_actor(start):
    _, process = start("acknowledge:=true", "follow_actor:=false")
    assert process.wait(20) == 2 and "acknowledge needs follow_actor" in process.stderr.read()


def test_a_folder_that_cannot_be_written_is_said_once(start, tmp_path):
    (tmp_path / "file").write_text("")
    station, process = start(folder=tmp_path / "file" / "bags")
    assert "not active" in station.call(Trigger, "recorder/start_episode").message
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr.read().count("cannot record into") == 1


def test_a_recorder_that_lags_loses_no_small_message(start, tmp_path):
    station, process = start("follow_actor:=false")
    truth = station.node.create_publisher(Reward, "truth", qos.recorded(qos.REWARD))
    station.until(lambda: truth.get_subscription_count() and station.image.get_subscription_count(), "the subscriptions")
    name = station.call(Trigger, "recorder/start_episode").message
    process.send_signal(signal.SIGSTOP)
    image = rgb_to_image(np.zeros((128, 128, 3), np.uint8))
    for _ in range(150):  # two seconds of a simulation that goes as fast as it can
        truth.publish(Reward())
        with contextlib.suppress(RCLError):  # it may be refused, of that only the newest count
            station.image.publish(image)
    process.send_signal(signal.SIGCONT)
    assert truth.wait_for_all_acked(Duration(seconds=60.0)), "what did not fit into a socket's buffer was sent again"
    taken = reported(station, "messages")
    station.until(lambda: len(taken) > 1 and taken[-1] - taken[-2] <= 1, "all to be taken, but for these reports")
    bag = tmp_path / "bags" / name
    assert station.call(Trigger, "recorder/stop_episode").success
    station.until(recorded(bag), "the bag to be closed")
    assert count_of(bag, "/truth") == 150


def test_messages_lost_on_their_way_are_counted_and_said(start, tmp_path):
    station, process = start("follow_actor:=false")
    station.until(station.image.get_subscription_count, "the subscription")
    name = station.call(Trigger, "recorder/start_episode").message
    process.send_signal(signal.SIGSTOP)  # a recorder that gets no processor for a while
    big = rgb_to_image(np.zeros((600, 800, 3), np.uint8))
    refused = 0
    for _ in range(120):  # a publisher keeps five of them, a socket some more
        try:
            station.image.publish(big)
        except RCLError:
            refused += 1
    missed = reported(station, "missed")
    process.send_signal(signal.SIGCONT)
    station.image.publish(big)
    station.until(lambda: missed and missed[-1] >= 90 - refused, "the loss to be noticed")
    assert station.call(Trigger, "recorder/stop_episode").success
    station.until(recorded(tmp_path / "bags" / name), "the bag to be closed")
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    found = re.search(r"holds (\d+) messages, (\d+) messages were lost on their way here", said)
    assert found, said
    held, lost = map(int, found.groups())
    assert held <= 30 and held + lost >= 121 - refused, said  # every message is accounted for; DDS may count one twice


def _own_disks() -> bool:
    return subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True, check=False).returncode == 0


own_disk = pytest.mark.skipif(not _own_disks(), reason="this system lets nobody mount a small disk for a test")


@own_disk
def test_a_full_disk_ends_the_episode_with_one_error_and_keeps_what_was_recorded(start, tmp_path):
    station, process = start("follow_actor:=false", "reserve_mb:=2", disk="size=4m")
    station.until(lambda: station.joints.get_subscription_count() and station.image.get_subscription_count(), "subscriptions")
    name = station.call(Trigger, "recorder/start_episode").message
    noise, tried = np.random.default_rng(0), []

    def full() -> bool:
        station.observe()
        station.image.publish(rgb_to_image(noise.integers(0, 256, (100, 100, 3), dtype=np.uint8)))
        tried.append(station.call(Trigger, "recorder/start_episode").message)
        return "is being recorded already" not in tried[-1]

    station.until(full, "the full disk")
    bag = Path(f"/proc/{process.pid}/root") / (tmp_path / "bags" / name).relative_to("/")
    assert recorded(bag)(), errors_of(process)
    kept = numbers_of(bag)
    assert len(kept) > 20 and kept == list(range(kept[0], kept[0] + len(kept)))
    with AnyReader([bag]) as reader:
        count = sum(1 for _ in reader.messages())
    assert tried[-1] == "the bag could not be opened: see the log"
    first, *more = errors_of(process)
    assert f"No space left on device; what was flushed before is kept: {count} messages" in first
    assert len(more) == 1 and "less than reserve_mb 2; free some space" in more[0], more


@own_disk
def test_a_read_only_disk_is_said_once(start, tmp_path):
    station, process = start(disk="ro")
    assert "not active" in station.call(Trigger, "recorder/start_episode").message
    said = errors_of(process)
    assert len(said) == 1, said
    (error,) = said
    assert f"cannot record into {tmp_path / 'bags'}: Read-only file system; name another one in `folder`" in error


def test_a_bag_of_that_name_is_kept_said_once_and_the_next_episode_is_recorded(start, tmp_path):
    station, process = start()
    ready(station)
    bags = tmp_path / "bags" / "run"
    (bags / "000000").mkdir(parents=True)
    (bags / "000000" / "mine").write_text("dear to me")
    station.say(0)
    error = f"{bags / '000000'} exists already and is kept: record under another name or move it away"
    assert any(error in line for line in iter(process.stderr.readline, ""))
    for _ in range(3):
        station.say(0)
        station.observe()
    station.say(1)
    station.until((bags / "000001" / "unfinished.json").is_file, "the next bag")
    station.steps.publish(Step(run_id="run", episode=1, sequence=1, is_last=True, state=[0.0], action=[0.0]))
    station.say(1, EpisodeStatus.RESETTING)
    station.until(recorded(bags / "000001"), "the bag to be closed")
    assert errors_of(process) == []
    assert [file.name for file in (bags / "000000").iterdir()] == ["mine"]


def test_a_bag_that_a_killed_recorder_left_open_is_closed_by_the_next_one(start, tmp_path):
    """`reach-grasp record` counts on closed bags: it waited for that one for ever."""
    station, process = start("acknowledge:=true")
    ready(station)
    bag = tmp_path / "bags" / "run" / "000000"
    station.say(0)
    station.until((bag / "unfinished.json").is_file, "the bag to be begun")
    process.kill()
    process.wait()
    _, process = start("acknowledge:=true")
    station.until(recorded(bag), "the bag to be closed")
    station.until(lambda: not (bag / "unfinished.json").exists(), "its note to go")
    assert errors_of(process) == []


def test_a_bag_that_is_being_recorded_is_not_repaired(tmp_path):
    writer = BagWriter(tmp_path / "bag", [Topic("/joint_states", "sensor_msgs/msg/JointState")], {})
    with pytest.raises(RecordingError, match="is being recorded: repair it when its recorder has ended"):
        repair(tmp_path / "bag")
    writer.abort()
    assert repair(tmp_path / "bag").changed
