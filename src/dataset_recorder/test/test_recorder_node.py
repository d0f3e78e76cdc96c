# SPDX-License-Identifier: Apache-2.0
"""The recorder as a process over DDS; the test plays the arm, the camera and the actor."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from ament_index_python.packages import get_package_prefix
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from dataset_recorder.repair import repair
from hilserl_core.delivery import Outbox
from hilserl_interfaces.msg import EpisodeEvent, EpisodeStatus, Reward, Step, StepAck
from hilserl_ros import qos
from hilserl_ros.images import rgb_to_image

TIMEOUT_S = 30.0


class _Station:
    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("station", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        create = self.node.create_publisher
        self.joints = create(JointState, "joint_states", qos.JOINT_STATES)
        self.image = create(Image, "wrist/image_raw", qos.IMAGE)
        self.steps = create(Step, "steps", qos.STEPS)
        self.status = create(EpisodeStatus, "episode/status", qos.STATUS)
        self.event = create(EpisodeEvent, "episode/event", qos.EPISODE_EVENT)
        self.number = 0

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def say(self, episode: int, phase: int = EpisodeStatus.RUNNING) -> None:
        self.status.publish(EpisodeStatus(run_id="run", episode=episode, phase=phase))

    def observe(self) -> int:
        """Joints and an image; the number that the joints carry."""
        self.number += 1
        self.joints.publish(JointState(name=["pan"], position=[float(self.number)], velocity=[0.0], effort=[0.0]))
        self.image.publish(rgb_to_image(np.full((16, 16, 3), self.number % 256, np.uint8)))
        return self.number

    def call(self, kind: type, name: str, request: object = None) -> object:
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"the service {name}")
        answer = client.call_async(request or kind.Request())
        self.until(answer.done, f"an answer of {name}")
        return answer.result()

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def start(tmp_path):
    """Starts a recorder with parameters; gives the station and the process."""
    domain = int(os.environ.get("ROS_DOMAIN_ID", "0")) + 5
    station, processes = _Station(domain), []

    def begin(*parameters: str, folder: Path = tmp_path / "bags", disk: str = "") -> tuple[_Station, subprocess.Popen]:
        words = [word for text in (f"folder:={folder}", "reserve_mb:=0", *parameters) for word in ("-p", text)]
        command = [
            str(Path(get_package_prefix("dataset_recorder")) / "lib/dataset_recorder/recorder_node"),
            "--ros-args",
            *words,
        ]
        if disk:  # of its own, which only this process sees, mounted on the folder
            folder.mkdir()
            mount = f'mount -t tmpfs -o {disk} none "$0" && exec "$@"'
            command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(folder), *command]
        process = subprocess.Popen(command, env={**os.environ, "ROS_DOMAIN_ID": str(domain)}, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return station, process

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()
    station.close()


def _ready(station: _Station) -> None:
    """The recorder takes everything that this test publishes."""
    everything = (station.joints, station.image, station.steps, station.status, station.event)
    station.until(lambda: all(publisher.get_subscription_count() for publisher in everything), "the recorder's subscriptions")


def _numbers(bag: Path) -> list[int]:
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == "/joint_states"]
        return [int(reader.deserialize(data, c.msgtype).position[0]) for c, _, data in reader.messages(connections=connections)]


def _count(bag: Path, topic: str) -> int:
    with AnyReader([bag]) as reader:
        return sum(connection.msgcount for connection in reader.connections if connection.topic == topic)


def _recorded(bag: Path) -> Callable[[], bool]:
    return lambda: (bag / "metadata.yaml").is_file()


def _reported(station: _Station, key: str) -> list[int]:
    """What the recorder's diagnostics say of it from now on."""
    found: list[int] = []

    def report(message: DiagnosticArray) -> None:
        found.extend(int(item.value) for status in message.status for item in status.values if item.key == key)

    station.node.create_subscription(DiagnosticArray, "diagnostics", report, qos.DIAGNOSTICS)
    return found


def test_each_episode_gets_a_bag_with_everything_in_it(start, tmp_path):
    station, process = start()
    _ready(station)
    bags = tmp_path / "bags" / "run"
    for episode in (0, 1):
        station.say(episode)
        station.until((bags / f"{episode:06d}" / "unfinished.json").is_file, "the bag to be begun")
        sent = [station.observe() for _ in range(9)]  # fewer than a publisher keeps
        step = Step(run_id="run", episode=episode, sequence=episode + 1, is_last=True, state=[0.0], action=[0.0])
        station.steps.publish(step)
        station.say(episode, EpisodeStatus.RESETTING)
        station.until(_recorded(bags / f"{episode:06d}"), "the bag to be closed")
        assert _numbers(bags / f"{episode:06d}")[-9:] == sent
        assert _count(bags / f"{episode:06d}", "/steps") == 1
    notes = yaml.safe_load((bags / "000000" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]
    assert notes["run_id"] == "run" and '"fps": 10.0' in notes["task"] and "numpy" in notes["versions"]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_steps_are_taken_only_when_all_that_is_required_is_there(start, tmp_path):
    """An actor that waits for its recorder does not begin before, so that its first bag lacks none of it."""
    station, _ = start("required:=[truth]")
    station.until(lambda: station.image.get_subscription_count() > 0, "the images to be taken")
    truth = station.node.create_publisher(Reward, "truth", qos.REWARD)
    station.until(lambda: station.steps.get_subscription_count() > 0, "the steps to be taken")
    assert truth.get_subscription_count() == 1
    bag = tmp_path / "bags/run/000000"
    station.say(0)
    station.until((bag / "unfinished.json").is_file, "the bag to be begun")
    truth.publish(Reward())
    station.steps.publish(Step(run_id="run", sequence=1, is_last=True, state=[0.0], action=[0.0]))
    station.say(0, EpisodeStatus.RESETTING)
    station.until(_recorded(bag), "the bag to be closed")
    assert _count(bag, "/truth") == _count(bag, "/steps") == 1


def test_services_start_stop_and_discard(start, tmp_path):
    station, _ = start("follow_actor:=false")
    everything = (station.joints, station.image)
    station.until(lambda: all(publisher.get_subscription_count() for publisher in everything), "the subscriptions")
    first = station.call(Trigger, "recorder/start_episode")
    assert first.success and not station.call(Trigger, "recorder/start_episode").success
    sent = [station.observe() for _ in range(5)]
    assert station.call(Trigger, "recorder/stop_episode").success
    station.until(_recorded(tmp_path / "bags" / first.message), "the bag to be closed")
    assert _numbers(tmp_path / "bags" / first.message) == sent
    second = station.call(Trigger, "recorder/start_episode")
    assert station.call(Trigger, "recorder/rerecord_episode").message == second.message
    assert station.call(Trigger, "recorder/discard_episode").success
    assert not (tmp_path / "bags" / second.message).exists()
    assert station.call(Trigger, "recorder/stop_episode").message == "nothing is being recorded"


def test_an_episode_to_be_recorded_again_leaves_no_bag(start, tmp_path):
    station, _ = start()
    _ready(station)
    station.say(0)
    bags = tmp_path / "bags" / "run"
    station.until((bags / "000000" / "unfinished.json").is_file, "the bag to be begun")
    station.event.publish(EpisodeEvent(kind=EpisodeEvent.RERECORD))
    station.until(lambda: not (bags / "000000").exists(), "the bag to be discarded")
    station.say(0)  # the actor has not heard of it yet
    station.say(1)
    station.until((bags / "000001").exists, "the next bag")
    assert not (bags / "000000").exists()


def test_a_killed_recorders_bag_is_mended(start, tmp_path):
    station, process = start()
    _ready(station)
    bag = tmp_path / "bags" / "run" / "000000"
    station.say(0)
    station.until((bag / "unfinished.json").is_file, "the bag to be begun")
    sent = [station.observe() for _ in range(10)]
    size = (bag / "000000.mcap").stat().st_size
    station.until(lambda: (bag / "000000.mcap").stat().st_size > size, "the flush")
    process.kill()
    assert repair(bag).changed and _numbers(bag)[-10:] == sent


def _sequences(bag: Path) -> list[int]:
    with AnyReader([bag]) as reader:
        steps = [connection for connection in reader.connections if connection.topic == "/steps"]
        return [reader.deserialize(data, c.msgtype).sequence for c, _, data in reader.messages(connections=steps)]


class _Sender:
    """The actor's end of `steps`: a spool that sends again; every fourth step is lost on the way the first time."""

    def __init__(self, station: _Station, folder: Path) -> None:
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
    _ready(station)
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
                process.stderr.close()
                _, process = start("acknowledge:=true")
    station.say(3, EpisodeStatus.DONE)
    station.until(sender.send, "all steps to be acknowledged")
    station.until(
        lambda: all(_recorded(bag)() for bag in bags.iterdir() if bag.name not in ("000001", "acknowledged")), "closing"
    )
    assert int((bags / "acknowledged").read_text()) == sequence
    assert all(ack.trained_through == ack.received_through for ack in sender.acks)
    if not _recorded(bags / "000001")():
        repair(bags / "000001")
    found = {bag.name: _sequences(bag) for bag in bags.iterdir() if bag.is_dir()}
    assert set(found) == {"000000", "000001", "000001_2", "000002"}, found
    assert all(len(set(numbers)) == len(numbers) for numbers in found.values()), found
    assert sorted({number for numbers in found.values() for number in numbers}) == list(range(1, sequence + 1))


def test_steps_of_a_discarded_episode_do_not_stay_in_the_spool(start, tmp_path):
    station, _ = start("acknowledge:=true")
    _ready(station)
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
    _ready(station)
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


def test_by_hand_steps_are_recorded_like_any_other_topic(start, tmp_path):
    station, _ = start("follow_actor:=false")
    station.until(lambda: station.steps.get_subscription_count() > 0, "the subscription")
    bag = tmp_path / "bags" / station.call(Trigger, "recorder/start_episode").message
    station.steps.publish(Step(run_id="run", episode=7, sequence=3, state=[0.0]))
    assert station.call(Trigger, "recorder/stop_episode").success  # what is on its way is waited for
    station.until(_recorded(bag), "the bag to be closed")
    assert _sequences(bag) == [3]


def test_inactive_it_records_nothing_until_it_is_activated(start, tmp_path):
    station, _ = start("autostart:=false")
    assert "not active" in station.call(Trigger, "recorder/start_episode").message
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert station.call(ChangeState, "recorder/change_state", request).success
    assert station.call(Trigger, "recorder/start_episode").success


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
    taken = _reported(station, "messages")
    station.until(lambda: taken and taken[-1] >= 150, "all of them")
    bag = tmp_path / "bags" / name
    assert station.call(Trigger, "recorder/stop_episode").success
    station.until(_recorded(bag), "the bag to be closed")
    assert _count(bag, "/truth") == 150


def test_messages_lost_on_their_way_are_counted_and_said(start, tmp_path):
    station, process = start("follow_actor:=false")
    station.until(station.image.get_subscription_count, "the subscription")
    name = station.call(Trigger, "recorder/start_episode").message
    process.send_signal(signal.SIGSTOP)  # a recorder that gets no processor for a while
    big = rgb_to_image(np.zeros((600, 800, 3), np.uint8))
    refused = 0
    for _ in range(60):  # a publisher keeps five of them
        try:
            station.image.publish(big)
        except RCLError:
            refused += 1
    missed = _reported(station, "missed")
    process.send_signal(signal.SIGCONT)
    station.image.publish(big)
    station.until(lambda: missed and missed[-1] >= 50 - refused, "the loss to be noticed")
    assert station.call(Trigger, "recorder/stop_episode").success
    station.until(_recorded(tmp_path / "bags" / name), "the bag to be closed")
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    found = re.search(r"holds (\d+) messages, (\d+) messages were lost on their way here", said)
    assert found, said
    held, lost = map(int, found.groups())
    assert held <= 12 and held + lost >= 61 - refused, said  # every message is accounted for; DDS may count one twice


def _own_disks() -> bool:
    return subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True, check=False).returncode == 0


own_disk = pytest.mark.skipif(not _own_disks(), reason="this system lets nobody mount a small disk for a test")


def _said(process: subprocess.Popen) -> list[str]:
    """Errors of a recorder, which ends."""
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait(20) == 0 and "Traceback" not in said, said
    return [line for line in said.splitlines() if "[ERROR]" in line or "[FATAL]" in line]


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
    assert _recorded(bag)(), _said(process)
    kept = _numbers(bag)
    assert len(kept) > 20 and kept == list(range(kept[0], kept[0] + len(kept)))
    with AnyReader([bag]) as reader:
        count = sum(1 for _ in reader.messages())
    assert tried[-1] == "the bag could not be opened: see the log"
    first, *more = _said(process)
    assert f"No space left on device; what was flushed before is kept: {count} messages" in first
    assert len(more) == 1 and "less than reserve_mb 2; free some space" in more[0], more


@own_disk
def test_a_read_only_disk_is_said_once(start, tmp_path):
    station, process = start(disk="ro")
    assert "not active" in station.call(Trigger, "recorder/start_episode").message
    said = _said(process)
    assert len(said) == 1, said
    (error,) = said
    assert f"cannot record into {tmp_path / 'bags'}: Read-only file system; name another one in `folder`" in error


def test_a_bag_of_that_name_is_kept_said_once_and_the_next_episode_is_recorded(start, tmp_path):
    station, process = start()
    _ready(station)
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
    station.until(_recorded(bags / "000001"), "the bag to be closed")
    assert _said(process) == []
    assert [file.name for file in (bags / "000000").iterdir()] == ["mine"]
