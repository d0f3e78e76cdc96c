# SPDX-License-Identifier: Apache-2.0
"""The control loop on the robot: observe, act, intervene, publish steps."""
