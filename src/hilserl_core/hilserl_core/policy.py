# SPDX-License-Identifier: Apache-2.0
"""The policy's architecture: its parameters, its modules under LeRobot's tensor names, and how two of them differ."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hilserl_core.encoder import DEFAULT_ENCODER, load_image_encoder
from hilserl_core.errors import PolicyError
from hilserl_core.fields import described, tidy
from hilserl_core.networks import ActorNetwork, ObservationEncoder
from hilserl_core.normalization import Normalization
from hilserl_core.task import TaskSpec

if TYPE_CHECKING:
    from lerobot.policies.gaussian_actor.configuration_gaussian_actor import GaussianActorConfig


@dataclass(frozen=True)
class PolicySpec:
    """The network. Each field is the ROS parameter `policy.<field>`."""

    encoder: str = described(
        DEFAULT_ENCODER, "Image encoder: 'default' (LeRobot's small CNN), or a Hub image model or local folder for AutoModel."
    )
    encoder_revision: str = described("", "Revision of the Hub image model; empty for its main branch.")
    trust_remote_code: bool = described(False, "Run Python code that comes with a Hub image model. Only ever set locally.")
    freeze_encoder: bool = described(True, "Keep the image encoder as it is once training begins.")
    shared_encoder: bool = described(False, "One observation encoder for actor and critics, trained by the critics only.")
    image_encoder_hidden_dim: int = described(16, "Channels of the default image encoder.", minimum=1, maximum=1024)
    spatial_embeddings: int = described(8, "Learned spatial embeddings per channel.", minimum=1, maximum=1024)
    latent_dim: int = described(64, "Width of the encoding of each camera and of the state.", minimum=1, maximum=4096)
    actor_hidden_dims: tuple[int, ...] = described((128, 128), "Hidden layers of the actor.", minimum=1, maximum=4096)
    critic_hidden_dims: tuple[int, ...] = described((128, 128), "Hidden layers of each critic.", minimum=1, maximum=4096)
    dropout: float = described(
        0.0, "Dropout on the spatial embeddings while training; LeRobot uses 0.1.", minimum=0.0, maximum=0.9
    )
    init_final: float = described(0.05, "Range of the actor's last weights at the start.", minimum=0.0, maximum=1.0)
    init_log_std: float = described(
        -1.7, "Logarithm of the actor's standard deviation at the start.", minimum=-10.0, maximum=2.0
    )
    std_min: float = described(1e-5, "Smallest variance before tanh; LeRobot calls it std_min.", minimum=0.0, maximum=1.0)
    std_max: float = described(0.06, "Largest variance before tanh; LeRobot calls it std_max.", minimum=1e-3, maximum=100.0)

    def __post_init__(self) -> None:
        tidy(self, "policy", PolicyError)
        if not self.encoder:
            raise PolicyError("policy.encoder is empty, expected 'default' or the name of an image model")
        for name in ("actor_hidden_dims", "critic_hidden_dims"):
            if not getattr(self, name):
                raise PolicyError(f"policy.{name} is empty, expected at least one layer")

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PolicySpec:
        """The inverse of `as_dict`. Raises PolicyError on an unknown field."""
        unknown = sorted(set(values) - {item.name for item in dataclasses.fields(cls)})
        if unknown:
            raise PolicyError(f"the policy specification has unknown fields {unknown}")
        return cls(**values)


# What decides the names, shapes and meaning of the actor's tensors; the rest only matters while training.
_POLICY_FIELDS = (
    "encoder", "freeze_encoder", "shared_encoder", "image_encoder_hidden_dim", "spatial_embeddings", "latent_dim",
    "actor_hidden_dims", "critic_hidden_dims", "std_min", "std_max",
)  # fmt: skip
_TASK_FIELDS = ("cameras", "image_size", "state", "joints")


def architecture(spec: PolicySpec, task: TaskSpec) -> str:
    """JSON of what determines the tensors' names, shapes and meaning, equal for equal architectures."""
    policy, shape = spec.as_dict(), task.as_dict()
    values = {f"policy.{name}": policy[name] for name in _POLICY_FIELDS}
    if spec.encoder != DEFAULT_ENCODER:
        del values["policy.image_encoder_hidden_dim"]
    values |= {f"task.{name}": shape[name] for name in _TASK_FIELDS}
    values["task.action_size"] = task.action_size
    return json.dumps(values, sort_keys=True)


def architecture_hash(spec: PolicySpec, task: TaskSpec) -> str:
    """sha256 of `architecture`, hexadecimal."""
    return hashlib.sha256(architecture(spec, task).encode()).hexdigest()


def architecture_differences(here: str, there: str) -> list[str]:
    """One readable line per value in which two results of `architecture` differ. Raises PolicyError on other text."""
    try:
        mine, theirs = json.loads(here), json.loads(there)
        keys = sorted(set(mine) | set(theirs))
    except (TypeError, ValueError) as error:
        raise PolicyError(f"the architecture is not the JSON of one: {error}") from error
    absent = "nothing"
    return [
        f"{key}: {mine.get(key, absent)} here, {theirs.get(key, absent)} there"
        for key in keys
        if mine.get(key, absent) != theirs.get(key, absent)
    ]


class Policy(nn.Module):
    """Actor and observation encoders. Tensor names are those of LeRobot's `GaussianActorPolicy`.

    With a frozen image encoder the trunk is one module that actor and critics have in common.
    """

    def __init__(self, spec: PolicySpec, task: TaskSpec) -> None:
        """Random weights from torch's global generator. Raises PolicyError when the image encoder cannot be loaded."""
        super().__init__()
        self.spec, self.task = spec, task
        self.encoder_critic = self._observation_encoder(load_image_encoder(spec, task.image_size))
        if spec.shared_encoder:
            encoder_actor = self.encoder_critic
        elif spec.freeze_encoder:
            encoder_actor = self._observation_encoder(self.encoder_critic.image_encoder)
        else:
            encoder_actor = self._observation_encoder(load_image_encoder(spec, task.image_size))
            encoder_actor.image_encoder.load_state_dict(self.encoder_critic.image_encoder.state_dict())
        self.actor = ActorNetwork(
            encoder=encoder_actor,
            hidden_dims=spec.actor_hidden_dims,
            action_size=task.action_size,
            init_final=spec.init_final,
            init_log_std=spec.init_log_std,
            std_min=spec.std_min,
            std_max=spec.std_max,
            detach_images=spec.shared_encoder,
        )

    def _observation_encoder(self, image_encoder: nn.Module) -> ObservationEncoder:
        if self.spec.freeze_encoder:
            image_encoder.requires_grad_(False)
        return ObservationEncoder(
            image_encoder,
            image_keys=self.task.image_keys,
            image_size=self.task.image_size,
            state_size=self.task.state_size,
            spatial_embeddings=self.spec.spatial_embeddings,
            latent_dim=self.spec.latent_dim,
            dropout=self.spec.dropout,
        )

    def actor_tensors(self, frozen: bool) -> dict[str, torch.Tensor]:
        """What the actor needs, by LeRobot name: what stays as it is during a run, or what is trained."""
        trunk = "actor.encoder.image_encoder."
        return {
            f"actor.{name}": tensor
            for name, tensor in self.actor.state_dict().items()
            if (self.spec.freeze_encoder and f"actor.{name}".startswith(trunk)) == frozen
        }


def lerobot_config(spec: PolicySpec, task: TaskSpec, normalization: Normalization) -> GaussianActorConfig:
    """The LeRobot configuration that describes the same network."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.gaussian_actor.configuration_gaussian_actor import (
        ActorNetworkConfig,
        GaussianActorConfig,
        PolicyConfig,
    )

    image = PolicyFeature(FeatureType.VISUAL, (3, task.image_size, task.image_size))
    inputs = dict.fromkeys(task.image_keys, image)
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (task.state_size,))
    stats = {
        key: {name: value.flatten().tolist() for name, value in values.items()}
        for key, values in normalization.statistics(task).items()
    }
    return GaussianActorConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (task.action_size,))},
        device="cpu",
        push_to_hub=False,
        dataset_stats=stats,
        vision_encoder_name=None if spec.encoder == DEFAULT_ENCODER else spec.encoder,
        freeze_vision_encoder=spec.freeze_encoder,
        image_encoder_hidden_dim=spec.image_encoder_hidden_dim,
        shared_encoder=spec.shared_encoder,
        image_embedding_pooling_dim=spec.spatial_embeddings,
        latent_dim=spec.latent_dim,
        state_encoder_hidden_dim=spec.latent_dim,
        actor_network_kwargs=ActorNetworkConfig(hidden_dims=list(spec.actor_hidden_dims)),
        policy_kwargs=PolicyConfig(std_min=spec.std_min, std_max=spec.std_max, init_final=spec.init_final),
    )
