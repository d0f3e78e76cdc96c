# SPDX-License-Identifier: Apache-2.0
"""A learner in a process of its own: stores steps, trains on them, prints its memory as JSON."""

from __future__ import annotations

import itertools
import json
import resource
import sys

import psutil

from benchmarks.problem import DEMO_BATCH, DEMO_TASK, TASK, UTD, steps
from benchmarks.timing import THREADS

_TRAINED = 3


def main() -> None:
    """Arguments: ours or lerobot, features or pixels, how many steps."""
    side, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    result = (_ours if side == "ours" else _lerobot)(kind, count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**result, "resident_bytes": _resident(), "peak_bytes": peak}))


def _ours(kind: str, count: int) -> dict[str, float]:
    """The demo's networks; features of one camera, or pixels of two."""
    from hilserl_core.policy import PolicySpec
    from hilserl_core.sac import SacConfig
    from hilserl_core.training import Trainer, TrainingConfig

    task = DEMO_TASK if kind == "features" else TASK
    config = TrainingConfig(demonstrations=0, threads=THREADS, store_features=kind == "features")
    trainer = Trainer(task, PolicySpec(), SacConfig(), config)
    empty = _resident()
    recorded = steps(count, task=task)
    for step in recorded:
        trainer.add(step)
        trainer.store_waiting(0)
        if trainer.steps_taken == count - _TRAINED:
            break
    for step in itertools.islice(recorded, _TRAINED):
        trainer.add(step)
        trainer.work()
    return {"raw_bytes": float(trainer.replay.bytes_per_step * trainer.replay.steps), "empty_bytes": float(empty)}


def _lerobot(kind: str, count: int) -> dict[str, float]:
    import torch

    from benchmarks import lerobot_side

    torch.set_num_threads(THREADS)
    task = DEMO_TASK if kind == "features" else TASK
    buffer = lerobot_side.filled_buffer(task, steps(count, task=task), count)
    critics = {"num_critics": 4, "critic_network_kwargs": lerobot_side.demo_critic_config()}
    learner = lerobot_side.learner(lerobot_side.demo_policy_config(task), buffer, DEMO_BATCH, UTD, **critics)
    for _ in range(_TRAINED):
        learner.trainer.training_step()
    return {}


def _resident() -> int:
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    main()
