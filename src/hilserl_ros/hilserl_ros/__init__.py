# SPDX-License-Identifier: Apache-2.0
"""Shared ROS glue: messages to core types and back, images, QoS profiles, parameter tables, the base node."""
