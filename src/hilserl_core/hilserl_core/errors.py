# SPDX-License-Identifier: Apache-2.0
"""Errors of the learning code: each message is one sentence for the person who runs it."""

from __future__ import annotations


class PolicyError(ValueError):
    """A policy, its parameters or its specification do not fit."""


class CheckpointError(OSError):
    """A checkpoint that cannot be written or read."""


class TrainingError(ValueError):
    """Training settings that contradict themselves, or steps that cannot be trained on."""
