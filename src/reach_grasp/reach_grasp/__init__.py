# SPDX-License-Identifier: Apache-2.0
"""Bringup: systems of nodes, the reach-grasp command, the demo and its report."""
