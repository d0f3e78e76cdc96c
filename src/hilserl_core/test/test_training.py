# SPDX-License-Identifier: Apache-2.0
"""The trainer: phases, updates owed, repeatability."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hilserl_core.actor import Actor
from hilserl_core.errors import PolicyError, TrainingError
from hilserl_core.parameters import import_frozen
from hilserl_core.policy import Policy
from hilserl_core.step import Mode, StepError
from hilserl_core.training import Phase, Trainer

_spec = importlib.util.spec_from_file_location("learning_fixtures", Path(__file__).with_name("learning_fixtures.py"))
fixtures = sys.modules.setdefault("learning_fixtures", importlib.util.module_from_spec(_spec))
if not hasattr(fixtures, "TASK"):
    _spec.loader.exec_module(fixtures)
TASK, make_steps, make_trainer, trained, work_off = (
    fixtures.TASK, fixtures.make_steps, fixtures.make_trainer, fixtures.trained, fixtures.work_off,
)  # fmt: skip


def parameters(trainer: Trainer) -> bytes:
    """Everything that is trained."""
    tensors = [*trainer.policy.state_dict().values(), *trainer.sac.critics.state_dict().values(), *trainer.sac.average.values()]
    return b"".join(tensor.numpy().tobytes() for tensor in tensors)


def test_phases_follow_one_another_and_a_policy_comes_at_the_end_of_warming_up():
    trainer, seen = make_trainer(), []
    steps = make_steps()
    for step in steps[:5]:
        trainer.add(step)
    work_off(trainer)
    assert trainer.phase is Phase.COLLECTING and trainer.progress == 0.5 and not trainer.ready
    for step in steps[5:10]:
        trainer.add(step)
    while trainer.busy:
        trainer.work()
        if trainer.phase not in seen:
            seen.append(trainer.phase)
            assert trainer.ready == (trainer.phase is Phase.TRAINING)
    assert seen[-3:] == [Phase.PRETRAINING, Phase.WARMING_UP, Phase.TRAINING]
    assert trainer.status()["optimization_steps"] == 0 and trainer.replay.size == 8


def test_a_failed_demonstration_does_not_count():
    trainer = make_trainer()
    for step in make_steps():
        if step.mode == Mode.DEMONSTRATION:
            trainer.add(dataclasses.replace(step, success=step.success and step.episode == 0))
    work_off(trainer)
    assert trainer.phase is Phase.COLLECTING and trainer.demonstrations == 1


def test_pretraining_waits_for_and_imitates_demonstrations_that_succeeded_only():
    """A failed one in between changes neither the normalisation nor the image encoder that are made of the others."""
    good = make_steps(training=0)
    failed = [
        dataclasses.replace(
            step, sequence=step.sequence + 100, episode=9, success=False, is_terminal=False, state=step.state + 100,
            action=None if step.action is None else -step.action,
        )
        for step in make_steps(demonstrations=1, training=0, seed=1)
    ]  # fmt: skip
    without, with_failed = trained(good), trained([*good[:5], *failed, *good[5:]])
    assert np.array_equal(with_failed.normalization.state_max, without.normalization.state_max)
    name = "encoder_critic.image_encoder.image_enc_layers.0.weight"
    assert torch.equal(with_failed.policy.state_dict()[name], without.policy.state_dict()[name])
    assert with_failed.replay.demonstration_size == without.replay.demonstration_size == 8
    assert with_failed.replay.online_size == 4  # for the critics


def test_every_received_training_step_owes_utd_updates_exactly():
    trainer = trained(make_steps(training=0), utd_ratio=3)
    counts = []
    for step in make_steps()[10:]:
        trainer.add(step)
        while trainer.busy:
            trainer.work()
        counts.append(trainer.status()["updates"])
    assert counts == [3, 6, 9, 12, 12, 15, 18, 21, 24, 24, 27, 30, 33, 36, 36]
    assert trainer.training_steps == 12 and trainer.trained_through == ("run", 25)


def test_steps_stored_at_once_are_made_up_for_up_to_a_bound():
    trainer = trained(make_steps(training=0))
    for step in make_steps()[10:]:
        trainer.add(step)
    trainer.store_waiting(most_owed=2)
    assert trainer.steps_waiting == 0 and trainer.training_steps == 12 and trainer.sac.steps == 0 and trainer.busy
    assert trainer.trained_through == ("run", 25) and trainer.status()["online_size"] > 0
    work_off(trainer)
    assert trainer.sac.steps == 2 and trainer.status()["updates_given_up"] == 10 * 2


def test_work_stops_after_each_training_step_so_that_it_can_be_published():
    trainer = trained(make_steps(training=0))
    for step in make_steps()[10:]:
        trainer.add(step)
    for expected in range(1, 13):
        trainer.work(budget_s=60.0)
        assert trainer.training_steps == expected


def test_a_result_does_not_depend_on_when_steps_arrive():
    one_by_one, at_once = make_trainer(), make_trainer()
    for step in make_steps():
        at_once.add(step)
        one_by_one.add(step)
        work_off(one_by_one)
    assert parameters(one_by_one) == parameters(work_off(at_once))
    assert parameters(one_by_one) != parameters(trained(make_steps(), seed=6))


def test_the_first_trainer_of_a_process_gives_what_the_second_gives():
    """numba starts its threads late and then changes OpenMP's number for torch: the first sums came out otherwise."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(2)
torch.nn.LayerNorm(64)(torch.randn(4096, 64)).sum().backward()
from learning_fixtures import make_steps, trained
results = [trained(make_steps(training=1)).policy.state_dict() for _ in range(2)]
assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize(
    "changes",
    [
        {"store_features": False},
        {"store_features": False, "freeze_encoder": False, "shared_encoder": True},
        {"shared_encoder": True},
    ],
    ids=["pixels", "trainable", "shared"],
)
def test_other_ways_to_keep_images_train_and_repeat(changes):
    first = trained(make_steps(), **changes)
    assert first.status()["updates"] == 24 and np.isfinite(first.status()["critic_loss"])
    assert parameters(first) == parameters(trained(make_steps(), **changes))


def test_the_image_encoder_learns_from_demonstrations_and_is_then_frozen():
    trainer = make_trainer()
    name = "encoder_critic.image_encoder.image_enc_layers.0.weight"
    before = trainer.policy.state_dict()[name].clone()
    steps = make_steps()
    for step in steps[:10]:
        trainer.add(step)
    after = work_off(trainer).policy.state_dict()[name].clone()
    assert not torch.equal(before, after)
    for step in steps[10:]:
        trainer.add(step)
    assert torch.equal(work_off(trainer).policy.state_dict()[name], after)
    assert torch.equal(trainer.policy.state_dict()[name.replace("encoder_critic", "actor.encoder")], after)


def test_pretraining_lowers_the_imitation_loss():
    trainer = make_trainer(encoder_updates=100, encoder_batch_size=16, encoder_lr=3e-3)
    for step in make_steps(training=0):
        trainer.add(step)
    while trainer.phase is not Phase.PRETRAINING:
        trainer.work()
    losses = []
    while trainer.phase is Phase.PRETRAINING and trainer.progress < 1.0:
        trainer.work()
        losses.append(trainer.status()["encoder_loss"])
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_the_first_policy_imitates_and_what_is_published_is_the_averaged_actor():
    trainer = trained(make_steps(), imitation_updates=300)
    actor = Actor(trainer.spec, TASK)
    actor.load_frozen(trainer.frozen())
    actor.load_parameters(trainer.parameters(half=False))
    step = make_steps()[0]
    own = Policy(trainer.spec, TASK)
    own.load_state_dict(trainer.policy.state_dict())
    tensors, _ = import_frozen(own, trainer.frozen())
    assert tensors
    assert torch.equal(actor.policy.actor.mean_layer.bias, trainer.sac.average["actor.mean_layer.bias"])
    assert not torch.equal(actor.policy.actor.mean_layer.bias, trainer.policy.actor.mean_layer.bias)
    assert np.abs(actor.act(fixtures.observe(step)) - step.action).max() < 0.7


def test_stored_variants_are_the_plain_image_and_shifted_ones():
    trainer = trained(make_steps(training=0), variants=3, max_shift=6)
    frames = trainer.replay._rings[1].frames[:3]
    assert frames.shape[1] == 3
    step = make_steps()[0]
    plain = trainer._frame_encoder(np.stack([step.images["wrist"]])).half().numpy()
    np.testing.assert_allclose(frames[0, 0], plain, rtol=2e-3, atol=1e-3)
    assert not np.array_equal(frames[0, 0], frames[0, 1]) and not np.array_equal(frames[0, 1], frames[0, 2])


def test_training_without_demonstrations_starts_at_once():
    trainer = make_trainer(demonstrations=0)
    assert trainer.ready
    for step in make_steps(demonstrations=0):
        trainer.add(step)
    assert work_off(trainer).status()["updates"] == 24 - 2  # the first step completes no transition yet


def test_a_step_that_does_not_fit_is_refused_and_nothing_else_is_lost():
    trainer, steps = make_trainer(), make_steps()
    trainer.add(steps[0])
    with pytest.raises(StepError, match="not finite"):
        trainer.add(dataclasses.replace(steps[1], state=np.full(TASK.state_size, np.nan, np.float32)))
    trainer.add(steps[1])
    assert trainer.steps_waiting == 2


def test_settings_that_contradict_each_other_are_named():
    with pytest.raises(TrainingError, match=r"training.store_features needs policy.freeze_encoder"):
        make_trainer(freeze_encoder=False)
    with pytest.raises(TrainingError, match=r"training.threads is 0, allowed: 1 to 256"):
        make_trainer(threads=0)
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match=r"training.device is 'cuda'"):
            make_trainer(device="cuda")


def test_a_diverged_policy_is_not_published():
    trainer = trained(make_steps())
    trainer.sac.average["actor.mean_layer.bias"][0] = float("nan")
    with pytest.raises(PolicyError, match="not finite"):
        trainer.parameters()
