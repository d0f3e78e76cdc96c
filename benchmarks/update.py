# SPDX-License-Identifier: Apache-2.0
"""One training step: UTD critic updates and one of the actor, sampling included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lerobot.policies.gaussian_actor import GaussianActorConfig

from benchmarks import lerobot_side, ours_side
from benchmarks.equal_losses import largest_difference
from benchmarks.problem import BATCH, DEMO_BATCH, DEMO_TASK, TASK, UTD, steps
from benchmarks.registry import Options
from benchmarks.replay import filled_replay
from benchmarks.rows import Row, Target
from benchmarks.timing import THREADS, Timed, take_turns
from hilserl_core.encoder import FrameEncoder
from hilserl_core.step import Step
from hilserl_core.task import TaskSpec


@dataclass(frozen=True)
class _Case:
    """One row: which network and what our side stores."""

    name: str
    pixels: bool
    config: GaussianActorConfig
    target: Target | None
    text: str
    task: TaskSpec = TASK
    batch: int = BATCH
    algorithm: dict[str, Any] = field(default_factory=dict)  # changes to LeRobot's default SACAlgorithmConfig


def run(options: Options) -> Iterator[Row]:
    """The rows of this group."""
    frozen = lerobot_side.policy_config(TASK)
    cases = [
        _Case(
            "update_frozen_features",
            False,
            frozen,
            Target("ratio", 30.0),
            "frozen encoder, features stored once per frame",
        ),
        _Case("update_frozen_pixels", True, frozen, Target("ratio", 6.0), "frozen encoder, from shifted pixels"),
        _Case(
            "update_trainable",
            True,
            lerobot_side.policy_config(TASK, freeze_vision_encoder=False),
            Target("ratio", 3.0),
            "encoder trained, from shifted pixels",
        ),
        _Case(
            "update_frozen_features_demo_dims",
            False,
            lerobot_side.demo_policy_config(DEMO_TASK),
            None,
            "networks, camera and batch of the demo on both sides, features stored once per frame",
            DEMO_TASK,
            DEMO_BATCH,
            {"num_critics": 4, "critic_network_kwargs": lerobot_side.demo_critic_config()},
        ),
    ]
    for case in cases:
        if options.wanted(case.name):
            yield _row(case, list(steps(300 if options.quick else 1000, task=case.task)), options.quick)


def _row(case: _Case, recorded: list[Step], quick: bool) -> Row:
    difference = largest_difference(case.config, case.task, recorded[:300], case.batch, case.pixels, case.algorithm)

    torch.manual_seed(0)
    actions = sum(step.action is not None for step in recorded)
    buffer = lerobot_side.filled_buffer(case.task, recorded, actions)
    theirs = lerobot_side.learner(case.config, buffer, case.batch, UTD, **case.algorithm)
    sac = ours_side.learner(theirs, case.task, case.batch, pixels=case.pixels)
    replay = filled_replay(recorded, case.task) if case.pixels else ours_side.feature_replay(sac.policy, recorded)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)

    encode = FrameEncoder(sac.policy.encoder_critic.image_encoder)

    def ours() -> dict[str, float]:
        if not case.pixels:  # what a step costs when it arrives
            ours_side.frame_features(encode, recorded[0], case.task, rng)
        batches = (replay.sample(case.batch, rng, demonstrations=0.0) for _ in range(UTD))
        return {name: value.item() for name, value in sac.update(batches, generator).items()}

    rounds = 1 if quick else 3
    sides = {
        "ours": Timed(ours, calls=3 if case.pixels else 10, warm_up=2),
        "lerobot": Timed(theirs.trainer.training_step, after=theirs.stop_sampling),
    }
    take_turns(sides, rounds)
    conditions = {
        "batch": case.batch,
        "utd": UTD,
        "critics": theirs.algorithm.config.num_critics,
        "cameras": len(case.task.cameras),
        "threads": THREADS,
        "rounds": rounds,
        "loss_difference": difference,
        "ours_range_s": sides["ours"].spread_s,
        "lerobot_range_s": sides["lerobot"].spread_s,
    }
    note = f"One training step: {case.text}. Losses equal LeRobot's to {difference:.0e} before timing."
    if not case.pixels:
        note += " Our figure includes encoding one frame in 4 variants, as every step that arrives is; they are stored in fp16."
    return Row(
        name=case.name,
        ours=sides["ours"].median_s,
        lerobot=sides["lerobot"].median_s,
        unit="s",
        target=case.target,
        note=note,
        conditions=conditions,
    )
