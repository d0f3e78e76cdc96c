# SPDX-License-Identifier: Apache-2.0
"""Parameters: one table, one sentence for every mistake."""

import dataclasses
from dataclasses import dataclass

import pytest

from hilserl_core.task import TaskSpec
from hilserl_ros.parameters import ParameterError, build, check_value, descriptor, entries, parameter, source_of, unknown_keys


@dataclass(frozen=True)
class _Table:
    rate_hz: float = parameter(10.0, "Rate in Hz.", minimum=1.0, maximum=60.0, tunable=True)
    count: int = parameter(3, "How many.", minimum=0)
    mode: str = parameter("a", "Which.", choices=("a", "b"))
    on: bool = parameter(True, "Whether.")
    limits: tuple[float, ...] = parameter((0.0, 1.0), "Limits in m.", minimum=-1.0, maximum=1.0)


def _entry(key):
    return next(entry for entry in entries(_Table) if entry.key == key)


def test_a_whole_number_stands_for_a_number_and_lists_become_tuples():
    table = build(_Table, {"rate_hz": 20, "limits": [0, 1]})
    assert table == _Table(rate_hz=20.0, limits=(0.0, 1.0)) and isinstance(table.rate_hz, float)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("rate_hz", 0.5, "a number from 1 to 60"),
        ("rate_hz", float("nan"), "a number from 1 to 60"),
        ("rate_hz", "fast", "a number from 1 to 60"),
        ("count", -1, "a whole number of at least 0"),
        ("count", 2.5, "a whole number"),
        ("count", True, "a whole number"),
        ("mode", "c", "one of 'a', 'b'"),
        ("on", "yes", "true or false"),
        ("limits", [0.0, 2.0], "a list, each a number"),
        ("limits", 0.5, "a list, each a number"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_file_key_value_and_what_is_allowed(key, value, allowed):
    with pytest.raises(ParameterError) as error:
        check_value(_entry(key), value, "config/x.yaml")
    text = str(error.value)
    assert text.startswith("config/x.yaml: ") and key in text and repr(value) in text and allowed in text and "\n" not in text


def test_an_unknown_parameter_is_named_with_the_nearest_known_one():
    known = [entry.key for entry in entries(_Table)]
    assert unknown_keys(["rate_hz", "use_sim_time", "qos_overrides./clock.depth"], known) is None
    assert "unknown parameter rate_Hz; did you mean rate_hz?" in unknown_keys(["rate_Hz"], known)


def test_the_descriptor_carries_text_and_range():
    message = descriptor(_entry("rate_hz"))
    assert message.description == "Rate in Hz." and not message.read_only
    assert (message.floating_point_range[0].from_value, message.floating_point_range[0].to_value) == (1.0, 60.0)
    assert descriptor(_entry("count")).read_only and "at least 0" in descriptor(_entry("count")).additional_constraints


def test_the_file_that_sets_a_key_is_found_also_when_nested(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("/**:\n  ros__parameters:\n    task:\n      fps: 10\n")
    second.write_text("actor:\n  ros__parameters:\n    policy.latent_dim: 3\n")
    arguments = ["node", "--ros-args", "--params-file", str(first), "--params-file", str(second), "-p", "seed:=1"]
    assert source_of("task.fps", arguments) == str(first)
    assert source_of("policy.latent_dim", arguments) == str(second)
    assert source_of("seed", arguments) == "command line" and source_of("other", arguments) == ""


def test_every_task_field_is_a_described_parameter():
    table = entries(TaskSpec, "task.")
    assert {entry.key for entry in table} == {f"task.{item.name}" for item in dataclasses.fields(TaskSpec)}
    assert all(entry.text for entry in table)
