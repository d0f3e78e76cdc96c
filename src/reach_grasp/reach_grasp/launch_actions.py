# SPDX-License-Identifier: Apache-2.0
"""Turns a system into actions of `ros2 launch`; the only file that needs launch and launch_ros."""

from __future__ import annotations

from typing import Any

from reach_grasp.errors import CommandError
from reach_grasp.guard import FINAL_CODES, MAX_DEATHS_PER_MINUTE
from reach_grasp.specs import NodeSpec
from reach_grasp.systems import RESPAWN_DELAY_S, SYSTEMS, nodes_of


def launch_description(system: str) -> Any:
    """The LaunchDescription of a system, with every argument described for --show-args."""
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    from launch import LaunchDescription

    declared = []
    for argument in SYSTEMS[system].arguments:
        limits = {"choices": list(argument.choices)} if argument.choices else {}
        declared.append(
            DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.text, **limits)
        )
    return LaunchDescription([*declared, OpaqueFunction(function=_actions, args=[system])])


def _actions(context: Any, system: str) -> list[Any]:
    """Evaluated when the arguments are known."""
    given = {argument.name: context.launch_configurations[argument.name] for argument in SYSTEMS[system].arguments}
    try:
        return [node_action(spec) for spec in nodes_of(system, given)]
    except CommandError as error:
        raise RuntimeError(str(error)) from None


def node_action(spec: NodeSpec) -> Any:
    """The launch_ros action of one node. The system stops when it ends for good, unless it is optional."""
    from launch_ros.actions import Node

    return Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        parameters=[*map(str, spec.parameter_files), dict(spec.parameters)],
        remappings=list(spec.remappings),
        arguments=[*spec.arguments, "--ros-args", "--log-level", spec.log_level],
        additional_env=dict(spec.environment),
        output="screen",
        respawn=spec.respawn,
        respawn_delay=RESPAWN_DELAY_S,
        respawn_max_retries=MAX_DEATHS_PER_MINUTE if spec.respawn else -1,
        on_exit=lambda event, context: _after_exit(spec, event.returncode),
    )


def _after_exit(spec: NodeSpec, code: int) -> list[Any]:
    from launch.actions import Shutdown

    if spec.optional or (spec.respawn and code not in FINAL_CODES):
        return []
    return [Shutdown(reason=f"{spec.name} ended with {code}")]
