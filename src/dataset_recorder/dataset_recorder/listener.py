# SPDX-License-Identifier: Apache-2.0
"""The reward classifier as the player sees it: a node that listens to images and publishes rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node, NodeNameNonExistentError
from std_srvs.srv import Trigger

from dataset_recorder.graph import publishers
from hilserl_ros.node import NodeError


class Listener:
    """name: of the classifier's node. parts: the topics whose messages of one stamp are a frame to it."""

    def __init__(self, name: str, parts: frozenset[str], restart: Client, question: Client) -> None:
        self.name, self.parts = name, parts
        self._restart, self._question = restart, question

    @property
    def ready(self) -> bool:
        """Whether it can be asked."""
        return self._restart.service_is_ready() and self._question.service_is_ready()

    def restart(self, then: Callable[[], None]) -> None:
        """Make it forget what it has seen; `then` is called by the executor."""
        self._restart.call_async(Trigger.Request()).add_done_callback(lambda _: then())

    def settle(self, then: Callable[[], None]) -> None:
        """Have `then` called by the executor when it has taken in all that was published before.

        Its own executor is single-threaded, and answers a question after the messages that came before it.
        """
        self._question.call_async(GetParameters.Request(names=["use_sim_time"])).add_done_callback(lambda _: then())


def find_listener(node: Node, cameras: Sequence[str]) -> Listener | None:
    """The classifier that listens to these cameras, None while there is none. Raises NodeError when there are several."""
    judges = publishers(node, "reward")
    if len(judges) > 1:
        names = " and ".join(sorted(info.node_name for info in judges))
        raise NodeError(f"reward is published by {names}: replay in a ROS domain or a namespace of its own")
    try:
        name, namespace = judges[0].node_name, judges[0].node_namespace
        heard = {topic for topic, _ in node.get_subscriber_names_and_types_by_node(name, namespace)}
    except (IndexError, NodeNameNonExistentError):
        return None
    images = [f"{camera}/image_raw" for camera in cameras]
    if not {node.resolve_topic_name(image) for image in images} <= heard:
        return None  # it subscribes to them last
    gate = ["joint_states"] if node.resolve_topic_name("joint_states") in heard else []
    path = f"{namespace.rstrip('/')}/{name}"
    clients = node.create_client(Trigger, f"{path}/restart"), node.create_client(GetParameters, f"{path}/get_parameters")
    return Listener(name, frozenset([*images, *gate]), *clients)
