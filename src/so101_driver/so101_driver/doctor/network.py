# SPDX-License-Identifier: Apache-2.0
"""DDS: a message through this domain, who else is there, the learner's host and its clock."""

from __future__ import annotations

import os
import shlex
import socket
import time
from collections.abc import Callable, Iterator

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from hilserl_interfaces.msg import LearnerStatus
from hilserl_ros import qos
from hilserl_ros.convert import to_ns
from hilserl_ros.transport import use_udp
from so101_driver.doctor.finding import Finding, Level, broken, examine

_NAMES = ("doctor", "doctor_echo")
_LAST_DOMAIN = 232  # beyond there are no ports
_TRIP_S = 10.0
_LOOK_S = 0.005
_DISCOVERY_S = 2.0  # for the nodes of others
_LEARNER_S = 3.0  # until its first word
_STAMPS = 4  # the first was kept for whoever comes late, and says nothing about now
_SKEW_S = 0.1
_SIMULATED_S = 1e9  # stamps below are of a simulation
_SYNC = "let both machines follow the network's time: 'sudo timedatectl set-ntp true'"


class Domain:
    """Two participants in one ROS domain. Use it as a context manager; `examine` is all it knows."""

    def __init__(self, domain: int, namespace: str = "") -> None:
        self.domain = domain
        use_udp(os.environ)
        self._contexts = [Context() for _ in _NAMES]
        self._executors, self._nodes = [], []
        for name, context in zip(_NAMES, self._contexts, strict=True):
            rclpy.init(args=[], context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
            node = rclpy.create_node(f"{name}_{os.getpid()}", context=context, namespace=namespace, enable_rosout=False)
            executor = SingleThreadedExecutor(context=context)
            executor.add_node(node)
            self._nodes.append(node)
            self._executors.append(executor)
        self._ages_s: list[float] = []
        self._begun_s = time.monotonic()
        self._status = self._nodes[0].create_subscription(LearnerStatus, "learner/status", self._on_status, qos.STATUS)

    def __enter__(self) -> Domain:
        return self

    def __exit__(self, *_: object) -> None:
        for executor, node, context in zip(self._executors, self._nodes, self._contexts, strict=True):
            executor.shutdown()
            node.destroy_node()
            context.try_shutdown()

    def examine(self, learner_expected: bool) -> Iterator[Finding]:
        """All checks; the nodes last, since they are found meanwhile."""
        yield examine("DDS", self.round_trip)
        yield examine("learner clock", lambda: self.clock(learner_expected))
        yield examine("nodes", self.others)

    def round_trip(self) -> Finding | str:
        """A message from one participant to the other."""
        topic, heard = f"doctor_{os.getpid()}", []
        self._nodes[1].create_subscription(String, topic, heard.append, qos.reliable(1))
        publisher = self._nodes[0].create_publisher(String, topic, qos.reliable(1))
        begun = time.monotonic()
        if not self._until(lambda: publisher.get_subscription_count() > 0, _TRIP_S):
            cure = "look at ROS_AUTOMATIC_DISCOVERY_RANGE and ROS_STATIC_PEERS, and allow UDP 7000 to 65000 in the firewall"
            text = f"two participants in domain {self.domain} did not find one another in {_TRIP_S:g} s"
            return Finding("DDS", Level.PROBLEM, text, cure)
        found = time.monotonic() - begun
        for count in (1, 2):  # the first may wait until the other side knows the publisher
            sent = time.monotonic()
            publisher.publish(String(data="?"))
            if not self._until(lambda count=count: len(heard) >= count, _TRIP_S):
                cure = "allow UDP 7000 to 65000 in the firewall"
                return Finding("DDS", Level.PROBLEM, f"a message in domain {self.domain} did not arrive", cure)
        took = (time.monotonic() - sent) * 1000
        return f"domain {self.domain}: found in {found:.1f} s, a message went through in {took:.0f} ms, on this machine"

    def clock(self, expected: bool) -> Finding:
        """The learner's clock against this one, by the stamps of its status."""
        check = "learner clock"
        self._until(lambda: self._ages_s, _LEARNER_S)
        if not self._ages_s:
            text = "there is no learner in this domain, so its clock was not compared"
            cure = "start the learner first; both machines need the same ROS_DOMAIN_ID, and a range that is not LOCALHOST"
            return Finding(check, Level.PROBLEM, text, cure) if expected else Finding(check, Level.SKIPPED, text)
        if self._ages_s[0] > time.time() - _SIMULATED_S:
            return Finding(check, Level.SKIPPED, "the learner goes by simulated time, so its clock was not compared")
        self._until(lambda: len(self._ages_s) >= _STAMPS, _LEARNER_S)
        if len(self._ages_s) < 2:
            return Finding(check, Level.WARNING, "the learner has gone silent", "look at the learner's log")
        skew = min(self._ages_s[1:])  # of the message that was on its way for the shortest time
        direction = "behind" if skew > 0 else "ahead of"
        text = f"the learner's is {abs(skew) * 1000:.0f} ms {direction} this one, the way of the message included"
        return Finding(check, Level.WARNING, text, _SYNC) if abs(skew) > _SKEW_S else Finding(check, Level.OK, text)

    def others(self) -> str:
        """Nodes of other programs, and always of a learner that was heard: names come after what the nodes publish."""
        node = self._nodes[0]
        self._until(lambda: time.monotonic() > self._begun_s + _DISCOVERY_S and self._learner_is_named(), _TRIP_S)
        names = {f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()}
        own = {item.get_fully_qualified_name() for item in self._nodes}
        return ", ".join(sorted(names - own)) or f"no others in domain {self.domain}"

    def _learner_is_named(self) -> bool:
        names = self._nodes[0].get_node_names()
        found = self._nodes[0].get_publishers_info_by_topic(self._status.topic_name)
        return all(publisher.node_name in names for publisher in found)

    def _on_status(self, message: LearnerStatus) -> None:
        self._ages_s.append(time.time() - to_ns(message.header.stamp) / 1e9)

    def _until(self, condition: Callable[[], object], timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end:
            for executor in self._executors:
                executor.spin_once(timeout_sec=_LOOK_S)
        return bool(condition())


def examine_network(domain: str, namespace: str, learner: str | None) -> Iterator[Finding]:
    """domain: as ROS_DOMAIN_ID has it. learner: its host, empty where it is not known, None where none is needed."""
    if learner:
        yield examine("learner host", lambda: host(learner))
    if not domain.isdecimal() or int(domain) > _LAST_DOMAIN:
        yield Finding("DDS", Level.PROBLEM, f"ROS_DOMAIN_ID is {domain!r}", "set it to a number from 0 to 101")
        return
    try:
        with Domain(int(domain), namespace) as found:
            yield from found.examine(learner is not None)
    except (RuntimeError, OSError) as error:
        yield broken("DDS", error)


def host(name: str) -> Finding | str:
    """Whether the learner's machine has an address, and DDS may look for it there."""
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(name, None)}
    except OSError as error:
        text = f"{name} has no address ({error.strerror})"
        return Finding("learner host", Level.PROBLEM, text, "give its name as the network knows it, or its address")
    text = f"{name} is {', '.join(sorted(addresses))}"
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    peers = {peer.strip() for peer in os.environ.get("ROS_STATIC_PEERS", "").split(";")}
    named = reach != "OFF" and peers & {name, *addresses}
    if reach == "SUBNET" or named or any(map(_is_here, addresses)):
        return text
    cure = "'export ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET' on both machines"
    if reach != "OFF":
        cure += f", or 'export ROS_STATIC_PEERS={shlex.quote(name)}' here and this machine's name there"
    return Finding("learner host", Level.PROBLEM, f"{text}, but ROS_AUTOMATIC_DISCOVERY_RANGE is {reach} here", cure)


def _is_here(address: str) -> bool:
    """Whether an address is this machine's own: only then a socket may have it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as found:
            found.bind((address, 0))
    except OSError:
        return False
    return True
