# SPDX-License-Identifier: Apache-2.0
"""Trains the image encoder on the demonstrations, by imitation, before it is frozen."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from hilserl_core.encoder import image_features
from hilserl_core.frames import shifted_normalized
from hilserl_core.normalization import Normalization
from hilserl_core.policy import Policy
from hilserl_core.step import Step


class EncoderPretraining:
    """The actor imitates the person from pixels; afterwards actor and critics have the image encoder in common."""

    def __init__(
        self,
        policy: Policy,
        normalization: Normalization,
        steps: list[Step],
        seed: int,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        updates: int = 500,
        max_shift: int = 4,
        colour_jitter: float = 0.15,
    ) -> None:
        """steps: of demonstrations that succeeded; those with an action are imitated.

        max_shift: random shift in pixels. colour_jitter: random gain and offset of each colour, as a share of the range.
        """
        acted = [step for step in steps if step.action is not None]
        cameras = policy.task.cameras
        self._frames = np.stack([[step.images[camera] for camera in cameras] for step in acted])
        self._state = normalization.apply(torch.from_numpy(np.stack([step.state for step in acted])))
        self._action = torch.from_numpy(np.stack([step.action for step in acted]))
        self._policy, self._rng = policy, np.random.default_rng([seed, 1])
        self._batch_size, self._max_shift, self._colour_jitter = batch_size, max_shift, colour_jitter
        self._pixels = np.empty((batch_size, *self._frames.shape[1:]), np.float32)
        self._trunk = policy.actor.encoder.image_encoder.requires_grad_(True)
        self._parameters = list(policy.actor.parameters())
        self._device = self._parameters[0].device
        self._optimizer = torch.optim.AdamW(self._parameters, lr=learning_rate, weight_decay=1e-4, fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda done: _one_cycle(done / max(1, updates)))
        self.updates, self.done = updates, 0

    @property
    def finished(self) -> bool:
        """Whether all updates have been made."""
        return self.done >= self.updates

    def update(self) -> torch.Tensor:
        """One gradient step. Returns the loss, (), without gradient."""
        rows = self._rng.integers(len(self._frames), size=self._batch_size)
        shifts = self._rng.integers(-self._max_shift, self._max_shift + 1, size=(*self._pixels.shape[:2], 2))
        shifted_normalized(self._frames, rows, shifts, self._pixels, np.arange(self._batch_size))
        images = self._jittered(torch.from_numpy(self._pixels)).permute(0, 1, 4, 2, 3).to(self._device)
        features = image_features(self._trunk, images.flatten(0, 1)).unflatten(0, images.shape[:2])
        mean, _ = self._policy.actor(features, self._state[rows].to(self._device))
        loss = (mean.tanh() - self._action[rows].to(self._device)).square().sum(1).mean()
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 10.0)
        self._optimizer.step()
        self._schedule.step()
        self.done += 1
        return loss.detach()

    def _jittered(self, pixels: torch.Tensor) -> torch.Tensor:
        """Gain about black and offset per image and colour; pixels are normalised, their deviation is about a quarter."""
        shape = (*pixels.shape[:2], 1, 1, 3)
        gain = torch.from_numpy(self._rng.uniform(1 - self._colour_jitter, 1 + self._colour_jitter, shape).astype(np.float32))
        offset = torch.from_numpy(
            self._rng.uniform(-2 * self._colour_jitter, 2 * self._colour_jitter, shape).astype(np.float32)
        )
        return pixels * gain + offset

    def finish(self) -> None:
        """Freeze the image encoder where the policy says so, and give the critics a copy where they have their own."""
        spec, critic = self._policy.spec, self._policy.encoder_critic.image_encoder
        if critic is not self._trunk:
            critic.load_state_dict(self._trunk.state_dict())
        if spec.freeze_encoder:
            self._trunk.requires_grad_(False)


def _one_cycle(progress: float, rise: float = 0.1) -> float:
    """Share of the highest learning rate: a cosine up from 0.04 over the first tenth, then one down to nearly 0."""
    if progress < rise:
        return 0.52 - 0.48 * math.cos(math.pi * progress / rise)
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (progress - rise) / (1 - rise)))
