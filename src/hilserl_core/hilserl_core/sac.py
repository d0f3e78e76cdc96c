# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic with a critic ensemble and a behaviour-cloning term, top to bottom in the paper's words.

Haarnoja et al. 2018 (SAC), Chen et al. 2021 (REDQ: the ensemble and its random subset), as LeRobot's `SACAlgorithm` has it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hilserl_core.encoder import image_features
from hilserl_core.errors import TrainingError
from hilserl_core.fields import described, tidy
from hilserl_core.networks import CriticEnsemble, sample_action
from hilserl_core.policy import Policy
from hilserl_core.replay import Batch
from hilserl_core.task import TaskSpec

_SMALLEST_Q = 1e-3  # of the mean magnitude that the actor's Q term is divided by


@dataclass(frozen=True)
class SacConfig:
    """The update rule. Each field is the ROS parameter `sac.<field>`; LeRobot's names where it has the same thing."""

    batch_size: int = described(128, "Transitions per update.", minimum=1, maximum=65536)
    utd_ratio: int = described(2, "Critic updates per training step (and one of the actor).", minimum=1, maximum=100)
    discount: float = described(0.96, "Discount of the next step's value.", minimum=0.0, maximum=0.9999)
    num_critics: int = described(4, "Critics in the ensemble.", minimum=1, maximum=64)
    num_subsample_critics: int = described(2, "Random critics whose minimum is the target; 0 for all.", minimum=0, maximum=64)
    critic_target_update_weight: float = described(0.01, "How far the target critics move each time.", minimum=0.0, maximum=1.0)
    critic_lr: float = described(3e-4, "Learning rate of the critics.", minimum=0.0, maximum=1.0)
    actor_lr: float = described(3e-4, "Learning rate of the actor.", minimum=0.0, maximum=1.0)
    temperature_lr: float = described(3e-4, "Learning rate of the temperature.", minimum=0.0, maximum=1.0)
    temperature_init: float = described(0.001, "Temperature at the start.", minimum=1e-8, maximum=100.0)
    target_entropy: float = described(-4.0, "Entropy the temperature aims at.", minimum=-1000.0, maximum=1000.0)
    use_backup_entropy: bool = described(False, "Count the entropy of the next action as reward.")
    clamp_target: bool = described(True, "Keep targets within the returns that the task's reward allows.")
    normalize_q: bool = described(True, "Divide the actor's Q term by its mean magnitude.")
    actor_q_delay: int = described(500, "Training steps before the actor follows the critics.", minimum=0, maximum=10**9)
    bc_weight: float = described(
        20.0, "Weight of imitating what a person did in episodes that succeeded, in the actor's loss.", minimum=0.0, maximum=1e6
    )
    bc_half_life: float = described(1250.0, "Training steps in which that weight halves.", minimum=1.0, maximum=1e12)
    bc_halvings: float = described(4.0, "How often it halves; then it stays as it is.", minimum=0.0, maximum=1e6)
    actor_average_weight: float = described(
        0.005, "How far the averaged actor, which is published, moves per step; 1 for none.", minimum=1e-6, maximum=1.0
    )
    grad_clip_norm: float = described(40.0, "Largest norm of a gradient.", minimum=1e-6, maximum=1e12)

    def __post_init__(self) -> None:
        tidy(self, "sac", TrainingError)
        if self.num_subsample_critics > self.num_critics:
            raise TrainingError(
                f"sac.num_subsample_critics is {self.num_subsample_critics}, allowed: up to sac.num_critics, {self.num_critics}"
            )


def return_bounds(task: TaskSpec, discount: float) -> tuple[float, float]:
    """Smallest and largest return that the task's reward allows: success once, or in every further step."""
    return 0.0, task.success_reward if task.terminate_on_success else task.success_reward / (1 - discount)


@dataclass(frozen=True)
class Views:
    """Image features of a batch, each (B, cameras, C, H, W), for the critics' and for the actor's encoder."""

    for_critic: Tensor
    for_actor: Tensor | None  # None until the critics' update, where that changes it
    next_for_critic: Tensor
    next_for_actor: Tensor


class Sac:
    """Critics, target critics, temperature and optimisers around a policy."""

    def __init__(self, policy: Policy, config: SacConfig, pixels: bool, device: str = "cpu") -> None:
        """pixels: batches hold images; otherwise stored features of the frozen image encoder. Moves the policy to `device`.

        Raises TrainingError for stored features of an encoder that is being trained.
        """
        if not pixels and not policy.spec.freeze_encoder:
            raise TrainingError("stored features need policy.freeze_encoder: a trained image encoder would leave them behind")
        self.policy, self.config, self.pixels, self.device = policy.to(device), config, pixels, torch.device(device)
        task = policy.task
        encoding = policy.encoder_critic.output_size
        dims = policy.spec.critic_hidden_dims
        self.critics = CriticEnsemble(config.num_critics, encoding + task.action_size, dims).to(device)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor([math.log(config.temperature_init)], device=device))
        self.bounds = return_bounds(task, config.discount) if config.clamp_target else None
        self.steps = 0

        shared = {id(parameter) for parameter in policy.encoder_critic.parameters()} if policy.spec.shared_encoder else set()
        self.actor_parameters = [p for p in policy.actor.parameters() if p.requires_grad and id(p) not in shared]
        self.critic_parameters = [p for p in policy.encoder_critic.parameters() if p.requires_grad]
        self.critic_parameters += list(self.critics.parameters())
        self.optimizers = {
            "actor": torch.optim.Adam(self.actor_parameters, lr=config.actor_lr, fused=True),
            "critic": torch.optim.Adam(self.critic_parameters, lr=config.critic_lr, fused=True),
            "temperature": torch.optim.Adam([self.log_alpha], lr=config.temperature_lr, fused=True),
        }
        self.average = {name: tensor.clone() for name, tensor in policy.actor_tensors(frozen=False).items()}

    @property
    def alpha(self) -> Tensor:
        """The temperature, (1,), without gradient."""
        return self.log_alpha.detach().exp()

    @property
    def bc_weight(self) -> float:
        """Weight of the behaviour-cloning term now."""
        return self.config.bc_weight * 0.5 ** min(self.steps / self.config.bc_half_life, self.config.bc_halvings)

    # One training step ------------------------------------------------------------------------------------------------

    def update(self, batches: Iterable[Batch], generator: torch.Generator) -> dict[str, Tensor]:
        """One training step: a critic update per batch, then one of the actor and the temperature on the last batch.

        Returns losses and other measures as tensors, so that nothing waits for them.
        """
        for batch in batches:
            batch = batch.to(self.device)
            views = self._views(batch)
            measures = self.update_critics(batch, views, generator)
        measures |= self.update_actor(batch, views, generator)
        self.steps += 1
        return measures

    def update_critics(self, batch: Batch, views: Views, generator: torch.Generator) -> dict[str, Tensor]:
        """One gradient step of the critics, and the target critics' step after it."""
        loss, values = self.critic_loss(batch, views, self._noise(batch, generator), self._subset(generator))
        self._step("critic", loss, self.critic_parameters)
        weight = self.config.critic_target_update_weight
        torch._foreach_lerp_(list(self.target_critics.parameters()), list(self.critics.parameters()), weight)
        return {"critic_loss": loss.detach(), "q": values.mean()}

    def update_actor(self, batch: Batch, views: Views, generator: torch.Generator) -> dict[str, Tensor]:
        """One gradient step of the actor, of the temperature, and the averaged actor's step after it."""
        views = self._views_after_critics(batch, views)
        loss, measures = self.actor_loss(batch, views, self._noise(batch, generator))
        self._step("actor", loss, self.actor_parameters)
        views = self._views_after_actor(batch, views)
        temperature_loss = self.temperature_loss(batch, views, self._noise(batch, generator))
        self._step("temperature", temperature_loss, [self.log_alpha])
        self.move_average(self.config.actor_average_weight)
        return measures | {
            "actor_loss": loss.detach(),
            "temperature_loss": temperature_loss.detach(),
            "temperature": self.alpha,
        }

    def update_critics_alone(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """One gradient step of the critics outside of a training step: warming up."""
        batch = batch.to(self.device)
        return self.update_critics(batch, self._views(batch), generator)

    def imitate(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of the actor by imitation, before it meets the critics."""
        batch = batch.to(self.device)
        views = self._views_after_critics(batch, self._views(batch))
        mean, _ = self._actor(views.for_actor, batch.state)
        loss = self._imitation(mean, batch)
        self._step("actor", loss, self.actor_parameters)
        return {"bc_loss": loss.detach()}

    def move_average(self, weight: float) -> None:
        """Move the averaged actor towards the actor; weight 1 makes them equal."""
        own = self.policy.actor_tensors(frozen=False)
        names = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in names], [own[name] for name in names], weight)

    # The losses -------------------------------------------------------------------------------------------------------

    def critic_loss(self, batch: Batch, views: Views, noise: Tensor, subset: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared distance of every critic to the target, mean over the batch and summed over critics; and all Q, (N, B)."""
        with torch.no_grad():
            mean, std = self._actor(views.next_for_actor, batch.next_state)
            next_action, next_log_prob = sample_action(mean, std, noise)
            next_encoding = self.policy.encoder_critic(views.next_for_critic, batch.next_state)
            next_value = self.target_critics(next_encoding, next_action, subset).amin(0)
            if self.config.use_backup_entropy:
                next_value = next_value - self.alpha * next_log_prob
            target = batch.reward + (1 - batch.done) * self.config.discount * next_value
            if self.bounds is not None:
                target = target.clamp(*self.bounds)
        values = self.critics(self.policy.encoder_critic(views.for_critic, batch.state), batch.action)
        return (values - target).square().mean(1).sum(), values.detach()

    def actor_loss(self, batch: Batch, views: Views, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Entropy, minus the smallest critic's value, plus imitation."""
        mean, std = self._actor(views.for_actor, batch.state)
        action, log_prob = sample_action(mean, std, noise)
        loss = (self.alpha * log_prob).mean()
        measures = {"entropy": -log_prob.detach().mean(), "std": std.detach().mean()}
        if self.steps >= self.config.actor_q_delay:
            with torch.no_grad():
                encoding = self.policy.encoder_critic(views.for_critic, batch.state)
            value = self.critics(encoding, action, frozen=True).amin(0)
            scale = value.detach().abs().mean().clamp_min(_SMALLEST_Q) if self.config.normalize_q else 1.0
            loss = loss - (value / scale).mean()
        if self.bc_weight > 0:
            imitation = self._imitation(mean, batch)
            loss = loss + self.bc_weight * imitation
            measures["bc_loss"] = imitation.detach()
        return loss, measures

    def temperature_loss(self, batch: Batch, views: Views, noise: Tensor) -> Tensor:
        """Lowers the temperature while the actor's entropy is above the target entropy, raises it otherwise."""
        with torch.no_grad():
            _, log_prob = sample_action(*self._actor(views.for_actor, batch.state), noise)
        return (-self.log_alpha.exp() * (log_prob + self.config.target_entropy)).mean()

    def _imitation(self, mean: Tensor, batch: Batch) -> Tensor:
        """Mean squared distance between the actor's mean action and the person's, over the transitions to imitate."""
        person = batch.by_person.to(mean.dtype)
        distance = (mean.tanh() - batch.action).square().sum(1)
        return (distance * person).sum() / person.sum().clamp_min(1)

    # What the networks see --------------------------------------------------------------------------------------------

    def _views(self, batch: Batch) -> Views:
        """Features for the critics' update. Every image passes every image encoder once."""
        count = len(batch.state)
        critic, actor = self.policy.encoder_critic.image_encoder, self.policy.actor.encoder.image_encoder
        if not self.pixels:
            both = batch.both
        elif self.policy.spec.freeze_encoder:
            both = self._features(critic, batch.both)
        else:
            after = self._features(critic, batch.next_observation)
            after_actor = after if actor is critic else self._features(actor, batch.next_observation)
            return Views(self._features(critic, batch.observation, gradient=True), None, after, after_actor)
        return Views(both[:count], both[:count], both[count:], both[count:])

    def _views_after_critics(self, batch: Batch, views: Views) -> Views:
        """Features for the actor's update: new ones where the critics' update changed an image encoder."""
        if views.for_actor is not None:
            return views
        critic, actor = self.policy.encoder_critic.image_encoder, self.policy.actor.encoder.image_encoder
        for_critic = self._features(critic, batch.observation)
        for_actor = for_critic if actor is critic else self._features(actor, batch.observation, gradient=True)
        return Views(for_critic, for_actor, views.next_for_critic, views.next_for_actor)

    def _views_after_actor(self, batch: Batch, views: Views) -> Views:
        """Features for the temperature's update: new ones where the actor's update changed its own image encoder."""
        actor = self.policy.actor.encoder.image_encoder
        if not self.pixels or self.policy.spec.freeze_encoder or self.policy.spec.shared_encoder:
            return views
        return replace(views, for_actor=self._features(actor, batch.observation))

    @staticmethod
    def _features(image_encoder: nn.Module, images: Tensor, gradient: bool = False) -> Tensor:
        """(B, cameras, 3, H, W) normalised -> (B, cameras, C, H', W')."""
        with torch.set_grad_enabled(gradient):
            features = image_features(image_encoder, images.flatten(0, 1))
        return features.unflatten(0, images.shape[:2])

    def _actor(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy.actor(features, state)

    # Helpers ----------------------------------------------------------------------------------------------------------

    def _noise(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return torch.randn(batch.action.shape, generator=generator).to(self.device)  # drawn on the CPU: the same everywhere

    def _subset(self, generator: torch.Generator) -> Tensor | None:
        count = self.config.num_subsample_critics
        return torch.randperm(self.config.num_critics, generator=generator)[:count].to(self.device) if count else None

    def _step(self, name: str, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        self.optimizers[name].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, self.config.grad_clip_norm, foreach=True)
        self.optimizers[name].step()
