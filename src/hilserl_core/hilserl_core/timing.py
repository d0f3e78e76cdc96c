# SPDX-License-Identifier: Apache-2.0
"""Latencies measured while running, for the benchmarks and the report."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np


class Timings:
    """Named samples in seconds; the newest `keep` of each."""

    def __init__(self, keep: int = 50_000) -> None:
        self.keep = keep
        self._samples: dict[str, list[float]] = defaultdict(list)
        self._keys: dict[str, list[int]] = defaultdict(list)

    def add(self, name: str, seconds: float, key: int | None = None) -> None:
        """One sample. key: what it belongs to, such as a step's number, to be joined with another node's samples."""
        samples = self._samples[name]
        if len(samples) < self.keep:
            samples.append(seconds)
            if key is not None:
                self._keys[name].append(key)

    def summary(self) -> dict[str, dict[str, float]]:
        """Count, median, 99th percentile and maximum [s] of each."""
        return {
            name: {
                "count": len(samples),
                "p50_s": float(np.percentile(samples, 50)),
                "p99_s": float(np.percentile(samples, 99)),
                "max_s": float(np.max(samples)),
            }
            for name, samples in sorted(self._samples.items())
        }

    def save(self, path: Path) -> None:
        """Write the summary as JSON, with `samples`, key -> seconds, where there are keys."""
        summary: dict[str, dict] = self.summary()
        for name, keys in self._keys.items():
            summary[name]["samples"] = dict(zip(keys, self._samples[name], strict=True))
        path.write_text(json.dumps(summary))
