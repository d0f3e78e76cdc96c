# SPDX-License-Identifier: Apache-2.0
"""Proof that both sides compute the same: one training step on the same plain frames must give the same losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lerobot.policies.gaussian_actor import GaussianActorConfig

from benchmarks import lerobot_side, ours_side
from benchmarks.problem import UTD
from benchmarks.replay import filled_replay
from hilserl_core.encoder import FrameEncoder
from hilserl_core.normalization import IMAGE_MEAN, IMAGE_STD
from hilserl_core.replay import Batch
from hilserl_core.step import Step
from hilserl_core.task import TaskSpec

TOLERANCE = 1e-4
_NAMES = {"critic_loss": "loss_critic", "actor_loss": "loss_actor", "temperature_loss": "loss_temperature"}


class UnequalLossesError(RuntimeError):
    """The two sides do not compute the same, so their times cannot be compared."""


def largest_difference(
    config: GaussianActorConfig,
    task: TaskSpec,
    recorded: list[Step],
    batch: int,
    pixels: bool,
    algorithm: Mapping[str, Any],
) -> float:
    """Largest difference of a loss, relative to the loss where that is above 1, after UTD critic steps and one of the actor.

    algorithm: changes to LeRobot's default SACAlgorithmConfig. Same weights, transitions and noise, no dropout, no shift.
    Not pixels: ours gets features of the frozen encoder in float32.
    Raises UnequalLossesError when it exceeds the tolerance.
    """
    torch.manual_seed(0)
    buffer = lerobot_side.filled_buffer(task, recorded, len(recorded), optimize_memory=False, shift=False)
    theirs = lerobot_side.learner(config, buffer, batch, UTD, **algorithm)
    theirs.policy.eval()
    ours = ours_side.learner(theirs, task, batch, pixels=pixels, dropout=0.0)

    replay, rng = filled_replay(recorded, task), np.random.default_rng(1)
    our_batches, their_batches = [], []
    for _ in range(UTD):
        drawn = _copied(replay.sample(batch, rng, demonstrations=0.0, max_shift=0))
        their_batches.append(lerobot_side.plain_batch(theirs, buffer, _rows(drawn.action, buffer.actions)))
        our_batches.append(drawn if pixels else _encoded(drawn, ours.policy.encoder_critic.image_encoder))

    measures = ours.update(our_batches, torch.Generator().manual_seed(2))
    with lerobot_side.noise_from(torch.Generator().manual_seed(2)):
        losses = theirs.algorithm.update(iter(their_batches)).losses
    worst = 0.0
    for name, their_name in _NAMES.items():
        mine, other = float(measures[name]), losses[their_name]
        difference = abs(mine - other) / max(1.0, abs(other))
        if not difference <= TOLERANCE:
            raise UnequalLossesError(
                f"{name} is {mine:.6f}, LeRobot's {other:.6f}: {difference:.1e} apart, allowed {TOLERANCE:g}"
            )
        worst = max(worst, difference)
    return worst


def _rows(actions: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """Which stored transitions these are; every action of the made-up steps is unique."""
    matches = (actions[:, None] == stored[None]).all(-1)
    if not (matches.sum(1) == 1).all():
        raise UnequalLossesError("the two replays do not hold the same actions")
    return matches.int().argmax(1)


def _copied(batch: Batch) -> Batch:
    """A batch that outlives the next `sample`."""
    return Batch(**{name: getattr(batch, name).clone() for name in Batch.__dataclass_fields__})


def _encoded(batch: Batch, image_encoder: torch.nn.Module) -> Batch:
    """The batch with float32 features as our learner makes them, from the uint8 frames, in place of pixels."""
    scale, mean = 255 * torch.tensor(IMAGE_STD).view(3, 1, 1), 255 * torch.tensor(IMAGE_MEAN).view(3, 1, 1)
    frames = (batch.both * scale + mean).round().clamp(0, 255).to(torch.uint8)
    flat = frames.flatten(0, 1).permute(0, 2, 3, 1).contiguous().numpy()
    features = FrameEncoder(image_encoder)(flat).unflatten(0, batch.both.shape[:2]).clone()
    return Batch(**{**{name: getattr(batch, name) for name in Batch.__dataclass_fields__}, "both": features})
