# SPDX-License-Identifier: Apache-2.0
"""Measures from recorded bags how far the arm's motion lags behind its commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_STEP_S = 0.01
_MOST_S = 0.6
_LEAST_MOTION_RAD = 0.1
_JOINTS = 5  # the gripper stops at what it holds


def motion_lag_s(folder: Path, most_bags: int = 10) -> float | None:
    """Median time [s] by which `joint_states` follow `joint_command` in the bags of a folder; None where nothing moved."""
    from dataset_recorder.convert.bag import Bag, BagError, find_bags

    lags: list[float] = []
    try:
        for path in find_bags([folder])[:most_bags]:
            with Bag(path) as bag:
                lags += _lags(bag)
    except BagError:
        return None
    return float(np.median(lags)) if lags else None


def _lags(bag: object) -> list[float]:
    told, seen = _series(bag, "joint_command"), _series(bag, "joint_states")
    if told is None or seen is None:
        return []
    return [lag for joint in range(_JOINTS) if (lag := shift_s(told[0], told[1][:, joint], *(seen[0], seen[1][:, joint])))]


def _series(bag: object, topic: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Times [s] of reception and joints (T, 6) of a topic, by the names in its first message."""
    times, rows, names = [], [], None
    for _, stamp, decode in bag.messages([f"/{topic}"]):
        message = decode()
        found = list(message.name if hasattr(message, "name") else message.joint_names)
        values = message.position if hasattr(message, "position") else message.points[0].positions
        names = names or sorted(found)
        by_name = dict(zip(found, values, strict=True))
        times.append(stamp * 1e-9)
        rows.append([by_name[name] for name in names])
    return (np.array(times), np.array(rows)) if len(times) > 10 else None


def shift_s(told_s: np.ndarray, told: np.ndarray, seen_s: np.ndarray, seen: np.ndarray) -> float | None:
    """The delay [s] at which two series of one joint fit best; None where it hardly moves.

    told, seen: angles [rad] at times told_s and seen_s [s], both ascending. The fit is of their speeds: a shift by load does
    not count.
    """
    begin, end = max(told_s[0], seen_s[0]), min(told_s[-1], seen_s[-1])
    if end - begin < 2 * _MOST_S or np.ptp(told) < _LEAST_MOTION_RAD:
        return None
    grid = np.arange(begin, end, _STEP_S)
    first = np.gradient(_smooth(np.interp(grid, told_s, told)))
    second = np.gradient(_smooth(np.interp(grid, seen_s, seen)))
    count = round(_MOST_S / _STEP_S)
    fits = [np.dot(first[: len(first) - k or None], second[k:]) / (len(first) - k) for k in range(count)]
    return float(np.argmax(fits) * _STEP_S)


def _smooth(values: np.ndarray, window: int = 11) -> np.ndarray:
    padded = np.pad(values, window // 2, mode="edge")
    return np.convolve(padded, np.full(window, 1 / window), mode="valid")
