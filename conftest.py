# SPDX-License-Identifier: Apache-2.0
"""Tests that run side by side are in ROS graphs of their own."""

from __future__ import annotations

import os

DOMAINS = 10  # that the tests of one worker may use, from ROS_DOMAIN_ID on

worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
os.environ["ROS_DOMAIN_ID"] = str(int(os.environ.get("ROS_DOMAIN_ID") or 0) + DOMAINS * int(worker))
