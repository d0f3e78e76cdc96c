# SPDX-License-Identifier: Apache-2.0
"""Rosbag2 folders to LeRobot datasets v3.0."""
