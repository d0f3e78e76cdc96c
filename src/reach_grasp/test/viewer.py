# SPDX-License-Identifier: Apache-2.0
"""A client that looks on as Foxglove and Lichtblick do, without a screen."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from websockets.sync.client import connect

_MESSAGE = 1  # binary: this, the subscription, a time, the message
_HEAD = struct.Struct("<BIQ")


class Viewer:
    """channels: those offered, by topic. received: serialised messages, by topic. problems: what the server complained of."""

    def __init__(self, address: str) -> None:
        protocols = ["foxglove.websocket.v1", "foxglove.sdk.v1"]  # as Lichtblick offers them
        self.address = address
        self._socket = connect(address, subprotocols=protocols, max_size=None, compression=None, proxy=None, close_timeout=1.0)
        self.info: dict[str, Any] = {}
        self.channels: dict[str, dict[str, Any]] = {}
        self.received: dict[str, list[bytes]] = defaultdict(list)
        self.problems: list[str] = []
        self._topics: dict[int, str] = {}  # of every channel that was ever offered

    def poll(self) -> None:
        """Take what has come."""
        while True:
            try:
                data = self._socket.recv(timeout=0)
            except TimeoutError:
                return
            if isinstance(data, str):
                self._take(json.loads(data))
                continue
            kind, subscription, _ = _HEAD.unpack_from(data)
            assert kind == _MESSAGE
            self.received[self._topics[subscription]].append(data[_HEAD.size :])

    def _take(self, message: dict[str, Any]) -> None:
        if message["op"] == "serverInfo":
            self.info = message
        elif message["op"] == "status":
            self.problems.append(message["message"])
        elif message["op"] == "advertise":
            self.channels |= {channel["topic"]: channel for channel in message["channels"]}
            self._topics |= {channel["id"]: channel["topic"] for channel in message["channels"]}
        elif message["op"] == "unadvertise":
            gone = message["channelIds"]
            self.channels = {name: channel for name, channel in self.channels.items() if channel["id"] not in gone}

    def send(self, **message: Any) -> None:
        """Send one of the protocol's JSON messages."""
        self._socket.send(json.dumps(message))

    def look(self, *topics: str) -> None:
        """Subscribe; a subscription has its channel's number."""
        numbers = [self.channels[topic]["id"] for topic in topics]
        self.send(op="subscribe", subscriptions=[{"id": number, "channelId": number} for number in numbers])

    def look_away(self, *topics: str) -> None:
        """Unsubscribe."""
        self.send(op="unsubscribe", subscriptionIds=[self.channels[topic]["id"] for topic in topics])

    def decoded(self, topic: str) -> list[Any]:
        """The messages, read by nothing but the schema that came with the channel."""
        channel = self.channels[topic]
        assert (channel["encoding"], channel["schemaEncoding"]) == ("cdr", "ros2msg")
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(channel["schema"], channel["schemaName"]))
        return [store.deserialize_cdr(data, channel["schemaName"]) for data in self.received[topic]]

    def close(self) -> None:
        """Go."""
        self._socket.close()
