# SPDX-License-Identifier: Apache-2.0
"""HIL-SERL without ROS: task, observations, actions, kinematics, steps, replay, policy and SAC."""
