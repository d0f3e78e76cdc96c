# SPDX-License-Identifier: Apache-2.0
"""What of a bag is played, in the order of its stamps, byte for byte."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from dataset_recorder.bag_writer import BagWriter, Topic
from dataset_recorder.convert.bag import Bag
from dataset_recorder.convert.errors import BagError
from dataset_recorder.tape import Tape
from dataset_recorder.testing import bags

GRASP = Path(__file__).parent / "data" / "grasp"
TICK_NS = bags.TICK_NS
IMAGE, JOINTS, EVENT = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", bags.EVENT
FOREVER = QosTime(2147483647, 4294967295)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, FOREVER, FOREVER,
    QosLiveliness.AUTOMATIC, FOREVER, False,
)  # fmt: skip


def image(tick):
    return bags.image(np.full((8, 8, 3), tick % 256, np.uint8), tick * TICK_NS, "")


def joints(tick):
    empty = dict.fromkeys(("velocity", "effort"), np.empty(0))
    return bags.message(JOINTS, header=bags.header(tick * TICK_NS), name=["a"], position=np.ones(1), **empty)


def event(tick):
    return bags.message(EVENT, header=bags.header(tick * TICK_NS), kind=0, source="")


def write(folder, messages, latched=()):
    """A bag of (topic, type, message), received in this order."""
    kinds = {topic: kind for topic, kind, _ in messages}
    topics = [Topic(topic, kind, (LATCHED,) if topic in latched else ()) for topic, kind in kinds.items()]
    writer = BagWriter(folder, topics, {})
    for place, (topic, kind, message) in enumerate(messages):
        writer.write(topic, place, bags.store().serialize_cdr(message, kind))
    writer.close()
    return folder


def order(tape):
    """(tick, topics that are observed, topics that are latched) of each moment."""
    return [
        (moment.stamp_ns // TICK_NS, [name for name, _ in moment.observed], [name for name, _ in moment.latched])
        for moment in tape.moments()
    ]


def test_every_message_is_played_as_it_was_stored():
    tape = Tape(GRASP, ["wrist"], 10.0)
    assert set(tape.topics.values()) == {"joint_states", "wrist/image_raw", "wrist/camera_info", "truth", "episode/status"}
    with Bag(GRASP) as bag:
        stored = Counter((topic.removeprefix("/"), data) for topic, _, data in bag.serialised(tape.topics))
    played = Counter(item for moment in tape.moments() for item in (*moment.observed, *moment.latched))
    assert played == stored and sum(played.values()) > 250


def test_only_the_frames_of_the_episode_count():
    tape = Tape(GRASP, ["wrist"], 10.0)
    assert tape.frames == [tick * TICK_NS for tick in range(2, 46)]
    moments = order(tape)
    assert (moments[0][0], moments[-1][0]) == (0, 61), "those before and after are played too"


def test_what_arrived_in_another_order_is_played_in_that_of_its_stamps(tmp_path):
    messages = [("/joint_states", JOINTS, joints(1)), ("/wrist/image_raw", IMAGE, image(1))]
    for tick in range(2, 30):  # the second camera comes one frame late, what follows from an image before it
        messages += [("/state", EVENT, event(tick)), ("/wrist/image_raw", IMAGE, image(tick))]
        messages += [("/front/image_raw", IMAGE, image(tick - 1)), ("/joint_states", JOINTS, joints(tick))]
    tape = Tape(write(tmp_path / "bag", messages, latched=("/state",)), ["wrist", "front"], 10.0)
    found = order(tape)
    assert found[0] == (1, ["joint_states", "wrist/image_raw", "front/image_raw"], [])
    assert found[1:-1] == [(tick, ["wrist/image_raw", "joint_states", "front/image_raw"], ["state"]) for tick in range(2, 29)]


def test_stamps_of_another_clock_do_not_count(tmp_path):
    messages = []
    for tick in range(1, 30):
        messages += [("/wrist/image_raw", IMAGE, image(tick)), ("/elsewhere", EVENT, event(10**10 + tick))]
        messages += [("/long_ago", EVENT, event(0))] if tick == 29 else []
    found = order(Tape(write(tmp_path / "bag", messages), ["wrist"], 10.0))
    assert [(tick, names) for tick, names, _ in found if tick != 19] == [
        (tick, ["wrist/image_raw", "elsewhere"]) for tick in range(1, 30) if tick != 19
    ]
    assert found[18] == (19, ["wrist/image_raw", "elsewhere", "long_ago"], []), "at once, a second before the images around it"


def test_time_may_begin_anew(tmp_path):
    ticks = [*range(101, 120), *range(1, 20)]
    tape = Tape(write(tmp_path / "bag", [("/wrist/image_raw", IMAGE, image(tick)) for tick in ticks]), ["wrist"], 10.0)
    assert [tick for tick, _, _ in order(tape)] == ticks


def test_a_namespace_is_left_behind_and_topics_can_be_chosen(tmp_path):
    names = [("joint_states", JOINTS, joints(1)), ("reward", EVENT, event(1)), ("joint_command", JOINTS, joints(1))]
    messages = [("/left/wrist/image_raw", IMAGE, image(1)), ("/right/wrist_camera", IMAGE, image(1))]
    messages += [(f"/left/{name}", kind, message) for name, kind, message in names]
    bag = write(tmp_path / "bag", messages)
    assert sorted(Tape(bag, ["wrist"], 10.0).topics.values()) == ["joint_states", "right/wrist_camera", "wrist/image_raw"]
    asked = ["wrist/image_raw", "joint_command", "reward"]
    assert sorted(Tape(bag, ["wrist"], 10.0, asked).topics.values()) == ["joint_command", "wrist/image_raw"]
    with pytest.raises(BagError, match="has no topic joints; it has joint_command, joint_states"):
        Tape(bag, ["wrist"], 10.0, ["joints"])


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "has 0 topics wrist/image_raw with images, expected one; it has nothing"),
        ([("/front/image_raw", IMAGE, image(1))], "has 0 topics wrist/image_raw with images, expected one; it has /front"),
        ([(f"/{side}/wrist/image_raw", IMAGE, image(1)) for side in ("left", "right")], "has 2 topics wrist/image_raw"),
        ([("/wrist/image_raw", IMAGE, image(0))], "images of /wrist/image_raw have no stamps"),
    ],
)
def test_a_bag_without_images_to_judge_is_one_sentence(tmp_path, messages, sentence):
    bag = write(tmp_path / "bag", messages)
    with pytest.raises(BagError, match=sentence):
        Tape(bag, ["wrist"], 10.0)


def test_a_bag_that_is_not_there_or_torn_is_one_sentence(tmp_path):
    with pytest.raises(BagError, match="nowhere is not a folder"):
        Tape(tmp_path / "nowhere", ["wrist"], 10.0)
    shutil.copytree(GRASP, tmp_path / "cut")
    (tmp_path / "cut" / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"its recording was cut off: run `reach-grasp repair .*cut`"):
        Tape(tmp_path / "cut", ["wrist"], 10.0)
    shutil.copytree(GRASP, tmp_path / "torn")
    file = tmp_path / "torn" / "000000.mcap"
    file.write_bytes(file.read_bytes()[:80_000])
    with pytest.raises(BagError, match=r"if its recording was cut off, run `reach-grasp repair .*torn`"):
        Tape(tmp_path / "torn", ["wrist"], 10.0)
