# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own classes, put together as its learner puts them together."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.gaussian_actor import GaussianActorConfig, GaussianActorPolicy
from lerobot.policies.gaussian_actor.configuration_gaussian_actor import CriticNetworkConfig
from lerobot.rl.algorithms.sac import SACAlgorithm, SACAlgorithmConfig
from lerobot.rl.buffer import ReplayBuffer, random_shift
from lerobot.rl.data_sources.data_mixer import OnlineOfflineMixer
from lerobot.rl.trainer import RLTrainer, preprocess_rl_batch
from lerobot.utils.transition import Transition

from hilserl_core.policy import PolicySpec
from hilserl_core.step import Step
from hilserl_core.task import TaskSpec

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def policy_config(task: TaskSpec, **changes: Any) -> GaussianActorConfig:
    """LeRobot's default network for the task's cameras, state and action. `changes` override fields."""
    size = task.image_size
    image_keys = task.image_keys
    inputs = {key: PolicyFeature(FeatureType.VISUAL, (3, size, size)) for key in image_keys}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (task.state_size,))
    stats: dict[str, dict[str, list[float]]] = {key: {"mean": list(_MEAN), "std": list(_STD)} for key in image_keys}
    stats["observation.state"] = {"min": [-1.0] * task.state_size, "max": [1.0] * task.state_size}
    stats["action"] = {"min": [-1.0] * task.action_size, "max": [1.0] * task.action_size}
    for values in stats.values():
        for name, value in values.items():
            values[name] = [[[number]] for number in value] if name in ("mean", "std") else value
    config = GaussianActorConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (task.action_size,))},
        dataset_stats=stats,
        push_to_hub=False,
        device="cpu",
        storage_device="cpu",
    )
    for name, value in changes.items():
        if not hasattr(config, name):
            raise ValueError(f"LeRobot's policy configuration has no field '{name}'")
        setattr(config, name, value)
    return config


def demo_policy_config(task: TaskSpec) -> GaussianActorConfig:
    """The demo's smaller network, described to LeRobot: our specification's default."""
    spec = PolicySpec()
    config = policy_config(
        task,
        image_encoder_hidden_dim=spec.image_encoder_hidden_dim,
        image_embedding_pooling_dim=spec.spatial_embeddings,
        latent_dim=spec.latent_dim,
        state_encoder_hidden_dim=spec.latent_dim,
        shared_encoder=spec.shared_encoder,
    )
    config.actor_network_kwargs.hidden_dims = list(spec.actor_hidden_dims)
    return config


def demo_critic_config() -> CriticNetworkConfig:
    """The demo's smaller critics."""
    return CriticNetworkConfig(hidden_dims=list(PolicySpec().critic_hidden_dims))


def local_resnet10(folder: Path) -> Path:
    """Save a ResNet of ten layers with random weights as `transformers` loads it: `lerobot/resnet10` without the Hub."""
    from transformers import ResNetConfig, ResNetModel

    path = folder / "resnet10"
    config = ResNetConfig(depths=[1, 1, 1, 1], hidden_sizes=[64, 128, 256, 512], layer_type="basic", embedding_size=64)
    ResNetModel(config).save_pretrained(path)
    return path


@functools.cache
def shift_works_compiled() -> bool:
    """Whether torch.compile, which LeRobot's buffer uses unasked, works on this machine (it needs a C++ compiler)."""
    try:
        torch.compile(functools.partial(random_shift, pad=4))(torch.zeros(2, 3, 16, 16))
    except Exception:  # noqa: BLE001 - whatever the compiler's back end raises, the answer is no
        return False
    return True


def transitions(steps: Iterable[Step]) -> Iterable[Transition]:
    """Steps as LeRobot's actor makes transitions: float images in [0, 1], state and next state both."""
    previous: tuple[Step, dict[str, torch.Tensor]] | None = None
    for step in steps:
        state = {
            f"observation.images.{camera}": torch.from_numpy(image).permute(2, 0, 1)[None].float().div(255.0).contiguous()
            for camera, image in step.images.items()
        }
        state["observation.state"] = torch.from_numpy(step.state)[None]
        if previous is not None and not step.is_first:
            before, before_state = previous
            yield Transition(
                state=before_state,
                action=torch.from_numpy(before.action)[None],
                reward=before.reward,
                next_state=state,
                done=step.is_terminal,
                truncated=step.is_last and not step.is_terminal,
                complementary_info={"discrete_penalty": torch.tensor([0.0]), "is_intervention": before.intervention},
            )
        previous = step, state


def filled_buffer(
    task: TaskSpec, steps: Iterable[Step], capacity: int, optimize_memory: bool = True, shift: bool = True
) -> ReplayBuffer:
    """A replay buffer with all transitions of `steps`. optimize_memory is what LeRobot's learner sets."""
    buffer = ReplayBuffer(
        capacity=capacity,
        device="cpu",
        state_keys=[*task.image_keys, "observation.state"],
        image_augmentation_function=None if not shift or shift_works_compiled() else functools.partial(random_shift, pad=4),
        use_drq=shift,
        storage_device="cpu",
        optimize_memory=optimize_memory,
    )
    for transition in transitions(steps):
        buffer.add(**transition)
    return buffer


@dataclass(frozen=True)
class Learner:
    """What LeRobot's learner process holds."""

    policy: GaussianActorPolicy
    algorithm: SACAlgorithm
    preprocessor: Any
    trainer: RLTrainer

    def stop_sampling(self) -> None:
        """End the background thread that samples ahead; the next training step starts it again."""
        self.trainer.reset_data_iterator()


def learner(config: GaussianActorConfig, buffer: ReplayBuffer, batch: int, utd: int, **changes: Any) -> Learner:
    """Policy, SAC, preprocessor and trainer. `changes` override fields of LeRobot's SACAlgorithmConfig."""
    policy = GaussianActorPolicy(config)
    if config.freeze_vision_encoder and not config.shared_encoder:  # a frozen image encoder is one and the same on our side
        policy.encoder_actor.image_encoder.load_state_dict(policy.encoder_critic.image_encoder.state_dict())
    policy.train()
    algorithm_config = SACAlgorithmConfig.from_policy_config(config)
    algorithm_config.utd_ratio = utd
    for name, value in changes.items():
        setattr(algorithm_config, name, value)
    algorithm = SACAlgorithm(policy, algorithm_config)
    preprocessor, _ = make_pre_post_processors(policy_cfg=config, dataset_stats=config.dataset_stats)
    trainer = RLTrainer(algorithm, OnlineOfflineMixer(buffer), batch, preprocessor=preprocessor)
    return Learner(policy, algorithm, preprocessor, trainer)


def plain_batch(learner: Learner, buffer: ReplayBuffer, rows: torch.Tensor) -> dict[str, Any]:
    """The transitions `rows` of a buffer without optimize_memory as a preprocessed batch, not shifted."""
    batch = {
        "state": {key: tensor[rows] for key, tensor in buffer.states.items()},
        "next_state": {key: tensor[rows] for key, tensor in buffer.next_states.items()},
        "action": buffer.actions[rows],
        "reward": buffer.rewards[rows],
        "done": buffer.dones[rows].float(),
    }
    return preprocess_rl_batch(learner.preprocessor, batch)


@contextmanager
def noise_from(generator: torch.Generator) -> Iterator[None]:
    """Within it, actions that LeRobot's actor samples draw their noise from `generator`."""
    module = torch.distributions.multivariate_normal

    def standard_normal(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, device=device, generator=generator)

    with mock.patch.object(module, "_standard_normal", standard_normal):
        yield
