# SPDX-License-Identifier: Apache-2.0
"""The player over DDS; the test plays the classifier. With the real one: src/reach_grasp/test/test_replay.py."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from dataset_recorder.comparison import read_frames
from dataset_recorder.convert.bag import Bag
from dataset_recorder.player_node import PlayerNode
from hilserl_interfaces.msg import EpisodeStatus, Reward
from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.node import Finished, NodeError

GRASP = Path(__file__).parent / "data" / "grasp"
TASK = ("task.camera_sizes:=[128, 128]", "task.crops:=[0, 0, 128, 128]")
TIMEOUT_S = 120.0


class _Classifier:
    """Calls every frame of its third second a success; keeps the bytes that it is shown."""

    def __init__(self, context: Context, gate: bool = True) -> None:
        self.node = rclpy.create_node("judge", context=context)
        self.seen: list[tuple[str, bytes]] = []
        self.times: list[int] = []
        self.restarts: list[int] = []
        self.silent = False
        self.rewards = self.node.create_publisher(Reward, "reward", qos.REWARD)
        self.node.create_service(Trigger, "~/restart", self._restart)
        self._listen(EpisodeStatus, "episode/status", qos.latched(10))
        self.node.create_subscription(Clock, "/clock", lambda message: self.times.append(to_ns(message.clock)), qos.newest(100))
        if gate:
            self._listen(JointState, "joint_states", qos.JOINT_STATES)
        self._listen(Image, "wrist/image_raw", qos.IMAGE)

    def _restart(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.restarts.append(len(self.seen))
        return response

    def _listen(self, kind: type, name: str, quality: object) -> None:
        self.node.create_subscription(kind, name, lambda data: self._on(name, kind, bytes(data)), quality, raw=True)

    def _on(self, name: str, kind: type, data: bytes) -> None:
        self.seen.append((name, data))
        if name == "wrist/image_raw" and not self.silent:
            stamp = deserialize_message(data, kind).header.stamp
            answer = Reward(probability=0.25, success=3 <= stamp.sec < 4)
            answer.header.stamp = stamp
            self.rewards.publish(answer)


class _Rig:
    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.player: PlayerNode | None = None
        self.classifier: _Classifier | None = None

    def judge(self, **more: bool) -> _Classifier:
        self.classifier = _Classifier(self.context, **more)
        self.executor.add_node(self.classifier.node)
        return self.classifier

    def play(self, *bags: Path, **parameters: object) -> str:
        """What the player says in the end."""
        named = ", ".join(f'"{bag}"' for bag in bags)
        words = [*([f"bags:=[{named}]"] if bags else []), *TASK, *(f"{name}:={value}" for name, value in parameters.items())]
        self.player = PlayerNode(context=self.context, cli_args=["--ros-args", *[w for text in words for w in ("-p", text)]])
        self.executor.add_node(self.player)
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            try:
                self.executor.spin_once(timeout_sec=0.1)
            except Finished as result:
                self.executor.remove_node(self.player)
                return str(result)
        raise AssertionError("the player did not come to an end")

    def until(self, condition: Callable[[], bool]) -> None:
        """What was sent last may still be on its way when the player has done its part."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.executor.shutdown()
        if self.player is not None:
            self.player.close()
            self.player.destroy_node()
        if self.classifier is not None:
            self.classifier.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def rig():
    rig = _Rig(int(os.environ.get("ROS_DOMAIN_ID", "0")) + 4)
    yield rig
    rig.close()


def _stored(bag: Path, name: str) -> list[bytes]:
    with Bag(bag) as opened:
        return [data for _, _, data in opened.serialised([f"/{name}"])]


def _heard(classifier: _Classifier, name: str) -> list[bytes]:
    """Each once: on a very busy computer some come twice."""
    return list(dict.fromkeys(data for topic, data in classifier.seen if topic == name))


def test_the_bytes_of_the_bag_arrive_and_its_rewards_are_compared(rig, tmp_path):
    classifier = rig.judge()
    assert "1 bags played" in rig.play(GRASP, output=tmp_path / "replay.csv")
    for name in ("wrist/image_raw", "joint_states", "episode/status"):
        stored = list(dict.fromkeys(_stored(GRASP, name)))
        rig.until(lambda name=name, stored=stored: len(_heard(classifier, name)) >= len(stored))
        assert _heard(classifier, name) == stored
    frames = read_frames(tmp_path / "replay.csv")[str(GRASP)]
    assert [frame.stamp_ns // 100_000_000 for frame in frames] == list(range(2, 46))
    assert [frame.stamp_ns // 100_000_000 for frame in frames if frame.success] == list(range(30, 40))
    assert {frame.probability for frame in frames} == {0.25}
    assert [frame.label for frame in frames].count(True) == 31, "what was recorded as reward"
    assert classifier.times == sorted(classifier.times) and classifier.times[-1] > 5_000_000_000


def test_the_classifier_forgets_one_bag_before_the_next(rig, tmp_path):
    shutil.copytree(GRASP, tmp_path / "bags" / "again")
    classifier = rig.judge(gate=False)
    assert "2 bags played" in rig.play(GRASP, tmp_path / "bags", output=tmp_path / "replay.csv")
    one, two = read_frames(tmp_path / "replay.csv").values()
    assert one == two and len(one) == 44
    assert len(classifier.restarts) == 2 and classifier.restarts[0] == 0 < classifier.restarts[1] < len(classifier.seen)


def test_at_a_pace_it_waits_for_nobody(rig, tmp_path):
    classifier = rig.judge()
    classifier.silent = True
    rig.play(GRASP, rate=20.0, output=tmp_path / "replay.csv")
    stored = iter(_stored(GRASP, "joint_states"))
    seen = [data for topic, data in classifier.seen if topic == "joint_states"]
    assert seen and all(data in stored for data in seen), "in order; a slow computer may lose some"
    assert not any(frame.probability for frame in read_frames(tmp_path / "replay.csv")[str(GRASP)])


def test_mistakes_are_one_sentence_before_anything_is_played(rig, tmp_path):
    for bags, parameters, sentence in (
        ([], {}, "no bag is named"),
        ([tmp_path / "nowhere"], {}, "nowhere does not exist"),
        ([GRASP, GRASP / "000000.mcap"], {}, "is named twice"),
        ([GRASP], {"topics": "[tf]"}, "has no topic tf; it has"),
        (
            [GRASP],
            {"task.camera_sizes": "[64, 64]", "task.crops": "[0, 0, 64, 64]"},
            r"are \(128, 128\) pixels in it, \(64, 64\)",
        ),
    ):
        with pytest.raises(NodeError, match=sentence):
            rig.play(*bags, **parameters)


def test_without_a_classifier_it_says_so(rig):
    with pytest.raises(NodeError, match="no classifier has listened for 1 s: start one in this ROS domain"):
        rig.play(GRASP, start_timeout_s=1.0)


def test_what_the_classifier_needs_must_be_played(rig):
    rig.judge()
    with pytest.raises(NodeError, match=r"judge judges by joint_states too, which .*grasp lacks"):
        rig.play(GRASP, topics="[wrist/image_raw]")


def test_a_camera_that_is_there_already_is_not_talked_over(rig):
    classifier = rig.judge()
    classifier.node.create_publisher(Image, "wrist/image_raw", qos.IMAGE)
    with pytest.raises(NodeError, match="judge publishes /wrist/image_raw too: replay in a ROS domain or"):
        rig.play(GRASP)


def test_two_classifiers_are_one_too_many(rig):
    classifier = rig.judge()
    other = rclpy.create_node("other", context=rig.context)
    other.create_publisher(Reward, "reward", qos.REWARD)
    with pytest.raises(NodeError, match="reward is published by judge and other: replay in a ROS domain"):
        rig.play(GRASP)
    assert classifier.seen == []
    other.destroy_node()


def test_a_type_that_is_not_installed_leaves_out_its_topic(rig, tmp_path, capfd):
    shutil.copytree(GRASP, tmp_path / "bag")
    metadata = tmp_path / "bag" / "metadata.yaml"
    text = metadata.read_text()
    truth = text.index("name: /truth")
    hash_at = text.index("RIHS01_", truth)
    metadata.write_text(text[:hash_at] + "RIHS01_" + "0" * 64 + text[hash_at + 71 :])
    rig.judge()
    rig.play(tmp_path / "bag")
    said = capfd.readouterr().err
    assert said.count("is not played") == 1
    assert "/truth of" in said and "hilserl_interfaces/msg/Reward was another type when it was recorded" in said
