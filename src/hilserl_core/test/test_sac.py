# SPDX-License-Identifier: Apache-2.0
"""SAC: the same losses and parameters as LeRobot's algorithm, and what is added to it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hilserl_core.errors import TrainingError
from hilserl_core.normalization import Normalization
from hilserl_core.policy import Policy, PolicySpec, lerobot_config
from hilserl_core.replay import Batch
from hilserl_core.sac import Sac, SacConfig, return_bounds
from hilserl_core.task import TaskSpec

torch.set_num_threads(1)
TASK = TaskSpec(
    image_size=64, cameras=("wrist", "front"), camera_sizes=(64, 64) * 2, crops=(0, 0, 64, 64) * 2, rotations_deg=(0, 0)
)
PLAIN = SacConfig(
    num_critics=3, num_subsample_critics=0, use_backup_entropy=True, clamp_target=False, normalize_q=False, actor_q_delay=0,
    bc_weight=0.0, temperature_init=0.3, actor_average_weight=1.0, grad_clip_norm=1e6, utd_ratio=2, discount=0.9,
)  # fmt: skip


def make_batch(size: int = 16, seed: int = 0, shape: tuple[int, ...] = (3, 64, 64)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    person = torch.arange(size) >= size // 2
    return Batch(
        both=torch.randn(2 * size, len(TASK.cameras), *shape, generator=generator),
        state=torch.randn(size, TASK.state_size, generator=generator),
        next_state=torch.randn(size, TASK.state_size, generator=generator),
        action=torch.rand(size, TASK.action_size, generator=generator) * 2 - 1,
        reward=torch.rand(size, generator=generator),
        done=(torch.rand(size, generator=generator) > 0.7).float(),
        by_person=person,
    )


class Draws:
    """Normal noise in a fixed order, for both sides."""

    def __init__(self, seed: int = 5) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator)


def lerobot_algorithm(sac: Sac):
    """LeRobot's algorithm with the same networks, dropout off."""
    from lerobot.policies.gaussian_actor.configuration_gaussian_actor import CriticNetworkConfig
    from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy
    from lerobot.rl.algorithms.sac import SACAlgorithm, SACAlgorithmConfig

    config, policy = sac.config, sac.policy
    theirs = GaussianActorPolicy(lerobot_config(policy.spec, TASK, Normalization.default(TASK)))
    tensors = policy.state_dict()
    tensors |= {f"encoder_{name}": tensor for name, tensor in _renamed(tensors).items()}
    theirs.load_state_dict(tensors)
    theirs.eval()
    algorithm = SACAlgorithm(
        theirs,
        SACAlgorithmConfig(
            actor_lr=config.actor_lr, critic_lr=config.critic_lr, temperature_lr=config.temperature_lr,
            discount=config.discount, use_backup_entropy=config.use_backup_entropy,
            critic_target_update_weight=config.critic_target_update_weight, num_critics=config.num_critics,
            num_subsample_critics=config.num_subsample_critics or None, temperature_init=config.temperature_init,
            target_entropy=config.target_entropy, utd_ratio=config.utd_ratio, grad_clip_norm=config.grad_clip_norm,
            critic_network_kwargs=CriticNetworkConfig(hidden_dims=list(policy.spec.critic_hidden_dims)),
            policy_config=theirs.config,
        ),
    )  # fmt: skip
    algorithm.critic_ensemble.load_state_dict(sac.critics.separate(), strict=False)
    algorithm.critic_target.load_state_dict(sac.target_critics.separate(), strict=False)
    algorithm.make_optimizers_and_scheduler()
    return algorithm


def _renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("actor.encoder.", "actor."): t for name, t in tensors.items() if name.startswith("actor.encoder.")}


def lerobot_batch(batch: Batch) -> dict:
    observations = []
    for images, state in ((batch.observation, batch.state), (batch.next_observation, batch.next_state)):
        views = {key: images[:, camera].contiguous() for camera, key in enumerate(TASK.image_keys)}
        observations.append(views | {"observation.state": state})
    state, next_state = observations
    return {
        "state": state, "next_state": next_state, "action": batch.action, "reward": batch.reward, "done": batch.done,
    }  # fmt: skip


def compare(sac: Sac, algorithm) -> None:
    """All trained parameters, ours and LeRobot's. Adam turns a gradient that is nearly 0 into a step of either sign."""
    pairs = [(tensor, algorithm.policy.state_dict()[name]) for name, tensor in sac.policy.state_dict().items()]
    for ours, ensemble in ((sac.critics, algorithm.critic_ensemble), (sac.target_critics, algorithm.critic_target)):
        pairs += [(tensor, ensemble.state_dict()[name]) for name, tensor in ours.separate().items()]
    distance = torch.cat([(mine - theirs).abs().flatten() for mine, theirs in [*pairs, (sac.log_alpha, algorithm.log_alpha)]])
    assert (distance < 1e-5).float().mean() > 0.999 and distance.max() < 2e-3


def same_noise(monkeypatch: pytest.MonkeyPatch, sac: Sac) -> None:
    import torch.distributions.multivariate_normal as normal

    theirs, ours = Draws(), Draws()
    monkeypatch.setattr(normal, "_standard_normal", lambda shape, dtype, device: theirs(shape))
    monkeypatch.setattr(sac, "_noise", lambda batch, generator: ours(batch.action.shape))


@pytest.mark.parametrize(
    ("frozen", "shared", "subset"),
    [(True, False, 0), (True, True, 0), (False, True, 0), (False, False, 0), (True, False, 2)],
)
def test_losses_and_parameters_are_lerobots(monkeypatch, frozen, shared, subset):
    torch.manual_seed(0)
    policy = Policy(PolicySpec(freeze_encoder=frozen, shared_encoder=shared, init_final=0.3), TASK)
    sac = Sac(policy, dataclasses.replace(PLAIN, num_subsample_critics=subset), pixels=True)
    algorithm = lerobot_algorithm(sac)
    same_noise(monkeypatch, sac)
    if subset:
        order = torch.tensor([2, 0, 1])
        monkeypatch.setattr(torch, "randperm", lambda *args, **kwargs: order)
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        batches = [make_batch(seed=2 * step), make_batch(seed=2 * step + 1)]
        ours = sac.update(iter(batches), generator)
        theirs = algorithm.update(iter([lerobot_batch(batch) for batch in batches])).losses
        for name, found in (
            ("loss_critic", ours["critic_loss"]),
            ("loss_actor", ours["actor_loss"]),
            ("loss_temperature", ours["temperature_loss"]),
        ):
            assert found.item() == pytest.approx(theirs[name], abs=1e-4), name
    compare(sac, algorithm)


def test_stored_features_give_the_update_that_pixels_give():
    torch.manual_seed(0)
    policy = Policy(PolicySpec(init_final=0.3), TASK)
    start = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    results = []
    for pixels in (True, False):
        policy.load_state_dict(start)
        torch.manual_seed(1)
        sac = Sac(policy, SacConfig(actor_q_delay=0), pixels=pixels)
        batch = make_batch()
        if not pixels:
            with torch.no_grad():
                features = policy.encoder_critic.image_encoder(batch.both.flatten(0, 1)).unflatten(0, batch.both.shape[:2])
            batch = dataclasses.replace(batch, both=features)
        sac.update([batch, batch], torch.Generator().manual_seed(0))
        results.append({name: tensor.clone() for name, tensor in policy.state_dict().items()})
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], atol=1e-6, rtol=0)
    assert not torch.equal(results[0]["actor.mean_layer.weight"], start["actor.mean_layer.weight"])


def test_stored_features_of_a_trained_encoder_are_refused():
    with pytest.raises(TrainingError, match="freeze_encoder"):
        Sac(Policy(PolicySpec(freeze_encoder=False), TASK), SacConfig(), pixels=False)


def features_sac(**changes) -> tuple[Sac, Batch]:
    torch.manual_seed(0)
    policy = Policy(PolicySpec(), TASK)
    return Sac(policy, SacConfig(**changes), pixels=False), make_batch(64, shape=policy.encoder_critic.feature_shape)


def test_the_target_stays_within_the_returns_that_are_possible():
    sac, batch = features_sac(clamp_target=True, actor_q_delay=0)
    with torch.no_grad():
        for critics in (sac.critics, sac.target_critics):
            critics.stacked["output_layer_bias"].fill_(50.0)
    batch = dataclasses.replace(batch, reward=torch.zeros(64), done=torch.zeros(64))
    views = sac._views(batch)
    loss, values = sac.critic_loss(batch, views, torch.zeros(64, 4), None)
    expected = (values - 1.0).square().mean(1).sum()  # 0.96 * 50 is cut to a return of 1
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert return_bounds(TASK, 0.9) == (0.0, 1.0)
    endless = dataclasses.replace(TASK, terminate_on_success=False, success_reward=2.0)
    assert return_bounds(endless, 0.9) == pytest.approx((0.0, 20.0))


def test_the_actor_imitates_a_person_only_where_one_drove_and_less_and_less():
    sac, batch = features_sac(actor_q_delay=10**6, bc_weight=2.0, bc_half_life=100.0, bc_halvings=1.5, temperature_init=1e-8)
    mean = torch.zeros(64, 4)
    assert sac._imitation(mean, batch).item() == pytest.approx(batch.action[32:].square().sum(1).mean().item(), rel=1e-5)
    nobody = dataclasses.replace(batch, by_person=torch.zeros(64, dtype=torch.bool))
    assert sac._imitation(mean, nobody).item() == 0.0
    first = sac._imitation(sac._actor(sac._views(batch).for_actor, batch.state)[0], batch)
    for _ in range(100):
        measures = sac.update([batch], torch.Generator().manual_seed(0))
    assert measures["bc_loss"] < 0.7 * first
    assert sac.bc_weight == pytest.approx(1.0)
    sac.steps = 150
    assert sac.bc_weight == pytest.approx(2.0 * 0.5**1.5)
    sac.steps = 10**6
    assert sac.bc_weight == pytest.approx(2.0 * 0.5**1.5)


def test_the_actor_meets_the_critics_only_after_the_delay():
    sac, batch = features_sac(actor_q_delay=5, bc_weight=0.0, temperature_init=1e-8)
    before = sac.policy.actor.mean_layer.weight.clone()
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        sac.update([batch], generator)
        moved = (sac.policy.actor.mean_layer.weight - before).abs().max().item()
        assert (moved > 1e-4) == (step >= 5), (step, moved)
        if step < 5:
            before = sac.policy.actor.mean_layer.weight.clone()


def test_the_q_term_does_not_grow_with_the_reward():
    gradients = []
    for scale in (1.0, 100.0):
        sac, batch = features_sac(actor_q_delay=0, bc_weight=0.0, temperature_init=1e-8)
        with torch.no_grad():
            for name in ("output_layer_weight", "output_layer_bias"):
                sac.critics.stacked[name].mul_(scale)
        loss, _ = sac.actor_loss(batch, sac._views(batch), torch.zeros(64, 4))
        loss.backward()
        gradients.append(sac.policy.actor.mean_layer.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def test_targets_use_a_random_pair_of_critics():
    sac, _ = features_sac(num_critics=4, num_subsample_critics=2)
    generator = torch.Generator().manual_seed(0)
    pairs = {tuple(sorted(sac._subset(generator).tolist())) for _ in range(100)}
    assert len(pairs) == 6
    encoding, action = torch.randn(5, sac.policy.encoder_critic.output_size), torch.randn(5, 4)
    torch.testing.assert_close(sac.critics(encoding, action, torch.tensor([3, 1])), sac.critics(encoding, action)[[3, 1]])


def test_the_averaged_actor_follows_slowly():
    sac, batch = features_sac(actor_average_weight=0.1)
    name = "actor.mean_layer.weight"
    before = sac.average[name].clone()
    sac.update([batch], torch.Generator().manual_seed(0))
    now = sac.policy.actor.mean_layer.weight.detach()
    torch.testing.assert_close(sac.average[name], before + 0.1 * (now - before))
    sac.move_average(1.0)
    torch.testing.assert_close(sac.average[name], now)


def test_only_what_should_learn_changes():
    sac, batch = features_sac(actor_q_delay=0)
    before = {name: tensor.clone() for name, tensor in sac.policy.state_dict().items()}
    sac.update([batch, batch], torch.Generator().manual_seed(0))
    for name, tensor in sac.policy.state_dict().items():
        assert torch.equal(tensor, before[name]) == ("image_encoder" in name), name


def test_updates_repeat_with_the_generator():
    results = []
    for seed in (1, 1, 2):
        sac, batch = features_sac(actor_q_delay=0)
        np.random.seed(seed + len(results))  # global generators play no part
        generator = torch.Generator().manual_seed(seed)
        for _ in range(3):
            sac.update([batch, batch], generator)
        results.append(sac.policy.actor.mean_layer.weight.detach().clone())
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_settings_that_contradict_themselves_are_named():
    with pytest.raises(TrainingError, match=r"sac.num_subsample_critics is 5, allowed: up to sac.num_critics, 4"):
        SacConfig(num_subsample_critics=5)
    with pytest.raises(TrainingError, match=r"sac.discount is 1.5, allowed: 0.0 to 0.9999"):
        SacConfig(discount=1.5)
