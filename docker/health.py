# SPDX-License-Identifier: Apache-2.0
"""Health check of a container: python docker/health.py NODE... ends with 0 where every node answers a request, else with 1."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rcl_interfaces.srv import ListParameters

from reach_grasp.errors import CommandError
from reach_grasp.visitor import Visitor

TIMEOUT_S = 10.0


def check(names: Sequence[str]) -> None:
    """Raise CommandError unless each node is found and answers, each within TIMEOUT_S.

    names: of nodes, with their namespace where they have one, such as `left/actor`.
    """
    with Visitor("health", "", TIMEOUT_S) as visitor:
        for name in names:
            client = visitor.node.create_client(ListParameters, f"/{name}/list_parameters")
            if not visitor.until(client.service_is_ready):
                raise CommandError(f"{name} was not found in {TIMEOUT_S:g} s; look at the container's log")
            if not visitor.until(client.call_async(ListParameters.Request()).done):
                raise CommandError(f"{name} did not answer in {TIMEOUT_S:g} s; look at the container's log")


if __name__ == "__main__":
    try:
        check(sys.argv[1:])
    except CommandError as error:
        sys.exit(f"health: {error}")
