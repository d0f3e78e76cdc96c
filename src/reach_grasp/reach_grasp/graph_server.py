# SPDX-License-Identifier: Apache-2.0
"""The live ROS graph for Foxglove and Lichtblick: a channel for each topic, taken from ROS while a client looks at it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

import foxglove
from foxglove.websocket import ChannelView, Client, ServerListener
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription

from dataset_recorder.errors import RecordingError
from dataset_recorder.graph import message_class, publishers, widest
from dataset_recorder.types import typestore_for
from reach_grasp.errors import CommandError

_LOOK_S = 1.0  # how often new and gone topics are looked for
_DEPTH = 10  # messages of a topic that may wait for us; of a latched one all that its publisher keeps
_BACKLOG = 100  # messages that may wait for a slow client, then the oldest are dropped
_EVERYWHERE = ("/diagnostics", "/rosout")  # topics that all namespaces share


@dataclass(eq=False)
class _Shown:
    """A topic that clients may look at. topic: its name in ROS. kinds: its types as the graph has them."""

    topic: str
    kinds: Sequence[str]
    message: type
    channel: foxglove.Channel
    clients: set[int] = field(default_factory=set)
    subscription: Subscription | None = None


class GraphServer:
    """Serves what a node sees while the node spins. Use it as a context manager.

    Clients can only look: the server offers them neither publishing nor services nor parameters.
    """

    def __init__(self, node: Node, host: str, port: int, say: Callable[[str], None]) -> None:
        """Listen at a port, 0 for a free one.

        The namespace of the node is what is shown, under names without it; of a node in none, everything is. say: told in one
        sentence of each topic that cannot be shown. Raises CommandError when nobody can listen there.
        """
        # A thread of the server that logs waits for Python while it holds a lock for which Python may wait.
        foxglove.set_log_level("CRITICAL")
        self._node, self._say = node, say
        self._place = node.get_namespace().rstrip("/")
        self._shown: dict[str, _Shown] = {}  # by the name that clients see
        self._refused: dict[str, Sequence[str]] = {}
        self._asked: SimpleQueue[tuple[int, int, bool]] = SimpleQueue()
        self._wake = node.create_guard_condition(self._answer)
        self._context = foxglove.Context()
        try:
            self._server = foxglove.start_server(
                name="reach-grasp watch",
                host=host,
                port=port,
                server_listener=_Listener(self._ask),
                context=self._context,
                message_backlog_size=_BACKLOG,
            )
        except RuntimeError as error:
            why = str(error).split(": ", 2)[-1]  # of FoxgloveError: Failed to bind port: Address already in use (os error 98)
            taken = f"(os error {errno.EADDRINUSE})" in why
            cure = "end what listens there, or choose another --port" if taken else "choose another --host or --port"
            raise CommandError(f"cannot listen at {host}:{port}: {why}; {cure}") from error
        self.address = f"ws://{host}:{self._server.port}"
        self._look()
        node.create_timer(_LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def __enter__(self) -> GraphServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    # What is there -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Show topics that are new, no longer those that nobody publishes any more, and subscribe as the publishers are now."""
        found = {}
        for topic, kinds in self._node.get_topic_names_and_types():
            name = self._name(topic)
            if name and self._node.count_publishers(topic):
                found[name] = (topic, kinds)
        for name, shown in list(self._shown.items()):
            if found.get(name) != (shown.topic, shown.kinds):
                self._leave(shown)
                shown.channel.close()
                del self._shown[name]
            elif shown.subscription is not None and shown.subscription.qos_profile != self._quality(shown.topic):
                self._take(shown)
        for name, (topic, kinds) in found.items():
            if name not in self._shown and self._refused.get(topic) != kinds:
                self._show(name, topic, kinds)

    def _name(self, topic: str) -> str:
        """What clients call a topic; empty when it is not shown."""
        if topic.startswith(f"{self._place}/"):
            return topic.removeprefix(self._place)
        return topic if topic in _EVERYWHERE else ""

    def _show(self, name: str, topic: str, kinds: Sequence[str]) -> None:
        try:
            if len(kinds) > 1:
                raise RecordingError(f"it is published as {' and '.join(kinds)}")
            message, (text, _) = message_class(kinds[0]), typestore_for(kinds[0]).generate_msgdef(kinds[0], ros_version=2)
        except RecordingError as error:
            self._refused[topic] = kinds
            self._say(f"{topic} is not shown: {error}")
            return
        schema = foxglove.Schema(name=kinds[0], encoding="ros2msg", data=text.encode())
        channel = foxglove.Channel(name, schema=schema, message_encoding="cdr", context=self._context)
        self._shown[name] = _Shown(topic, kinds, message, channel)

    # What clients look at ----------------------------------------------------------------------------------------------

    def _ask(self, channel: int, client: int, looks: bool) -> None:
        """In a thread of the server."""
        self._asked.put((channel, client, looks))
        self._wake.trigger()

    def _answer(self) -> None:
        """Subscribe for who began to look, and to nothing that nobody looks at any more."""
        while not self._asked.empty():
            channel, client, looks = self._asked.get()
            shown = next((shown for shown in self._shown.values() if shown.channel.id() == channel), None)
            if shown is None:
                continue  # gone meanwhile
            if not looks:
                shown.clients.discard(client)
                if not shown.clients:
                    self._leave(shown)
                continue
            shown.clients.add(client)
            latched = self._quality(shown.topic).durability is DurabilityPolicy.TRANSIENT_LOCAL
            if shown.subscription is None or latched:
                self._take(shown)

    def _take(self, shown: _Shown) -> None:
        """Subscribe, or anew: only a new subscription brings a latched message to a client that came late."""
        self._leave(shown)
        silent = SubscriptionEventCallbacks(use_default_callbacks=False)  # of a publisher that offers less the next look learns
        shown.subscription = self._node.create_subscription(
            shown.message, shown.topic, shown.channel.log, self._quality(shown.topic), raw=True, event_callbacks=silent
        )

    def _leave(self, shown: _Shown) -> None:
        if shown.subscription is not None:
            self._node.destroy_subscription(shown.subscription)
            shown.subscription = None

    def _quality(self, topic: str) -> QoSProfile:
        """The strongest that all publishers offer."""
        quality = widest(publishers(self._node, topic))
        if quality.durability is not DurabilityPolicy.TRANSIENT_LOCAL:
            quality.depth = _DEPTH
        return quality


class _Listener(ServerListener):
    """Tells which client begins or ends to look at which channel, by their numbers."""

    def __init__(self, ask: Callable[[int, int, bool], None]) -> None:
        self._ask = ask

    def on_subscribe(self, client: Client, channel: ChannelView) -> None:
        self._ask(channel.id, client.id, True)

    def on_unsubscribe(self, client: Client, channel: ChannelView) -> None:
        self._ask(channel.id, client.id, False)
