# SPDX-License-Identifier: Apache-2.0
"""Other light, other colours, another place: random variants of frames, one affine map of colours and one of places each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reward_classifier_node.settings import ClassifierSettings

_LUMA = (0.299, 0.587, 0.114)
# To luminance and two colour differences; turning these two turns the hue.
_YIQ = torch.tensor([_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)])


def augmented(images: Tensor, settings: ClassifierSettings, generator: torch.Generator) -> Tensor:
    """images: (N, 3, S, S) float32 in [0, 255]. Returns a variant of each, drawn from the generator, of the same shape."""
    return _moved(_coloured(images, settings, generator), settings, generator)


def _uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _coloured(images: Tensor, settings: ClassifierSettings, generator: torch.Generator) -> Tensor:
    count = len(images)
    brightness = _uniform(*settings.brightness, count, generator)
    contrast = _uniform(*settings.contrast, count, generator)
    saturation = _uniform(*settings.saturation, count, generator)
    angle = _uniform(-settings.hue, settings.hue, count, generator) * 2 * math.pi
    turn = torch.zeros(count, 3, 3)
    turn[:, 0, 0] = 1.0
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -saturation * angle.sin(), saturation * angle.sin()
    colour = brightness.view(-1, 1, 1) * (torch.linalg.inv(_YIQ) @ turn @ _YIQ)
    luma = torch.tensor(_LUMA).view(1, 3, 1, 1)
    grey = (images * luma).sum(1).mean((1, 2)) * brightness  # turning and saturation leave it as it is
    offset = (1 - contrast) * grey
    matrix = contrast.view(-1, 1, 1) * colour
    flat = torch.baddbmm(offset.view(-1, 1, 1), matrix, images.flatten(2))
    return flat.view_as(images).clamp_(0, 255)


def _moved(images: Tensor, settings: ClassifierSettings, generator: torch.Generator) -> Tensor:
    if not (settings.shift or settings.zoom):
        return images
    count = len(images)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 + _uniform(-settings.zoom, settings.zoom, count, generator)
    for axis in range(2):
        maps[:, axis, 2] = 2 * _uniform(-settings.shift, settings.shift, count, generator)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
