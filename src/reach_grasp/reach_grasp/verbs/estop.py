# SPDX-License-Identifier: Apache-2.0
"""reach-grasp estop: stop the arm until a person clears it."""

from __future__ import annotations

import argparse

CONFIRM_S = 5.0
_RETRY_S = 0.1
_UNCONFIRMED = "NOT CONFIRMED: no driver says that the arm is stopped; use the switch of the arm's supply"


class Estop:
    """The verb."""

    name = "estop"
    text = "Emergency stop: the arm holds, over any restart of its driver, until --clear. It does not let go."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--clear", action="store_true", help="End the stop: the arm goes on from where it is.")
        parser.add_argument("--yes", action="store_true", help="With --clear: do not ask whether the arm's reach is free.")
        parser.add_argument("--namespace", default="", help="Namespace of the arm's driver.")

    def run(self, options: argparse.Namespace) -> int:
        """Stop or clear. Returns 0 when the driver confirms it, else 1."""
        from reach_grasp.terminal import confirm

        if not options.clear:
            return _stop(options.namespace)
        if not confirm("The arm goes on now, with whatever commands it. Is nobody in its reach?", options.yes):
            print("the stop was not cleared")
            return 1
        return _clear(options.namespace)


def _stop(namespace: str) -> int:
    """Request the stop again and again until the driver confirms it."""
    from std_msgs.msg import Bool

    from hilserl_ros import qos
    from reach_grasp.visitor import Visitor

    said: list[bool] = []
    with Visitor("estop", namespace, CONFIRM_S) as visitor:
        request = visitor.node.create_publisher(Bool, "estop/request", qos.ESTOP_REQUEST)
        visitor.node.create_subscription(Bool, "estop", lambda message: said.append(message.data), qos.STATUS)

        def confirmed() -> bool:
            request.publish(Bool(data=True))
            return len(said) > 1 and said[-1]  # the first message is the state before, then one answers each request

        if not visitor.until(confirmed, _RETRY_S):
            print(_UNCONFIRMED)
            return 1
    print("the driver confirms: the arm is stopped; 'reach-grasp estop --clear' ends the stop")
    return 0


def _clear(namespace: str) -> int:
    from std_srvs.srv import SetBool

    from reach_grasp.visitor import Visitor

    with Visitor("estop", namespace, CONFIRM_S) as visitor:
        client = visitor.node.create_client(SetBool, "follower/estop")
        if not visitor.until(client.service_is_ready):
            name = visitor.node.resolve_service_name("follower/estop")
            print(f"not cleared: no driver offers {name}; start it, with this ROS_DOMAIN_ID and --namespace")
            return 1
        answer = client.call_async(SetBool.Request(data=False))
        if not visitor.until(answer.done):
            print("NOT CONFIRMED: the driver does not answer; whether the arm goes on is not known")
            return 1
        result = answer.result()
    print(f"cleared: {result.message}" if result.success else f"not cleared: {result.message}")
    return 0 if result.success else 1
