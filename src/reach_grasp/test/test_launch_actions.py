# SPDX-License-Identifier: Apache-2.0
"""The glue to ros2 launch, against stand-ins for launch and launch_ros, which are not on the package index."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hilserl_ros.transport import NETWORK
from reach_grasp.launch_actions import launch_description
from reach_grasp.systems import SYSTEMS


class Recorded:
    """Keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


@pytest.fixture
def launch(monkeypatch):
    """The stand-ins: every class of launch is one that records."""
    kinds = {}
    for module, names in {
        "launch": ["LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction", "Shutdown"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
    }.items():
        stand_in = ModuleType(module)
        for name in names:
            kinds[name] = type(name, (Recorded,), {})
            setattr(stand_in, name, kinds[name])
        monkeypatch.setitem(sys.modules, module, stand_in)
    return SimpleNamespace(**kinds)


def started(system: str, **given: str) -> list[Recorded]:
    """The node actions of a system once launch has evaluated its arguments."""
    *declared, function = launch_description(system).args[0]
    values = {item.args[0]: item.kwargs["default_value"] for item in declared} | given
    return function.kwargs["function"](SimpleNamespace(launch_configurations=values), *function.kwargs["args"])


def test_every_argument_is_declared_with_its_description(launch):
    for name, system in SYSTEMS.items():
        *declared, _ = launch_description(name).args[0]
        assert [item.args[0] for item in declared] == [argument.name for argument in system.arguments]
        assert all(item.kwargs["description"].endswith(".") for item in declared)
        assert [item.kwargs.get("choices") for item in declared if item.args[0] == "log_level"] == [
            ["debug", "info", "warn", "error"]
        ]


def test_nodes_get_what_the_system_says(launch):
    actions = started("train", namespace="left", seed="7", log_level="warn")
    assert [action.kwargs["name"] for action in actions] == ["sim", "operator", "frames", "actor", "learner"]
    actor = actions[3].kwargs
    assert (actor["package"], actor["executable"], actor["namespace"]) == ("hilserl_actor", "actor_node", "left")
    assert actor["arguments"] == ["--ros-args", "--log-level", "warn"]
    assert [Path(file).name for file in actor["parameters"][:-1]] == ["task.yaml", "policy.yaml", "sim.yaml", "train.yaml"]
    assert actor["parameters"][-1]["seed"] == 7
    assert set(started("learner")[0].kwargs["additional_env"].values()) == {str(NETWORK)}


def test_only_actor_and_learner_live_again_and_what_ends_for_good_ends_all(launch):
    actions = {action.kwargs["name"]: action.kwargs for action in started("train")}
    assert [name for name, kwargs in actions.items() if kwargs["respawn"]] == ["actor", "learner"]

    def ends(name: str, code: int) -> bool:
        return bool(actions[name]["on_exit"](SimpleNamespace(returncode=code), None))

    assert not ends("actor", -9) and not ends("learner", 1)
    assert ends("actor", 2) and ends("learner", 0) and ends("sim", -9)


def test_closing_the_viewer_ends_nothing_else(launch, prefix):
    for package in ("robot_state_publisher", "rviz2"):
        prefix.add(package, package, "")
    actions = {action.kwargs["name"]: action.kwargs for action in started("sim", use_rviz="true")}
    ending = [name for name, kwargs in actions.items() if kwargs["on_exit"](SimpleNamespace(returncode=0), None)]
    assert ending == ["sim"]


def test_a_wrong_argument_is_one_sentence(launch):
    with pytest.raises(RuntimeError, match="seed is 'x', allowed is a whole number"):
        started("train", seed="x")
