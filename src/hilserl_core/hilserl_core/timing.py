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

    def add(self, name: str, seconds: float) -> None:
        """One sample."""
        samples = self._samples[name]
        if len(samples) < self.keep:
            samples.append(seconds)

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
        """Write the summary as JSON."""
        path.write_text(json.dumps(self.summary(), indent=1))
