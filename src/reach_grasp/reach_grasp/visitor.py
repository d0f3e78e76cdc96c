# SPDX-License-Identifier: Apache-2.0
"""A node for the moment in which a command says something to a running system."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidNamespaceException
from rclpy.executors import SingleThreadedExecutor
from rclpy.validate_namespace import validate_namespace

from hilserl_ros.transport import use_udp
from reach_grasp import leftover
from reach_grasp.errors import CommandError
from reach_grasp.values import domain_of_environment

_SPIN_S = 0.05


class Visitor:
    """Use it as a context manager; `node` is in the domain of the environment."""

    def __init__(self, name: str, namespace: str, timeout_s: float) -> None:
        """timeout_s: for which `until` waits. Raises CommandError for what is no namespace."""
        where = f"/{namespace.strip('/')}"
        try:
            validate_namespace(where)
        except InvalidNamespaceException as error:
            raise CommandError(f"'{namespace}' is no namespace: letters, digits, '_' and '/' make one") from error
        use_udp(os.environ)
        self._context, self._timeout_s, self._kept = Context(), timeout_s, False
        rclpy.init(args=[], context=self._context, domain_id=domain_of_environment())
        self.node = rclpy.create_node(f"{name}_{os.getpid()}", namespace=where, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def until(self, condition: Callable[[], object], spin_s: float = _SPIN_S) -> bool:
        """Spin until the condition holds; whether it did in time. spin_s: how long nothing may come between two looks."""
        end = time.monotonic() + self._timeout_s
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=spin_s)
        return True

    def __enter__(self) -> Visitor:
        return self

    def leave_open(self) -> None:
        """Take nothing apart at the end, because other nodes are leaving: see leftover.py."""
        leftover.keep(self._take_apart)
        self._kept = True

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self._take_apart()

    def _take_apart(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
