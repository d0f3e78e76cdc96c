# SPDX-License-Identifier: Apache-2.0
"""reach-grasp watch beside small graphs and a training, with a client that speaks Foxglove's protocol; and its layout."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, String
from viewer import Viewer
from visualization_msgs.msg import Marker

from dataset_recorder.graph import message_class
from hilserl_interfaces.msg import EpisodeResult, Reward
from hilserl_ros import qos
from hilserl_ros.images import rgb_to_image
from hilserl_ros.testing import Rig
from reach_grasp.command import main
from reach_grasp.process import background

LAYOUT = json.loads((Path(get_package_share_directory("reach_grasp")) / "config" / "watch.json").read_text())
REFERENCE = Path(__file__).parents[3] / "docs" / "reference.md"
SMALL = Path(__file__).with_name("small_training.yaml")


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(0)
    yield rig
    rig.close()


@pytest.fixture
def watch(rig: Rig) -> Iterator[Callable[..., tuple[subprocess.Popen, Viewer]]]:
    """Starts the command beside the rig; `watch(*words, without=())` returns its process and a client."""
    viewers: list[Viewer] = []

    def start(*words: str, without: tuple[str, ...] = ()) -> tuple[subprocess.Popen, Viewer]:
        # A module that is None cannot be imported.
        hide = f"import sys; sys.modules.update(dict.fromkeys({without!r}))"
        program = f"{hide}; from reach_grasp.command import end; end()"
        command = [sys.executable, "-c", program, "watch", "--port", "0", *words]
        environment = {**os.environ, "ROS_DOMAIN_ID": str(rig.domain)}
        pipe = subprocess.PIPE
        rig.processes.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
        line = rig.processes[-1].stdout.readline()
        assert re.match(r"ws://127\.0\.0\.1:\d+ shows ROS domain", line), line
        viewers.append(Viewer(line.split()[0]))
        rig.meanwhile = lambda: [viewer.poll() for viewer in viewers]
        return rig.processes[-1], viewers[-1]

    yield start
    rig.meanwhile = lambda: None
    for viewer in viewers:
        viewer.close()


def taken(rig: Rig) -> set[str]:
    """Topics that the command's node is subscribed to."""
    ((name, place),) = [found for found in rig.node.get_node_names_and_namespaces() if found[0].startswith("watch_")]
    return {topic for topic, _ in rig.node.get_subscriber_names_and_types_by_node(name, place)}


def test_a_client_gets_what_it_looks_at_and_ros_is_asked_for_nothing_else(rig, watch):
    image = rgb_to_image(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8), frame_id="wrist")
    images = rig.node.create_publisher(Image, "wrist/image_raw", qos.IMAGE)
    rig.node.create_timer(0.1, lambda: images.publish(image))
    description = rig.node.create_publisher(String, "robot_description", qos.STATUS)
    description.publish(String(data="<robot/>"))
    results = rig.node.create_publisher(EpisodeResult, "episode/result", qos.EPISODE_RESULT)
    for episode in range(3):
        results.publish(EpisodeResult(episode=episode, end=EpisodeResult.TIME_OUT, episode_return=0.5))
    process, viewer = watch()
    looked = {"/wrist/image_raw", "/robot_description", "/episode/result"}
    rig.until(lambda: looked <= viewer.channels.keys(), "the channels")
    assert taken(rig) == set()
    assert viewer.info["capabilities"] == []
    viewer.look(*looked)
    rig.until(lambda: looked == viewer.received.keys() and len(viewer.received["/episode/result"]) == 3, "the messages")
    seen = viewer.decoded("/wrist/image_raw")[0]
    assert (seen.header.frame_id, seen.height, seen.width, seen.encoding) == ("wrist", 480, 640, "rgb8")
    assert bytes(seen.data) == bytes(image.data)
    assert [message.data for message in viewer.decoded("/robot_description")] == ["<robot/>"]
    told = viewer.decoded("/episode/result")
    assert [(message.episode, message.end, message.episode_return) for message in told] == [(n, 3, 0.5) for n in range(3)]
    assert told[0].TIME_OUT == 3, "constants come with the schema"
    assert taken(rig) == looked
    viewer.look_away("/wrist/image_raw")
    rig.until(lambda: taken(rig) == looked - {"/wrist/image_raw"}, "the end of one subscription")
    viewer.close()
    rig.meanwhile = lambda: None
    rig.until(lambda: taken(rig) == set(), "the end of all subscriptions")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_a_client_that_comes_late_gets_latched_messages_too(rig, watch):
    description = rig.node.create_publisher(String, "robot_description", qos.STATUS)
    description.publish(String(data="<robot/>"))
    _, first = watch()
    rig.until(lambda: "/robot_description" in first.channels, "the channel")
    first.look("/robot_description")
    rig.until(lambda: first.received["/robot_description"], "the message")
    late = Viewer(first.address)
    rig.meanwhile = lambda: [viewer.poll() for viewer in (first, late)]
    rig.until(lambda: "/robot_description" in late.channels, "the channel again")
    late.look("/robot_description")
    rig.until(lambda: late.received["/robot_description"], "the message again")
    new = "<robot name='new'/>"
    description.publish(String(data=new))
    for viewer in (first, late):
        rig.until(lambda viewer=viewer: viewer.decoded("/robot_description")[-1].data == new, "a new message")
    assert [message.data for message in late.decoded("/robot_description")] == ["<robot/>", new]
    late.close()


def test_topics_come_and_go_and_change_their_type_and_quality(rig, watch):
    process, viewer = watch()
    rig.until(lambda: viewer.info, "the server")
    assert "/door" not in viewer.channels
    door = rig.node.create_publisher(Bool, "door", qos.STATUS)
    rig.node.create_subscription(Bool, "nobody_publishes", lambda _: None, 1)
    rig.until(lambda: "/door" in viewer.channels, "the channel of a new topic")
    viewer.look("/door")
    door.publish(Bool(data=True))
    rig.until(lambda: viewer.received["/door"], "a reliable message")
    rig.node.destroy_publisher(door)
    door = rig.node.create_publisher(Bool, "door", qos.newest())
    knocks = rig.node.create_timer(0.1, lambda: door.publish(Bool(data=False)))
    rig.until(lambda: not viewer.decoded("/door")[-1].data, "a message of a publisher that offers less")
    rig.node.destroy_timer(knocks)
    rig.node.destroy_publisher(door)
    rig.until(lambda: "/door" not in viewer.channels, "the end of the channel")
    rig.until(lambda: taken(rig) == set(), "the end of the subscription")
    door = rig.node.create_publisher(String, "door", qos.STATUS)
    rig.until(lambda: viewer.channels.get("/door", {}).get("schemaName") == "std_msgs/msg/String", "a channel of the new type")
    viewer.received.clear()
    viewer.look("/door")
    door.publish(String(data="open"))
    rig.until(lambda: viewer.received["/door"], "a message of the new type")
    assert viewer.decoded("/door")[0].data == "open"
    assert "/nobody_publishes" not in viewer.channels
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""


def test_a_topic_that_cannot_be_shown_is_named_once(rig, watch):
    other = Context()
    rclpy.init(context=other, domain_id=rig.domain)
    second = rclpy.create_node("second", context=other)
    try:
        rig.node.create_publisher(Marker, "overlay/trail", qos.OVERLAY)
        rig.node.create_publisher(Bool, "both", qos.STATUS)
        second.create_publisher(String, "both", qos.STATUS)
        process, viewer = watch(without=("visualization_msgs.msg",))
        for name in ("one", "two", "three"):  # each is found by another look
            rig.node.create_publisher(Bool, name, qos.STATUS)
            rig.until(lambda name=name: f"/{name}" in viewer.channels, "a topic that can be shown")
        assert not {"/overlay/trail", "/both"} & viewer.channels.keys()
        process.send_signal(signal.SIGTERM)
        said = sorted(process.communicate(timeout=60)[1].splitlines())
    finally:
        second.destroy_node()
        rclpy.shutdown(context=other)
    assert said == [
        "reach-grasp: /both is not shown: it is published as std_msgs/msg/Bool and std_msgs/msg/String",
        "reach-grasp: /overlay/trail is not shown: the type visualization_msgs/msg/Marker is not installed here: "
        "install visualization_msgs and source its workspace",
    ]


def test_a_namespace_is_shown_alone_and_by_the_names_of_the_layout(rig, watch):
    left = rig.node.create_publisher(Reward, "/left/reward", qos.REWARD)
    right = rig.node.create_publisher(Reward, "/right/reward", qos.REWARD)
    rig.node.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
    _, viewer = watch("--namespace", "left")
    rig.until(lambda: {"/reward", "/diagnostics"} <= viewer.channels.keys(), "the channels")
    assert not [name for name in viewer.channels if name.startswith(("/left", "/right"))]
    viewer.look("/reward")
    rig.until(lambda: taken(rig) == {"/left/reward"}, "the subscription")
    right.publish(Reward(probability=0.25))
    left.publish(Reward(probability=0.75))
    rig.until(lambda: viewer.received["/reward"], "a message")
    assert [message.probability for message in viewer.decoded("/reward")] == [0.75]


def test_a_client_cannot_say_anything(rig, watch):
    heard: list[Bool] = []
    rig.node.create_subscription(Bool, "estop/request", heard.append, qos.ESTOP_REQUEST)
    _, viewer = watch()
    rig.until(lambda: viewer.info, "the server")
    channel = {"id": 1, "topic": "/estop/request", "encoding": "cdr", "schemaName": "std_msgs/msg/Bool"}
    viewer.send(op="advertise", channels=[channel])
    rig.until(lambda: viewer.problems, "the refusal")
    assert viewer.problems == ["Server does not support clientPublish capability"]
    assert rig.node.count_publishers("/estop/request") == 0 and not heard


def test_a_place_where_nobody_can_listen_is_one_sentence_with_its_cure(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["watch", "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"reach-grasp: cannot listen at 127.0.0.1:{port}: Address already in use (os error 98); "
        "end what listens there, or choose another --port\n"
    )
    assert main(["watch", "--host", "192.0.2.1"]) == 2
    assert capsys.readouterr().err == (
        "reach-grasp: cannot listen at 192.0.2.1:8765: Cannot assign requested address (os error 99); "
        "choose another --host or --port\n"
    )


# The layout -----------------------------------------------------------------------------------------------------------

_OVERLAY = {"/overlay/reward": "visualization_msgs/Marker", "/overlay/trail": "visualization_msgs/Marker"}
_PART = re.compile(r'\.(\w+)(\[:\])?(?:\{(\w+)=="([^"]*)"\})?')


def paths(item: Any) -> Iterator[str]:
    """Every message path and topic of the layout."""
    if isinstance(item, dict):
        yield from paths([*item, *item.values()])
    elif isinstance(item, list):
        for part in item:
            yield from paths(part)
    elif isinstance(item, str) and item.startswith("/"):
        yield item


def documented() -> dict[str, str]:
    """Topics of a running training and their types."""
    rows = [line.split(" | ") for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    return {f"/{row[0].strip('|` ').removeprefix('/')}": row[1] for row in rows if len(row) == 6}


def leaf(path: str) -> str:
    """Type of what a message path leads to. Fails when there is no such field."""
    topic, rest = re.fullmatch(r"([/\w]+)(.*)", path).groups()
    kind = (_OVERLAY | documented())[topic]
    assert "".join(found[0] for found in re.finditer(_PART, rest)) == rest
    for name, each, key, _ in _PART.findall(rest):
        kind = message_class(kind.replace("/", "/msg/")).get_fields_and_field_types()[name]
        sequence = re.fullmatch(r"sequence<(.*)>", kind)
        assert bool(sequence) == bool(each), f"{path}: {name} is {kind}"
        kind = sequence[1] if sequence else kind
        if key:
            assert key in message_class(kind.replace("/", "/msg/")).get_fields_and_field_types()
    return kind


def test_every_panel_is_placed_and_leads_to_a_field_that_can_be_drawn():
    def placed(node: Any) -> list[str]:
        return [node] if isinstance(node, str) else [*placed(node["first"]), *placed(node["second"])]

    assert sorted(placed(LAYOUT["layout"])) == sorted(LAYOUT["configById"])
    numbers = {"float", "double", "boolean", "uint8", "uint32", "uint64", "string"}  # texts of numbers are drawn too
    for panel, config in LAYOUT["configById"].items():
        for path in paths(config):
            drawn = panel.startswith(("Plot", "StateTransitions"))
            assert (leaf(path) in numbers) if drawn else leaf(path).count("/") == 1, path
    images = [config["imageMode"]["imageTopic"] for panel, config in LAYOUT["configById"].items() if panel.startswith("Image")]
    assert {leaf(topic) for topic in images} == {"sensor_msgs/Image"} and len(images) == 2


def test_the_layout_gets_all_it_names_from_a_training(rig, watch, tmp_path):
    """Each topic but the markers', and each of the learner's measures; and a bag of it defines its types alike."""
    rig.timeout_s = 400.0  # of a machine that does other things too
    topics = {re.match(r"[/\w]+", path)[0] for path in paths(LAYOUT)} | {"/tf", "/tf_static"}
    topics -= _OVERLAY.keys()
    measures = {
        key for path in paths(LAYOUT) if path.startswith("/learner/status") for _, _, _, key in _PART.findall(path) if key
    }
    arguments = {"run": tmp_path / "run", "config": SMALL, "demonstrations": 2, "steps": 2000, "record": "true"}
    log, (_, viewer) = tmp_path / "log.txt", watch()
    with background("train", arguments, log, {"ROS_DOMAIN_ID": str(rig.domain)}) as system:
        asked: set[str] = set()

        def complete() -> bool:
            assert system.poll() is None, log.read_text()[-4000:]
            if new := topics & viewer.channels.keys() - asked:
                viewer.look(*new)
                asked.update(new)
            status = viewer.decoded("/learner/status")[-1:] if viewer.received["/learner/status"] else []
            told = {item.key for message in status for item in message.metrics}
            viewer.received["/learner/status"] = viewer.received["/learner/status"][-1:]
            return topics <= {name for name, messages in viewer.received.items() if messages} and measures <= told

        rig.until(complete, f"messages of {sorted(topics)} and {sorted(measures)}")
    moved = [transform for topic in ("/tf", "/tf_static") for seen in viewer.decoded(topic) for transform in seen.transforms]
    assert LAYOUT["configById"]["3D!arm"]["followTf"] in {transform.header.frame_id for transform in moved}
    assert "<robot" in viewer.decoded("/robot_description")[0].data
    bags = sorted((tmp_path / "run").rglob("metadata.yaml"))
    with AnyReader([bags[0].parent]) as bag:
        defined = {found.topic: (found.msgtype, found.msgdef.data) for found in bag.connections}
    assert len(topics & defined.keys()) > 4
    for topic in topics & defined.keys():
        assert defined[topic] == (viewer.channels[topic]["schemaName"], viewer.channels[topic]["schema"])
