# SPDX-License-Identifier: Apache-2.0
"""Makes sure that a system is not started beside another one that would drive the same arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rcl_interfaces.srv import ListParameters

from reach_grasp.errors import CommandError
from reach_grasp.interrupt import heed
from reach_grasp.specs import NodeSpec
from reach_grasp.values import domain_of_environment
from reach_grasp.visitor import Visitor

_SEEK_S = 0.5  # how long a node of another system may take to be discovered
_ANSWER_S = 1.0  # a node that was killed stays in the graph for 20 s and does not answer
_LEAVE_S = 10.0  # a system that was just stopped may take so long to end


def check_alone(specs: Sequence[NodeSpec], say: Callable[[str], None] = print) -> None:
    """Wait until no node with the name of one of these answers in this ROS domain.

    Two of one name would both move the arm, or write into the same run. Raises CommandError when one still answers after 10 s.
    say: prints a line for the user.
    """
    wanted = {"/".join(["", *filter(None, [spec.namespace.strip("/"), spec.name])]) for spec in specs if not spec.optional}
    end_s, told = time.monotonic() + _LEAVE_S, False
    with Visitor("check_alone", "", _SEEK_S) as visitor:
        while names := _answering(visitor, wanted):
            heed()
            which, verb = ", ".join(names), "runs" if len(names) == 1 else "run"
            if time.monotonic() > end_s:
                raise CommandError(
                    f"{which} already {verb} in ROS domain {domain_of_environment()}: end that system first, "
                    "or set ROS_DOMAIN_ID to a number that nobody uses"
                )
            if not told:
                say(f"waiting for another system to end: {which} still {verb}")
                told = True
            time.sleep(0.2)


def _answering(visitor: Visitor, wanted: set[str]) -> list[str]:
    """The nodes with one of these full names that are alive, in the order of the alphabet."""

    def found() -> set[str]:
        return wanted & {f"{place.rstrip('/')}/{name}" for name, place in visitor.node.get_node_names_and_namespaces()}

    visitor.until(found)
    names = sorted(found())
    clients = {name: visitor.node.create_client(ListParameters, f"{name}/list_parameters") for name in names}
    asked_s, answers = time.monotonic(), {}

    def answered() -> bool:
        for name, client in clients.items():
            if name not in answers and client.service_is_ready():
                answers[name] = client.call_async(ListParameters.Request())
        return time.monotonic() > asked_s + _ANSWER_S or all(name in answers and answers[name].done() for name in names)

    while not visitor.until(answered):
        pass
    for client in clients.values():
        visitor.node.destroy_client(client)
    return [name for name in names if name in answers and answers[name].done()]
