# SPDX-License-Identifier: Apache-2.0
"""LeRobot's reward classifier: its modules under its tensor names, split at the trunk so that features can be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hilserl_core.normalization import IMAGE_MEAN, IMAGE_STD
from hilserl_core.task import TaskSpec
from reward_classifier_node.settings import ClassifierSettings
from reward_classifier_node.trunk import FEATURE_SIZE, feature_channels

if TYPE_CHECKING:
    from lerobot.rewards.classifier.configuration_classifier import RewardClassifierConfig

_FRAMES_AT_A_TIME = 16  # what passes between layers then stays in the cache


@dataclass(frozen=True)
class Shape:
    """What decides the tensors above the trunk. image_keys: LeRobot's feature names, in the order of the cameras."""

    image_keys: tuple[str, ...]
    image_size: int
    spatial_embeddings: int = 8
    latent_dim: int = 256
    hidden_dim: int = 256
    dropout: float = 0.1

    @classmethod
    def of(cls, settings: ClassifierSettings, task: TaskSpec) -> Shape:
        """From settings and task."""
        return cls(
            task.image_keys,
            task.image_size,
            settings.spatial_embeddings,
            settings.latent_dim,
            settings.hidden_dim,
            settings.dropout,
        )


class SpatialEmbeddings(nn.Module):
    """Weighted sums over places, (N, C, 4, 4) -> (N, C * F), of features as they come or cached."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(channels, FEATURE_SIZE, FEATURE_SIZE, count))
        nn.init.kaiming_normal_(self.kernel, mode="fan_in", nonlinearity="linear")

    def forward(self, features: Tensor) -> Tensor:
        """One matrix product per channel: LeRobot's sum of products without its intermediate tensor."""
        return torch.einsum("nchw,chwf->ncf", features, self.kernel).flatten(1)


class Classifier(nn.Module):
    """A trunk, for each camera an encoder of its features, and a head. Tensor names are those of LeRobot's `Classifier`.

    mean, std: (cameras, 3), of images in [0, 1], as LeRobot's preprocessor applies them.
    """

    def __init__(self, shape: Shape, trunk: nn.Module, mean: np.ndarray | None = None, std: np.ndarray | None = None) -> None:
        """Random weights above the trunk, from torch's global generator. Raises ClassifierError when the trunk does not fit."""
        super().__init__()
        self.shape = shape
        channels = feature_channels(trunk, shape.image_size)
        cameras = len(shape.image_keys)
        self.mean = np.tile(IMAGE_MEAN, (cameras, 1)) if mean is None else mean
        self.std = np.tile(IMAGE_STD, (cameras, 1)) if std is None else std
        self.encoder = trunk
        self.encoders = nn.ModuleDict(
            {
                key.replace(".", "_"): nn.Sequential(
                    trunk,
                    SpatialEmbeddings(channels, shape.spatial_embeddings),
                    nn.Dropout(shape.dropout),
                    nn.Linear(channels * shape.spatial_embeddings, shape.latent_dim),
                    nn.LayerNorm(shape.latent_dim),
                    nn.Tanh(),
                )
                for key in shape.image_keys
            }
        )
        self.classifier_head = nn.Sequential(
            nn.Linear(shape.latent_dim * cameras, shape.hidden_dim),
            nn.Dropout(shape.dropout),
            nn.LayerNorm(shape.hidden_dim),
            nn.ReLU(),
            nn.Linear(shape.hidden_dim, 1),
        )
        self.eval()

    def above_trunk(self) -> list[nn.Parameter]:
        """Every parameter of the encoders above the trunk and of the head."""
        trunk = {id(parameter) for parameter in self.encoder.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in trunk]

    def normalized(self, images: Tensor) -> Tensor:
        """(N, cameras, 3, S, S) in [0, 255] -> the same, as the trunk expects it."""
        mean = torch.as_tensor(self.mean, dtype=torch.float32, device=images.device).view(1, -1, 3, 1, 1)
        std = torch.as_tensor(self.std, dtype=torch.float32, device=images.device).view(1, -1, 3, 1, 1)
        return (images.float() / 255 - mean) / std

    def features(self, images: Tensor) -> Tensor:
        """(N, cameras, 3, S, S) in [0, 255] -> (N, cameras, C, 4, 4)."""
        flat = self.encoder(self.normalized(images).flatten(0, 1)).last_hidden_state
        return flat.unflatten(0, (len(images), -1))

    def logits(self, features: Tensor) -> Tensor:
        """(N, cameras, C, 4, 4) -> (N,)."""
        encodings = [encoder[1:](features[:, index]) for index, encoder in enumerate(self.encoders.values())]
        return self.classifier_head(torch.cat(encodings, 1)).squeeze(1)

    def probabilities(self, frames: np.ndarray) -> np.ndarray:
        """(N, cameras, S, S, 3) uint8 RGB, as `network_image` makes them -> (N,) float32 in [0, 1]. Dropout is off."""
        if self.training:  # walking through all modules takes half a millisecond
            self.eval()
        device = self.classifier_head[0].weight.device
        parts = []
        with torch.inference_mode():
            for start in range(0, len(frames), _FRAMES_AT_A_TIME):
                part = torch.from_numpy(np.ascontiguousarray(frames[start : start + _FRAMES_AT_A_TIME]))
                images = part.to(device).permute(0, 1, 4, 2, 3)
                parts.append(torch.sigmoid(self.logits(self.features(images))).cpu())
        return torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)

    def fold_temperature(self, temperature: float) -> None:
        """Divide the logit by a temperature, in the last layer, so that LeRobot sees the calibrated probabilities."""
        last = self.classifier_head[-1]
        with torch.no_grad():
            last.weight /= temperature
            last.bias /= temperature


def lerobot_config(shape: Shape, model_name: str) -> RewardClassifierConfig:
    """The LeRobot configuration that describes the same network. model_name: where LeRobot finds the trunk."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.rewards.classifier.configuration_classifier import RewardClassifierConfig

    image = PolicyFeature(FeatureType.VISUAL, (3, shape.image_size, shape.image_size))
    return RewardClassifierConfig(
        input_features=dict.fromkeys(shape.image_keys, image),
        output_features={"next.reward": PolicyFeature(FeatureType.REWARD, (1,))},
        device="cpu",
        hidden_dim=shape.hidden_dim,
        latent_dim=shape.latent_dim,
        image_embedding_pooling_dim=shape.spatial_embeddings,
        dropout_rate=shape.dropout,
        model_name=model_name,
        num_cameras=len(shape.image_keys),
    )
