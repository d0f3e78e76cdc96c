# SPDX-License-Identifier: Apache-2.0
"""reach-grasp estop: stop the arm until a person clears it."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.node import Node
    from std_msgs.msg import Bool

CONFIRM_S = 5.0
_RETRY_S = 0.1
_SEEK_S = 1.0  # how long drivers in other namespaces may take to be discovered
_FOLLOWER, _RELAY = "follower", "command_relay"  # our driver's node, and the one before somebody else's driver
_UNNAMED = "_NODE_NAME_UNKNOWN_"  # discovery has found a publisher, and not yet whose it is
_UNCONFIRMED = "NOT CONFIRMED: no driver says that the arm is stopped; use the switch of the arm's supply"
_RELAYED = (
    "our commands no longer reach the arm, but only its own driver knows whether it stands still; use the switch of the arm's "
    "supply"
)


class Estop:
    """The verb."""

    name = "estop"
    text = "Emergency stop: the arm holds, over any restart of its driver, until --clear. It does not let go."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--clear", action="store_true", help="End the stop: the arm goes on from where it is.")
        parser.add_argument("--yes", action="store_true", help="With --clear: do not ask whether the arm's reach is free.")
        scope = "Namespace of the arm's driver. Without it every driver of the ROS domain is stopped."
        parser.add_argument("--namespace", default="", help=scope)

    def run(self, options: argparse.Namespace) -> int:
        """Stop or clear. Returns 0 when our driver confirms it, else 1."""
        from reach_grasp.terminal import confirm

        if not options.clear:
            return _stop(options.namespace)
        if not confirm("The arm goes on now, with whatever commands it. Is nobody in its reach?", options.yes):
            print("the stop was not cleared")
            return 1
        return _clear(options.namespace)


def _stop(namespace: str) -> int:
    """Request the stop again and again until every driver that was found confirms it; somebody else's never does.

    Without a namespace that is every driver of the ROS domain: who stops an arm in haste types no namespace.
    """
    from functools import partial

    from std_msgs.msg import Bool

    from hilserl_ros import qos
    from reach_grasp.visitor import Visitor

    with Visitor("estop", namespace, CONFIRM_S) as visitor:
        node, asked_s = visitor.node, time.monotonic()
        requests, said = {}, {}

        def confirmed() -> bool:
            places = {node.get_namespace()} | (set() if namespace else _drivers(node))
            for place in places - set(requests):
                said[place] = []
                requests[place] = node.create_publisher(Bool, f"{place.rstrip('/')}/estop/request", qos.ESTOP_REQUEST)
                hear = partial(_hear, said[place])
                node.create_subscription(Bool, f"{place.rstrip('/')}/estop", hear, qos.STATUS)
            for request in requests.values():
                request.publish(Bool(data=True))
            # The first message is the state before, then one answers each request.
            answered = {place for place, heard in said.items() if len(heard) > 1 and heard[-1] and _speakers(node, place)}
            silent = {place for place, request in requests.items() if request.get_subscription_count()} - answered
            return bool(answered) and not silent and time.monotonic() > asked_s + (0.0 if namespace else _SEEK_S)

        everybody = visitor.until(confirmed, _RETRY_S)
        stopped = sorted(place for place, heard in said.items() if len(heard) > 1 and heard[-1] and _speakers(node, place))
        silent = sorted(place for place in _drivers(node) if place in said and place not in stopped)
        relayed = [place for place in stopped if _RELAY in _speakers(node, place)]
    for place in stopped:
        where = "" if place == "/" else f" in {place}"
        if place in relayed:
            print(f"NOT CONFIRMED{where}: {_RELAYED}; '{_clear_command(place)}' lets commands pass again")
        else:
            print(f"the driver{where} confirms: the arm is stopped; '{_clear_command(place)}' ends the stop")
    if not everybody:
        print(f"in {', '.join(silent)}: {_UNCONFIRMED}" if stopped and silent else _UNCONFIRMED)
        return 1
    if relayed:
        return 1
    return 0


def _hear(said: list[bool], message: Bool) -> None:
    said.append(message.data)


def _drivers(node: Node) -> set[str]:
    """Namespaces in which a driver of ours runs, or a relay to somebody else's."""
    return {place for name, place in node.get_node_names_and_namespaces() if name in (_FOLLOWER, _RELAY)}


def _speakers(node: Node, place: str) -> set[str]:
    """Names of the nodes that say in a namespace whether the arm is stopped; empty until all of them are known."""
    names = {info.node_name for info in node.get_publishers_info_by_topic(f"{place.rstrip('/')}/estop")}
    return set() if _UNNAMED in names else names


def _clear_command(place: str) -> str:
    return "reach-grasp estop --clear" + ("" if place == "/" else f" --namespace {place.strip('/')}")


def _clear(namespace: str) -> int:
    from std_srvs.srv import SetBool

    from reach_grasp.visitor import Visitor

    with Visitor("estop", namespace, CONFIRM_S) as visitor:
        clients = [visitor.node.create_client(SetBool, f"{name}/estop") for name in (_FOLLOWER, _RELAY)]
        if not visitor.until(lambda: any(client.service_is_ready() for client in clients)):
            there = sorted(_drivers(visitor.node))
            cure = (
                f"there is one in {there[0]}: '{_clear_command(there[0])}'"
                if len(there) == 1
                else "start it, with this ROS_DOMAIN_ID and --namespace"
            )
            print(f"not cleared: no driver offers {visitor.node.resolve_service_name(f'{_FOLLOWER}/estop')}; {cure}")
            return 1
        client = next(client for client in clients if client.service_is_ready())
        answer = client.call_async(SetBool.Request(data=False))
        if not visitor.until(answer.done):
            print("NOT CONFIRMED: the driver does not answer; whether the arm goes on is not known")
            return 1
        result = answer.result()
    print(f"cleared: {result.message}" if result.success else f"not cleared: {result.message}")
    return 0 if result.success else 1
