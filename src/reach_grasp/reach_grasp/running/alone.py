# SPDX-License-Identifier: Apache-2.0
"""Makes sure that a system is not started beside another one that would drive the same arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from reach_grasp.errors import CommandError
from reach_grasp.interrupt import heed
from reach_grasp.specs import NodeSpec
from reach_grasp.values import domain_of_environment
from reach_grasp.visitor import Visitor

SEEK_S = 0.5
"""How long a node of another system may take to be discovered."""
LEAVE_S = 25.0
"""How long a system that was stopped may take to end; a killed node that was already discovered is forgotten after 20 s."""
_POLL_S = 0.2


def check_alone(specs: Sequence[NodeSpec], say: Callable[[str], None] = print) -> None:
    """Wait until this ROS domain has no node with the name of one of these any more.

    Two of one name would both move the arm, or write into the same run. Raises CommandError when one is still there after
    `LEAVE_S`. say: prints a line for the user.
    """
    wanted = {"/".join(["", *filter(None, [spec.namespace.strip("/"), spec.name])]) for spec in specs if not spec.optional}
    with Visitor("check_alone", "", SEEK_S) as visitor:

        def found() -> set[str]:
            return wanted & {f"{place.rstrip('/')}/{name}" for name, place in visitor.node.get_node_names_and_namespaces()}

        visitor.until(found)
        end_s, told = time.monotonic() + LEAVE_S, False
        while names := sorted(found()):
            heed()
            which, verb = ", ".join(names), "runs" if len(names) == 1 else "run"
            if time.monotonic() > end_s:
                raise CommandError(
                    f"{which} already {verb} in ROS domain {domain_of_environment()}: end that system first, "
                    "or set ROS_DOMAIN_ID to a number that nobody uses"
                )
            if not told:
                say(f"waiting up to {LEAVE_S:g} s for another system to end: {which} still {verb}")
                told = True
                visitor.leave_open()
            time.sleep(_POLL_S)
