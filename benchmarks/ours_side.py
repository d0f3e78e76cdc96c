# SPDX-License-Identifier: Apache-2.0
"""Our learner with LeRobot's network sizes and LeRobot's weights, through the public interface of hilserl_core."""

from __future__ import annotations

import numpy as np
import torch
from lerobot.policies.gaussian_actor import GaussianActorConfig, GaussianActorPolicy
from lerobot.rl.algorithms.sac import SACAlgorithmConfig

from benchmarks import lerobot_side
from hilserl_core.encoder import FrameEncoder
from hilserl_core.frames import shifted
from hilserl_core.normalization import Normalization
from hilserl_core.policy import Policy, PolicySpec
from hilserl_core.replay import Replay
from hilserl_core.sac import Sac, SacConfig
from hilserl_core.step import Step
from hilserl_core.task import TaskSpec


def policy_spec(config: GaussianActorConfig, algorithm: SACAlgorithmConfig | None = None, dropout: float = 0.1) -> PolicySpec:
    """The specification of the same network; dropout is what LeRobot has, which its configuration does not name."""
    algorithm = algorithm or SACAlgorithmConfig.from_policy_config(config)
    return PolicySpec(
        encoder=config.vision_encoder_name or "default",
        freeze_encoder=config.freeze_vision_encoder,
        shared_encoder=config.shared_encoder,
        image_encoder_hidden_dim=config.image_encoder_hidden_dim,
        spatial_embeddings=config.image_embedding_pooling_dim,
        latent_dim=config.latent_dim,
        actor_hidden_dims=tuple(config.actor_network_kwargs.hidden_dims),
        critic_hidden_dims=tuple(algorithm.critic_network_kwargs.hidden_dims),
        dropout=dropout,
        init_final=config.policy_kwargs.init_final,
        std_min=config.policy_kwargs.std_min,
        std_max=config.policy_kwargs.std_max,
    )


def normalization(task: TaskSpec) -> Normalization:
    """The state's range that lerobot_side.policy_config gives LeRobot's normaliser."""
    return Normalization(np.full(task.state_size, -1.0), np.full(task.state_size, 1.0))


def sac_config(config: SACAlgorithmConfig, batch: int, action_size: int) -> SacConfig:
    """LeRobot's algorithm: nothing of ours that it does not have."""
    return SacConfig(
        batch_size=batch,
        utd_ratio=config.utd_ratio,
        discount=config.discount,
        num_critics=config.num_critics,
        num_subsample_critics=config.num_subsample_critics or 0,
        critic_target_update_weight=config.critic_target_update_weight,
        critic_lr=config.critic_lr,
        actor_lr=config.actor_lr,
        temperature_lr=config.temperature_lr,
        temperature_init=config.temperature_init,
        target_entropy=-action_size / 2 if config.target_entropy is None else config.target_entropy,
        use_backup_entropy=config.use_backup_entropy,
        clamp_target=False,
        normalize_q=False,
        actor_q_delay=0,
        bc_weight=0.0,
        grad_clip_norm=config.grad_clip_norm,
    )


def learner(theirs: lerobot_side.Learner, task: TaskSpec, batch: int, pixels: bool, dropout: float = 0.1) -> Sac:
    """Our SAC with the networks, weights and settings of LeRobot's."""
    policy = Policy(policy_spec(theirs.policy.config, theirs.algorithm.config, dropout), task).train()
    take_weights(policy, theirs.policy)
    sac = Sac(policy, sac_config(theirs.algorithm.config, batch, task.action_size), pixels=pixels)
    sac.critics.stacked.load_state_dict(sac.critics.stack(theirs.algorithm.critic_ensemble.state_dict()))
    sac.target_critics.stacked.load_state_dict(sac.target_critics.stack(theirs.algorithm.critic_target.state_dict()))
    return sac


def feature_replay(policy: Policy, recorded: list[Step], variants: int = 4, max_shift: int = 4) -> Replay:
    """Features of the frozen encoder for each frame, plain and shifted by up to `max_shift` pixels."""
    task = policy.task
    replay = Replay(
        task,
        normalization(task),
        capacity=len(recorded),
        demonstration_capacity=1,
        feature_shape=policy.encoder_critic.feature_shape,
        variants=variants,
    )
    encode = FrameEncoder(policy.encoder_critic.image_encoder)
    rng = np.random.default_rng(0)
    for step in recorded:
        replay.add(step, frame_features(encode, step, task, rng, variants, max_shift))
    return replay


def frame_features(
    encode: FrameEncoder, step: Step, task: TaskSpec, rng: np.random.Generator, variants: int = 4, max_shift: int = 4
) -> np.ndarray:
    """(variants, cameras, C, H, W) float16, the plain frame first."""
    images = np.stack([step.images[camera] for camera in task.cameras])
    shifts = rng.integers(-max_shift, max_shift + 1, (variants, 2))
    shifts[0] = 0
    frames = np.concatenate([shifted(images, int(down), int(right)) for down, right in shifts])
    features = encode(frames)
    return features.half().numpy().reshape(variants, len(task.cameras), *features.shape[1:])


def take_weights(policy: Policy, theirs: GaussianActorPolicy) -> None:
    """Copy LeRobot's weights. Raises RuntimeError when the networks are not the same."""
    tensors = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("encoder_actor.")}
    policy.load_state_dict(tensors, strict=True)


def action_means(policy: Policy, observations: int, seed: int = 0) -> torch.Tensor:
    """tanh of the mean for random features and states, (observations, A)."""
    generator = torch.Generator().manual_seed(seed)
    task = policy.task
    shape = (observations, len(task.cameras), 3, task.image_size, task.image_size)
    images = torch.randn(shape, generator=generator)
    states = torch.rand((observations, task.state_size), generator=generator) * 2 - 1
    with torch.inference_mode():
        features = policy.actor.encoder.image_encoder(images.flatten(0, 1)).unflatten(0, shape[:2])
        mean, _ = policy.actor(features, states)
    return mean.tanh()
