# SPDX-License-Identifier: Apache-2.0
"""Image encoders: LeRobot's default one, any Hub image model, and the quick way from uint8 frames to features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hilserl_core.errors import PolicyError
from hilserl_core.normalization import IMAGE_MEAN, IMAGE_STD

if TYPE_CHECKING:
    from hilserl_core.policy import PolicySpec

DEFAULT_ENCODER = "default"
_IMAGES_AT_A_TIME = 8  # measured: a quarter of the time of 512 at once, on one core
_SMALLEST_IMAGE = 39  # below this the four convolutions without padding leave nothing


class DefaultImageEncoder(nn.Module):
    """Four strided convolutions without padding: 128x128 -> 6x6, 64x64 -> 2x2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for kernel in (7, 5, 3, 3):
            layers += [nn.Conv2d(inputs, channels, kernel, stride=2), nn.ReLU(inplace=True)]
            inputs = channels
        self.image_enc_layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised -> (B, channels, H, W)."""
        return self.image_enc_layers(images)


class HubImageEncoder(nn.Module):
    """The last feature map of an image model from the Hub or a local folder, such as a ResNet."""

    def __init__(self, name: str, revision: str, trust_remote_code: bool) -> None:
        super().__init__()
        from transformers import AutoModel

        try:
            self.image_enc_layers = AutoModel.from_pretrained(
                name, revision=revision or "main", trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise PolicyError(f"cannot load policy.encoder '{name}': {reason}") from error

    def train(self, mode: bool = True) -> HubImageEncoder:
        """Batch statistics stay as they were trained: what the robot sees must not depend on a batch."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised -> (B, C, H, W)."""
        return self.image_enc_layers(images).last_hidden_state


def load_image_encoder(spec: PolicySpec, image_size: int) -> nn.Module:
    """The image encoder that a policy specification names.

    Raises PolicyError when it cannot be loaded or does not end in a feature map (B, C, H, W).
    """
    if spec.encoder == DEFAULT_ENCODER:
        if image_size < _SMALLEST_IMAGE:
            raise PolicyError(f"task.image_size is {image_size}, the default image encoder needs at least {_SMALLEST_IMAGE}")
        return DefaultImageEncoder(spec.image_encoder_hidden_dim)
    encoder = HubImageEncoder(spec.encoder, spec.encoder_revision, spec.trust_remote_code).eval()
    with torch.no_grad():
        features = encoder(torch.zeros(1, 3, image_size, image_size))
    if features.dim() != 4:
        raise PolicyError(
            f"policy.encoder '{spec.encoder}' ends in {tuple(features.shape[1:])}, expected a feature map of channels, "
            "height and width, as convolutional models have it"
        )
    return encoder


def image_features(image_encoder: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, C, H, W), a few images at a time: what passes between layers then stays in the cache."""
    return torch.cat([image_encoder(part) for part in images.split(_IMAGES_AT_A_TIME)])


class FrameEncoder:
    """uint8 frames -> features, without gradient.

    The default encoder's first convolution has no padding, so normalisation is folded into its weights; other encoders
    get normalised images.
    """

    def __init__(self, image_encoder: nn.Module) -> None:
        self._encoder = image_encoder
        device = next(image_encoder.parameters()).device
        self._mean = torch.tensor(IMAGE_MEAN, device=device).view(1, 3, 1, 1) * 255
        self._scale = 1 / (255 * torch.tensor(IMAGE_STD, device=device).view(1, 3, 1, 1))
        self._folded: tuple[Tensor, Tensor] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Fold the normalisation into the weights again, after they changed."""
        if not isinstance(self._encoder, DefaultImageEncoder):
            return
        first = self._encoder.image_enc_layers[0]
        with torch.no_grad():
            weight = first.weight.double() * self._scale
            bias = first.bias.double() - (weight * self._mean).sum((1, 2, 3))
            self._folded = weight.float().contiguous(memory_format=torch.channels_last), bias.float()

    def __call__(self, frames: np.ndarray) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> (N, C, H', W') float32, contiguous."""
        with torch.inference_mode():
            images = torch.from_numpy(frames).to(self._mean.device).permute(0, 3, 1, 2).float()
            if self._folded is None:
                return self._encoder((images - self._mean) * self._scale).contiguous()
            weight, bias = self._folded
            layers = self._encoder.image_enc_layers
            features = F.conv2d(images, weight, bias, stride=layers[0].stride).relu_()
            return layers[2:](features).contiguous()


def normalized_images(frames: np.ndarray) -> Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, 3, H, W) float32 normalised, in channels-last memory: LeRobot's preprocessor."""
    mean = torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1) * 255
    scale = 1 / (255 * torch.tensor(IMAGE_STD).view(1, 3, 1, 1))
    return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - mean) * scale
