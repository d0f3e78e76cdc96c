# SPDX-License-Identifier: Apache-2.0
"""Tests that run at the same time, in workers or in packages under colcon test, meet in no ROS domain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[3] / "conftest.py"


def test_each_process_has_ten_domains_until_it_ends(request, monkeypatch):
    conftest = request.config.pluginmanager.get_plugin(str(CONFTEST))
    monkeypatch.setenv("ROS_DOMAIN_ID", os.environ["ROS_DOMAIN_ID"])
    who = f"test {os.getpid()}"
    taken = {}
    for _ in range(10):
        mark = conftest.take_domains(who)
        taken[int(os.environ["ROS_DOMAIN_ID"])] = mark
    assert sorted(taken) == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91], "none twice, and all that the ports of Linux allow"
    with pytest.raises(pytest.UsageError, match="wait for one to end"):
        conftest.take_domains(who)
    taken[41].close()
    taken[41] = conftest.take_domains(who)
    assert os.environ["ROS_DOMAIN_ID"] == "41"
    for mark in taken.values():
        mark.close()


def test_tests_hear_no_robot_of_the_network(request):
    assert request.config.pluginmanager.get_plugin(str(CONFTEST)) is not None
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert not {"ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"} & set(os.environ)
