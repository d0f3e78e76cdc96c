# SPDX-License-Identifier: Apache-2.0
"""The base of every node: parameters from a table, the task, one way to start, stop and fail."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from hilserl_core.task import TaskSpec
from hilserl_ros.parameters import ParameterError, build, check_value, descriptor, entries, unknown_keys
from hilserl_ros.publisher import Publisher
from hilserl_ros.transport import use_udp

P = TypeVar("P")

SHARED_PREFIXES = ("task.", "policy.")
"""Parameters that stand once, under the wildcard node `/**`: a node that has no use for one lets it pass."""

_SIM_TIME = "use_sim_time"


class NodeError(RuntimeError):
    """A node cannot do its work; the message is one sentence with the cure. Stops the node."""


class Finished(Exception):
    """A node has done all there was to do; the message says what came of it. Ends the node with exit code 0."""


class StartAgain(Exception):
    """Only a new process helps; the message says why. Ends the node with exit code 1, so that its guard starts it again."""


class BaseNode(Node, Generic[P]):
    """A node whose parameters are the fields of a frozen dataclass.

    `self.params` is an instance of it, replaced when a tunable changes; `self.task` is the task specification; `self.tables`
    holds further tables by prefix. Raises ParameterError for an unknown parameter or a value that is not allowed.
    """

    def __init__(self, name: str, table: type[P], further: Mapping[str, type] | None = None, **kwargs: Any) -> None:
        super().__init__(name, allow_undeclared_parameters=True, automatically_declare_parameters_from_overrides=True, **kwargs)
        tables: dict[str, type] = {"": table, "task.": TaskSpec, **(further or {})}
        self._entries = {entry.key: entry for prefix, kind in tables.items() for entry in entries(kind, prefix)}
        given = self.list_parameters([], 0).names
        mine = [key for key in given if key in self._entries or not key.startswith(SHARED_PREFIXES)]
        for prefix in tables:
            if prefix in SHARED_PREFIXES:
                mine += [key for key in given if key.startswith(prefix) and key not in mine]
        if sentence := unknown_keys(mine, list(self._entries)):
            raise ParameterError(sentence)
        values = {key: self.get_parameter(key).value for key in given if key in self._entries}
        built = {prefix: build(kind, values, prefix) for prefix, kind in tables.items()}
        self._prefixes = dict(tables)
        self.params: P = built[""]
        self.task: TaskSpec = built["task."]
        self.tables: dict[str, Any] = {prefix: built[prefix] for prefix in further or {}}
        for prefix, kind in tables.items():
            for entry in entries(kind, prefix):
                if self.has_parameter(entry.key):
                    self.undeclare_parameter(entry.key)
                value = getattr(built[prefix], entry.key.removeprefix(prefix))
                self.declare_parameter(entry.key, list(value) if isinstance(value, tuple) else value, descriptor(entry))
        self.add_on_set_parameters_callback(self._check_set)
        self.add_post_set_parameters_callback(self._take_set)

    def create_publisher(self, *args: Any, **kwargs: Any) -> Publisher:
        """As rclpy's, of a publisher that says what was refused and goes on."""
        return super().create_publisher(*args, **{"publisher_class": Publisher, **kwargs})

    def refuse_sim_time(self) -> None:
        """Raises NodeError where somebody else's clock would say how old a command to a real arm is."""
        if self.get_parameter(_SIM_TIME).value:
            raise NodeError(f"{_SIM_TIME} is true, and a real arm keeps the computer's time; leave {_SIM_TIME} out")

    def _check_set(self, parameters: list[Parameter]) -> SetParametersResult:
        """Validate a change while running; nothing is changed unless all of it is allowed."""
        changed: dict[str, dict[str, Any]] = {}
        for item in parameters:
            entry = self._entries.get(item.name)
            if entry is None:
                if item.name == _SIM_TIME and item.value is not self.get_parameter(_SIM_TIME).value:
                    why = f"{_SIM_TIME} cannot be changed while a node runs; start it with '-p {_SIM_TIME}:={item.value}'"
                    return SetParametersResult(successful=False, reason=why)
                if item.name == _SIM_TIME or item.name.startswith("qos_overrides."):
                    continue
                return SetParametersResult(successful=False, reason=unknown_keys([item.name], list(self._entries)) or "")
            try:
                check_value(entry, item.value)
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
            changed[item.name] = item.value
        try:
            self._with(changed)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _with(self, changed: Mapping[str, Any]) -> P:
        """The node's own table with some values changed."""
        own = [entry.key for entry in entries(self._prefixes[""])]
        values = {key: changed.get(key, getattr(self.params, key)) for key in own}
        return build(self._prefixes[""], values)

    def _take_set(self, parameters: list[Parameter]) -> None:
        self.params = self._with({item.name: item.value for item in parameters if item.name in self._entries})
        self.on_parameters(self.params)

    def on_parameters(self, params: P) -> None:
        """Called after tunables changed; `self.params` is new already."""

    def close(self) -> None:
        """Called once when the node stops: write what must not be lost."""


def make_executor() -> Executor:
    """The executor of every process here.

    rclpy's events executor would cost less per message, but in rclpy 9.1 its `spin` does not end on a signal and raw
    subscriptions with message info fail in it.
    """
    return SingleThreadedExecutor()


def run_node(factory: Callable[[], BaseNode], args: list[str] | None = None) -> int:
    """Start a node, spin it until it is told to stop, close it. Returns the exit code.

    A ParameterError or NodeError is logged once, as one sentence, and gives exit code 2: starting again will not help.
    Finished gives 0, StartAgain 1.
    SIGINT and SIGTERM end it between two callbacks, never inside one, and the context is still valid while `close` runs.
    """
    use_udp(os.environ)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    logger = rclpy.logging.get_logger(factory.__name__ if hasattr(factory, "__name__") else "node")
    node: BaseNode | None = None
    code = 0
    try:
        node = factory()
        executor = make_executor()
        executor.add_node(node)
        while rclpy.ok() and not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
    except ExternalShutdownException:
        pass
    except Finished as result:
        node.get_logger().info(str(result))
    except StartAgain as why:
        node.get_logger().error(f"{why}; starting again")
        code = 1
    except (ParameterError, NodeError, ValueError, OSError) as error:
        if not isinstance(error, (ParameterError, NodeError)) and not _expected(error):
            raise
        (node.get_logger() if node else logger).fatal(str(error))
        code = 2
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return code


def _expected(error: Exception) -> bool:
    """The core's own errors are written for the operator; anything else is a defect and keeps its traceback."""
    return type(error).__module__.startswith(("hilserl_", "so101_"))


def main_of(factory: Callable[[], BaseNode]) -> Callable[[], None]:
    """The console entry point of a node."""

    def main() -> None:
        code = run_node(factory)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # everything is closed; Python's own tear-down of torch takes seconds more

    return main
