# SPDX-License-Identifier: Apache-2.0
"""The base node over real rclpy: parameters, tunables, clean failure."""

from dataclasses import dataclass

import pytest
import rclpy
from rclpy.parameter import Parameter

from hilserl_ros.node import BaseNode, Finished, run_node
from hilserl_ros.parameters import ParameterError, parameter


@dataclass(frozen=True)
class _Table:
    gain: float = parameter(1.0, "Gain.", minimum=0.0, maximum=2.0, tunable=True)
    name_of_file: str = parameter("x", "A file.")


class _Node(BaseNode[_Table]):
    def __init__(self) -> None:
        super().__init__("node_under_test", _Table)


@pytest.fixture
def ros():
    def start(*arguments: str) -> _Node:
        rclpy.init(args=["--ros-args", *[word for a in arguments for word in ("-p", a)]])
        return _Node()

    yield start
    rclpy.try_shutdown()


def test_values_come_from_overrides_and_the_task_is_there(ros):
    node = ros("gain:=2", "task.fps:=20.0", "policy.latent_dim:=5")
    assert node.params == _Table(gain=2.0) and node.task.fps == 20.0
    assert node.get_parameter("task.image_size").value == 128
    assert node.describe_parameter("gain").floating_point_range[0].to_value == 2.0


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("gain:=3.0", "parameter gain is 3.0, allowed is a number from 0 to 2"),
        ("gian:=1.0", "unknown parameter gian; did you mean gain"),
        ("task.fsp:=1.0", "unknown parameter task.fsp; did you mean task.fps"),
        ("task.crops:=[0, 0, 480]", "task.crops has 3 values"),
    ],
)
def test_a_mistake_stops_the_node_with_one_sentence(ros, argument, sentence):
    with pytest.raises(ParameterError, match=sentence):
        ros(argument)


def test_tunables_change_while_running_and_nothing_else_does(ros):
    node = ros()
    assert node.set_parameters([Parameter("gain", value=0.5)])[0].successful and node.params.gain == 0.5
    refused = node.set_parameters([Parameter("gain", value=5.0)])[0]
    assert not refused.successful and node.params.gain == 0.5
    assert not node.set_parameters([Parameter("name_of_file", value="y")])[0].successful
    unknown = node.set_parameters([Parameter("nonsense", value=1)])[0]
    assert not unknown.successful and "unknown parameter nonsense" in unknown.reason


class _Ending(_Node):
    def __init__(self) -> None:
        super().__init__()
        self.create_timer(0.01, self._end)

    def _end(self) -> None:
        raise Finished("three bags played")


def test_a_node_that_has_finished_says_what_came_of_it_and_ends_well(capfd):
    assert run_node(_Ending) == 0
    said = capfd.readouterr().err
    assert said.count("three bags played") == 1 and "Traceback" not in said


def test_run_node_reports_a_mistake_as_exit_code_two(capfd):
    assert run_node(_Node, args=["--ros-args", "-p", "gain:=9.0"]) == 2
    assert "allowed is a number from 0 to 2" in capfd.readouterr().err
