# SPDX-License-Identifier: Apache-2.0
"""Runs a policy on one observation at a time: what the robot does between an observation and an action."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from hilserl_core.encoder import FrameEncoder
from hilserl_core.errors import PolicyError
from hilserl_core.networks import sample_action
from hilserl_core.normalization import Normalization
from hilserl_core.parameters import assign, check_tensors, import_frozen, import_parameters
from hilserl_core.policy import Policy, PolicySpec
from hilserl_core.step import Observation
from hilserl_core.task import TaskSpec


class Actor:
    """A policy ready to act once its frozen tensors and its first parameters are loaded."""

    def __init__(self, spec: PolicySpec, task: TaskSpec) -> None:
        """Raises PolicyError when the image encoder cannot be loaded."""
        self.task = task
        self.policy = Policy(spec, task).eval().requires_grad_(False)
        self._encode = FrameEncoder(self.policy.actor.encoder.image_encoder)
        self._low = self._range = None
        self._has_parameters = False

    @classmethod
    def from_pretrained(cls, folder: Path, task: TaskSpec) -> Actor:
        """From the `pretrained_model` folder of a checkpoint, ours or LeRobot's, or from the checkpoint's own folder.

        Raises PolicyError when it is another kind of policy or was made for other observations.
        """
        from hilserl_core.pretrained import read_pretrained

        spec, tensors, normalization = read_pretrained(Path(folder), task)
        actor = cls(spec, task)
        actor.set_tensors(tensors, normalization)
        return actor

    @property
    def ready(self) -> bool:
        """Whether `act` can be called."""
        return self._has_parameters and self._low is not None

    def load_frozen(self, data: bytes) -> None:
        """Take what `export_frozen` made. Raises PolicyError, and changes nothing, when it does not fit."""
        tensors, normalization = import_frozen(self.policy, data)
        assign(self.policy, tensors)
        self._set_normalization(normalization)
        self._encode.refresh()

    def load_parameters(self, data: bytes) -> None:
        """Take what `export_parameters` made. Raises PolicyError, and changes nothing, when it does not fit."""
        assign(self.policy, import_parameters(self.policy, data))
        self._has_parameters = True
        if not self.policy.spec.freeze_encoder:
            self._encode.refresh()

    def set_tensors(self, tensors: Mapping[str, torch.Tensor], normalization: Normalization) -> None:
        """Take all of an actor's tensors, by name, and the normalisation. Raises PolicyError when they do not fit."""
        expected = self.policy.actor_tensors(frozen=False) | self.policy.actor_tensors(frozen=True)
        tensors = check_tensors(tensors, expected, "the actor's tensors")
        assign(self.policy, tensors)
        self._set_normalization(normalization)
        self._has_parameters = True
        self._encode.refresh()

    def _set_normalization(self, normalization: Normalization) -> None:
        self.normalization = normalization
        self._low = torch.tensor(normalization.state_min)
        self._range = torch.tensor(normalization.state_max) - self._low

    def warm_up(self) -> None:
        """Compute once for nothing: a process's first pass takes a hundred times as long, which no tick should have to."""
        size = self.task.image_size
        with torch.inference_mode():
            features = self.features({camera: np.zeros((size, size, 3), np.uint8) for camera in self.task.cameras})
            mean, std = self.policy.actor(features.unsqueeze(0), torch.zeros(1, self.task.state_size))
            sample_action(mean, std, torch.zeros(mean.shape))

    def features(self, images: Mapping[str, np.ndarray]) -> torch.Tensor:
        """camera -> (H, W, 3) uint8 to features of the image encoder, (cameras, C, H', W') float32."""
        return self._encode(np.stack([images[camera] for camera in self.task.cameras]))

    def act(self, observation: Observation, generator: torch.Generator | None = None) -> np.ndarray:
        """The action for an observation, (A,) float32 in [-1, 1]: tanh of the mean, or a sample drawn with `generator`.

        Raises PolicyError before the parameters are loaded and when the observation is not finite.
        """
        if not self.ready:
            raise PolicyError("the actor has no policy yet: parameters or normalisation are missing")
        if not np.isfinite(observation.state).all():
            raise PolicyError(f"the observation's state is not finite: {observation.state.tolist()}")
        with torch.inference_mode():
            features = self.features(observation.images).unsqueeze(0)
            state = 2 * (torch.from_numpy(observation.state) - self._low) / self._range - 1
            mean, std = self.policy.actor(features, state.unsqueeze(0))
            if generator is None:
                action = mean.tanh()
            else:
                action, _ = sample_action(mean, std, torch.randn(mean.shape, generator=generator))
            return action[0].numpy().astype(np.float32)
