# SPDX-License-Identifier: Apache-2.0
"""Replay, updates, checkpoints; publishes policies and acknowledges steps."""
