# SPDX-License-Identifier: Apache-2.0
"""Episodes to rosbag2, bags to LeRobot datasets, labels."""
