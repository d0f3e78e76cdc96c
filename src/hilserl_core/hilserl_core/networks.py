# SPDX-License-Identifier: Apache-2.0
"""Observation encoder, actor and critics: LeRobot's networks and tensor names, computed with fewer and larger operations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class SpatialEmbeddings(nn.Module):
    """Learned weights over the places of a feature map, one set per channel and embedding."""

    def __init__(self, channels: int, height: int, width: int, embeddings: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(channels, height, width, embeddings))
        nn.init.kaiming_normal_(self.kernel, mode="fan_in", nonlinearity="linear")

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C * embeddings): one small matrix product per channel, without a (B, C, H, W, E) product."""
        channels, height, width, embeddings = self.kernel.shape
        places = features.flatten(2).permute(1, 2, 0)  # (C, H * W, B)
        pooled = torch.bmm(self.kernel.view(channels, height * width, embeddings).transpose(1, 2), places)
        return pooled.view(channels * embeddings, len(features)).t()


class ObservationEncoder(nn.Module):
    """Images and state -> one vector of latent_dim per camera and for the state."""

    def __init__(
        self,
        image_encoder: nn.Module,
        image_keys: Sequence[str],
        image_size: int,
        state_size: int,
        spatial_embeddings: int,
        latent_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        with torch.no_grad():
            self.feature_shape = tuple(image_encoder(torch.zeros(1, 3, image_size, image_size)).shape[1:])  # C, H, W
        self._names = [key.replace(".", "_") for key in image_keys]
        channels = self.feature_shape[0]
        self.spatial_embeddings = nn.ModuleDict(
            {name: SpatialEmbeddings(*self.feature_shape, spatial_embeddings) for name in self._names}
        )
        self.post_encoders = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Dropout(dropout),
                    nn.Linear(channels * spatial_embeddings, latent_dim),
                    nn.LayerNorm(latent_dim),
                    nn.Tanh(),
                )
                for name in self._names
            }
        )
        self.state_encoder = nn.Sequential(nn.Linear(state_size, latent_dim), nn.LayerNorm(latent_dim), nn.Tanh())
        self.output_size = latent_dim * (len(self._names) + 1)

    def forward(self, features: Tensor, state: Tensor, detach_images: bool = False) -> Tensor:
        """features: (B, cameras, C, H, W) of the image encoder. state: (B, S) normalised. Returns (B, output_size)."""
        parts = [
            self.post_encoders[name](self.spatial_embeddings[name](features[:, camera]))
            for camera, name in enumerate(self._names)
        ]
        if detach_images:
            parts = [part.detach() for part in parts]
        return torch.cat([*parts, self.state_encoder(state)], dim=-1)


class Perceptron(nn.Module):
    """Linear, LayerNorm, SiLU for every hidden layer."""

    def __init__(self, input_size: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in hidden_dims:
            layers += [nn.Linear(input_size, size), nn.LayerNorm(size), nn.SiLU()]
            input_size = size
        self.net = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)


class ActorNetwork(nn.Module):
    """The tanh-squashed diagonal Gaussian policy."""

    def __init__(
        self,
        encoder: ObservationEncoder,
        hidden_dims: Sequence[int],
        action_size: int,
        init_final: float,
        init_log_std: float,
        std_min: float,
        std_max: float,
        detach_images: bool,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.network = Perceptron(encoder.output_size, hidden_dims)
        self.mean_layer = nn.Linear(hidden_dims[-1], action_size)
        self.std_layer = nn.Linear(hidden_dims[-1], action_size)
        for layer in (self.mean_layer, self.std_layer):
            nn.init.uniform_(layer.weight, -init_final, init_final)
            nn.init.uniform_(layer.bias, -init_final, init_final)
        with torch.no_grad():
            self.std_layer.bias += 2 * init_log_std
        self.std_min, self.std_max, self.detach_images = std_min, std_max, detach_images

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, cameras, C, H, W), state (B, S) -> mean and standard deviation before tanh, each (B, A)."""
        return self.head(self.encoder(features, state, self.detach_images))

    def head(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """Encoding (B, E) of its own encoder -> mean and standard deviation before tanh, each (B, A)."""
        hidden = self.network(encoding)
        # LeRobot hands this layer's exponential to MultivariateNormal as covariance: what it calls std is the variance.
        variance = self.std_layer(hidden).exp().clamp(self.std_min, self.std_max)
        return self.mean_layer(hidden), variance.sqrt()


def sample_action(mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std * noise) and its log-probability.

    mean, std, noise: (B, A). Returns actions (B, A) in [-1, 1] and log-probabilities (B,). The correction for tanh,
    log(1 - tanh(x)^2), is 2 (log 2 - x - softplus(-2 x)): appendix C of the SAC paper in a form that never overflows.
    """
    before = mean + std * noise
    log_normal = -0.5 * noise.square() - std.log() - _LOG_SQRT_2PI
    correction = 2 * (math.log(2) - before - F.softplus(-2 * before))
    return before.tanh(), (log_normal - correction).sum(-1)


class CriticEnsemble(nn.Module):
    """N critic heads whose weights are stacked along the first axis, so that a layer is one batched product."""

    def __init__(self, critics: int, input_size: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.critics, self.hidden_dims = critics, tuple(hidden_dims)
        heads = [self._head(input_size, hidden_dims) for _ in range(critics)]
        self._names = list(heads[0])
        self.stacked = nn.ParameterDict(
            {name.replace(".", "_"): nn.Parameter(torch.stack([head[name] for head in heads])) for name in self._names}
        )

    @staticmethod
    def _head(input_size: int, hidden_dims: Sequence[int]) -> dict[str, Tensor]:
        tensors = {f"net.{name}": tensor.detach() for name, tensor in Perceptron(input_size, hidden_dims).named_parameters()}
        output = nn.Linear(hidden_dims[-1], 1)
        nn.init.orthogonal_(output.weight)
        return tensors | {"output_layer.weight": output.weight.detach(), "output_layer.bias": output.bias.detach()}

    def forward(self, encoding: Tensor, action: Tensor, subset: Tensor | None = None, frozen: bool = False) -> Tensor:
        """Q of every critic, or of those in subset (M,).

        encoding: (B, E). action: (B, A). frozen: no gradient for the weights. Returns (N, B) or (M, B).
        """
        weights = {name: self._weight(name, subset, frozen) for name in self.stacked}
        count = self.critics if subset is None else len(subset)
        hidden = torch.cat([encoding, action], dim=-1).expand(count, -1, -1)
        for layer in range(len(self.hidden_dims)):
            prefix = f"net_net_{3 * layer}"
            hidden = torch.baddbmm(weights[f"{prefix}_bias"].unsqueeze(1), hidden, weights[f"{prefix}_weight"].transpose(1, 2))
            prefix = f"net_net_{3 * layer + 1}"
            hidden = F.layer_norm(hidden, hidden.shape[-1:])
            hidden = torch.addcmul(weights[f"{prefix}_bias"].unsqueeze(1), hidden, weights[f"{prefix}_weight"].unsqueeze(1))
            hidden = F.silu(hidden)
        values = torch.bmm(hidden, weights["output_layer_weight"].transpose(1, 2)).squeeze(-1)
        return values + weights["output_layer_bias"]

    def _weight(self, name: str, subset: Tensor | None, frozen: bool) -> Tensor:
        weight = self.stacked[name].detach() if frozen else self.stacked[name]
        return weight if subset is None else weight[subset]

    def separate(self, stacked: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """LeRobot's tensors by name, `critics.<i>.net.net.<j>.weight` and so on; of other stacked tensors when given."""
        stacked = stacked or {name: tensor.detach() for name, tensor in self.stacked.items()}
        return {
            f"critics.{index}.{name}": stacked[name.replace(".", "_")][index].clone()
            for index in range(self.critics)
            for name in self._names
        }

    def stack(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `separate`. Raises KeyError when one is missing."""
        return {
            name.replace(".", "_"): torch.stack([tensors[f"critics.{index}.{name}"] for index in range(self.critics)])
            for name in self._names
        }
