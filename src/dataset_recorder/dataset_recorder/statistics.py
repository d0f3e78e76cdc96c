# SPDX-License-Identifier: Apache-2.0
"""Statistics of an episode's features as LeRobot stores them, and of a dataset from its episodes (compute_stats.py there)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

Statistics = dict[str, np.ndarray]  # min, max, mean, std, q01 ... q99: shape (d,), of images (3, 1, 1); count: shape (1,)

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def column_statistics(values: np.ndarray) -> Statistics:
    """Of (n,) or (n, ..., d) values, per component."""
    rows = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1).astype(np.float64)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0, method="inverted_cdf")
    moments = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    return {**moments, "count": np.array([len(values)]), **dict(zip(QUANTILES, quantiles, strict=True))}


def sampled_frames(length: int) -> frozenset[int]:
    """The frames of an episode whose pixels count: LeRobot's rule (all up to 100, then length ** 0.75, at least 100)."""
    count = max(min(100, length), min(int(length**0.75), 10_000))
    return frozenset(np.round(np.linspace(0, length - 1, count)).astype(int).tolist())


class PixelStatistics:
    """A histogram of every pixel of the frames it is given, per channel, and what follows from it."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), np.int64)
        self._frames = 0

    def add(self, image: np.ndarray) -> None:
        """Count an image, (height, width, 3) uint8; every n-th pixel of a large one, as LeRobot does."""
        height, width = image.shape[:2]
        if max(height, width) >= 300:
            step = (width if width > height else height) // 150
            image = image[::step, ::step]
        pixels = np.ascontiguousarray(image)
        for channel, counts in enumerate(self._counts):
            counts += cv2.calcHist([pixels], [channel], None, [256], [0, 256])[:, 0].astype(np.int64)
        self._frames += 1

    def result(self) -> Statistics:
        """Shape (3, 1, 1) each, pixels in 0 to 1; count is the number of frames."""
        values = np.arange(256) / 255.0
        counts = self._counts
        total = counts.sum(1)
        mean = counts @ values / total
        variance = counts @ values**2 / total - mean**2
        cumulated = counts.cumsum(1)

        def at(count: float) -> np.ndarray:
            return np.array([values[np.searchsorted(row, count)] for row in cumulated])

        found = {"min": at(1), "max": at(total[0]), "mean": mean, "std": np.sqrt(np.maximum(variance, 0))}
        found |= {name: at(max(1, quantile * total[0])) for name, quantile in QUANTILES.items()}
        return {name: value.reshape(3, 1, 1) for name, value in found.items()} | {"count": np.array([self._frames])}


def combined(episodes: Sequence[Mapping[str, np.ndarray | list]]) -> Statistics:
    """Of a feature over all episodes; quantiles are averaged, as LeRobot does, and left out where an episode has none."""
    counts = np.array([item["count"] for item in episodes])
    names = ["min", "max", "mean", "std", *(name for name in QUANTILES if all(name in item for item in episodes))]
    stacked = {name: np.array([item[name] for item in episodes], np.float64) for name in names}
    weights = (counts / counts.sum()).reshape((-1,) + (1,) * (stacked["mean"].ndim - 1))
    mean = (stacked["mean"] * weights).sum(0)
    variance = ((stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2) * weights).sum(0)
    result = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    result |= {name: (stacked[name] * weights).sum(0) for name in names[4:]}
    return result | {"count": counts.sum(0)}


def as_lists(statistics: Statistics) -> dict[str, list]:
    """For JSON."""
    return {name: value.tolist() for name, value in statistics.items()}
