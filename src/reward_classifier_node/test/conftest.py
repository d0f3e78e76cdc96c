# SPDX-License-Identifier: Apache-2.0
"""Tests import `classifier_fixtures` and `classifier_station` by name."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def domain() -> int:
    return int(os.environ.get("ROS_DOMAIN_ID", "0")) + 6


@pytest.fixture
def station(domain) -> Iterator:
    from classifier_station import Station

    station = Station(domain)
    yield station
    station.close()
