# SPDX-License-Identifier: Apache-2.0
"""The learner's resident memory after it has stored steps and trained on them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.registry import Options
from benchmarks.rows import Row, Target

_BASE_BYTES = 1.3e9
_FACTOR = 1.05


def run(options: Options) -> Iterator[Row]:
    """The rows of this group. Each figure comes from a process of its own."""
    for name, kind in (("learner_memory_features", "features"), ("learner_memory_pixels", "pixels")):
        if options.wanted(name):
            yield _row(name, kind, 1000 if options.quick else 4000)


def _row(name: str, kind: str, count: int) -> Row:
    ours, theirs = _probe("ours", kind, count), _probe("lerobot", kind, count)
    limit = _BASE_BYTES + _FACTOR * ours["raw_bytes"]
    return Row(
        name=name,
        ours=ours["resident_bytes"] / 1e6,
        lerobot=theirs["resident_bytes"] / 1e6,
        unit="MB",
        target=Target("at_most", round(limit / 1e6)),
        note=f"Resident memory with {count} steps stored as {kind} and after three training steps, against "
        f"1.3 GB + 1.05 x {ours['raw_bytes'] / 1e6:.0f} MB of raw {kind}. LeRobot stores the same steps as pixels "
        "(optimize_memory) and trains the same network.",
        conditions={
            "steps": count,
            "ours_peak_mb": ours["peak_bytes"] / 1e6,
            "lerobot_peak_mb": theirs["peak_bytes"] / 1e6,
            "ours_before_steps_mb": ours["empty_bytes"] / 1e6,
        },
    )


def _probe(side: str, kind: str, count: int) -> dict[str, float]:
    """Bytes by name, from a fresh process. Raises RuntimeError with what it said when it fails."""
    command = [sys.executable, "-m", "benchmarks.memory_probe", side, kind, str(count)]
    result = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"the memory probe of {side} failed: {result.stderr.strip()[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])
