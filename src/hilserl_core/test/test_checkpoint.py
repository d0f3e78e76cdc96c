# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: exact resume, LeRobot reads them, damage and other architectures."""

from __future__ import annotations

import importlib.util
import json
import resource
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hilserl_core import checkpoint, training_state
from hilserl_core.actor import Actor
from hilserl_core.checkpoint import load_checkpoint, newest_checkpoint, problem_of, save_checkpoint
from hilserl_core.errors import CheckpointError, PolicyError

_spec = importlib.util.spec_from_file_location("learning_fixtures", Path(__file__).with_name("learning_fixtures.py"))
fixtures = sys.modules.setdefault("learning_fixtures", importlib.util.module_from_spec(_spec))
if not hasattr(fixtures, "TASK"):
    _spec.loader.exec_module(fixtures)
TASK, make_steps, make_trainer, trained, work_off = (
    fixtures.TASK, fixtures.make_steps, fixtures.make_trainer, fixtures.trained, fixtures.work_off,
)  # fmt: skip


def everything(trainer) -> bytes:
    """Networks, averaged actor, optimisers, random state."""
    sac = trainer.sac
    tensors = [*trainer.policy.state_dict().values(), *sac.critics.state_dict().values(), *sac.average.values(), sac.log_alpha]
    tensors += [*sac.target_critics.state_dict().values(), trainer.noise.get_state()]
    for optimizer in sac.optimizers.values():
        tensors += [optimizer.state[p][k] for g in optimizer.param_groups for p in g["params"] for k in optimizer.state[p]]
    state = json.dumps(trainer.draws.bit_generator.state, default=np.ndarray.tolist)
    return b"".join(tensor.detach().numpy().tobytes() for tensor in tensors) + state.encode()


@pytest.mark.parametrize(
    "changes",
    [{}, {"shared_encoder": True}, {"store_features": False, "freeze_encoder": False}],
    ids=["features", "shared", "trainable"],
)
def test_resume_is_exact(tmp_path, changes):
    steps = make_steps(training=6)
    whole = trained(steps, **changes)
    half = trained(steps[:23], **changes)
    save_checkpoint(tmp_path, half)
    resumed = make_trainer(**changes)
    folder, passed_over = newest_checkpoint(tmp_path)
    assert load_checkpoint(folder, resumed) == [] and passed_over == []
    assert resumed.ready and resumed.trained_through == ("run", 23)
    for step in steps[:23]:
        resumed.add(step)
    work_off(resumed)
    assert everything(resumed) == everything(half) and resumed.trained_through == ("run", 23)
    for step in steps[23:]:
        resumed.add(step)
    work_off(resumed)
    assert everything(resumed) == everything(whole)
    assert resumed.status() | {"encoder_loss": 0} == whole.status() | {"encoder_loss": 0}


def test_lerobot_evaluates_our_checkpoint_as_we_do(tmp_path):
    from lerobot.policies.factory import make_pre_post_processors
    from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy

    trainer = trained(make_steps())
    folder = save_checkpoint(tmp_path, trainer) / "pretrained_model"
    policy = GaussianActorPolicy.from_pretrained(folder)
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(folder))
    actor = Actor.from_pretrained(folder, TASK)
    for step in make_steps()[:4]:
        image = torch.from_numpy(step.images["wrist"]).permute(2, 0, 1).float() / 255
        batch = before({"observation.state": torch.from_numpy(step.state), "observation.images.wrist": image})
        with torch.no_grad():
            mean = policy.forward({key: batch[key] for key in policy.config.input_features})["action_mean"]
        action = after(mean.tanh())[0].numpy()
        np.testing.assert_allclose(actor.act(fixtures.observe(step)), action, atol=1e-5)
        live = Actor(trainer.spec, TASK)
        live.load_frozen(trainer.frozen())
        live.load_parameters(trainer.parameters(half=False))
        np.testing.assert_allclose(live.act(fixtures.observe(step)), action, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_lerobots_algorithm_and_optimisers_load_from_our_checkpoint(tmp_path, shared):
    from lerobot.common.train_utils import load_training_state
    from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy
    from lerobot.rl.algorithms.sac import SACAlgorithm

    trainer = trained(make_steps(), shared_encoder=shared)
    folder = save_checkpoint(tmp_path, trainer)
    policy = GaussianActorPolicy.from_pretrained(folder / "pretrained_model")
    algorithm = SACAlgorithm.from_pretrained(folder / "algorithm", policy=policy)
    for name, tensor in trainer.sac.critics.separate().items():
        assert torch.equal(tensor, algorithm.critic_ensemble.state_dict()[name])
    assert algorithm.config.discount == trainer.sac_config.discount and torch.equal(algorithm.log_alpha, trainer.sac.log_alpha)
    optimizers = algorithm.make_optimizers_and_scheduler()
    rng = torch.get_rng_state()
    step, _, _ = load_training_state(folder, optimizers, None)
    assert step == trainer.sac.steps and torch.equal(torch.get_rng_state(), trainer.noise.get_state())
    torch.set_rng_state(rng)
    last = algorithm.critic_ensemble.critics[-1].output_layer.weight
    ours = trainer.sac.optimizers["critic"].state[trainer.sac.critics.stacked["output_layer_weight"]]["exp_avg"][-1]
    assert torch.equal(optimizers["critic"].state[last]["exp_avg"], ours)
    ours = trainer.sac.optimizers["actor"].state[trainer.policy.actor.mean_layer.weight]["exp_avg_sq"]
    assert torch.equal(optimizers["actor"].state[policy.actor.mean_layer.weight]["exp_avg_sq"], ours)


def test_the_layout_is_lerobots_and_holds_no_pickle(tmp_path):
    folder = save_checkpoint(tmp_path / "checkpoints", trained(make_steps()))
    assert folder.name == "000012" and (folder.parent / "last").resolve() == folder
    for name in (
        "pretrained_model/config.json", "pretrained_model/model.safetensors", "pretrained_model/policy_preprocessor.json",
        "pretrained_model/policy_postprocessor.json", "pretrained_model/train_config.json", "algorithm/config.json",
        "algorithm/model.safetensors", "training_state/training_step.json", "training_state/rng_state.safetensors",
        "training_state/actor/optimizer_state.safetensors", "training_state/critic/optimizer_param_groups.json",
    ):  # fmt: skip
        assert (folder / name).is_file(), name
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def truncate(folder: Path) -> None:
    path = folder / "algorithm" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip(folder: Path) -> None:
    path = folder / "training_state" / "policy.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, "algorithm/model.safetensors is damaged"),
        (flip, "training_state/policy.safetensors is damaged"),
        (lambda folder: (folder / "algorithm" / "config.json").unlink(), "algorithm/config.json is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "not written to its end"),
    ],
    ids=["truncated", "flipped", "missing", "unfinished"],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, damage, sentence):
    steps = make_steps()
    older = save_checkpoint(tmp_path, trained(steps[:15]))
    newer = save_checkpoint(tmp_path, trained(steps))
    assert newest_checkpoint(tmp_path)[0] == newer
    damage(newer)
    found, passed_over = newest_checkpoint(tmp_path)
    assert found == older and len(passed_over) == 1 and sentence in passed_over[0]
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(newer, make_trainer())


def test_a_kill_at_any_write_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    """Every call that writes is made to fail once, as if the process died there: nothing may clean up behind it."""
    steps = make_steps()
    first, second = trained(steps[:15]), trained(steps)
    good = save_checkpoint(tmp_path / "run", first)

    class Killed(BaseException):
        pass

    def dying_at(count: int, original):
        calls = iter(range(10**9))

        def call(*args, **kwargs):
            if next(calls) == count:
                raise Killed
            return original(*args, **kwargs)

        return call

    for target, name in ((training_state, "_save"), (checkpoint, "sync"), (Path, "rename"), (Path, "replace")):
        for count in range(100):
            root = tmp_path / f"{name}{count}"
            shutil.copytree(tmp_path / "run", root, symlinks=True)
            with monkeypatch.context() as patch:
                patch.setattr(target, name, dying_at(count, getattr(target, name)))
                try:
                    save_checkpoint(root, second)
                    survived = True
                except Killed:
                    survived = False
            found, passed_over = newest_checkpoint(root)
            assert found is not None and problem_of((root / "last").resolve()) is None and not passed_over
            assert found.name in {good.name, "000012"}
            if survived:
                assert found.name == "000012"
                break
            assert save_checkpoint(root, second).name == "000012"  # and the next attempt works
            assert sorted(path.name for path in root.iterdir()) == [good.name, "000012", "last"]
            shutil.rmtree(root)
        assert survived and count > 0


def test_a_full_disk_is_one_sentence_and_costs_nothing(tmp_path):
    trainer = trained(make_steps()[:15])
    good = save_checkpoint(tmp_path, trainer)
    later = trained(make_steps())
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the real writers meet it, each in its own way
        with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*; the one before it is untouched"):
            save_checkpoint(tmp_path, later)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert newest_checkpoint(tmp_path) == (good, []) and not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"latent_dim": 16}, r"policy.latent_dim: 16 here, 8 there"), ({"num_critics": 2}, r"sac.num_critics: 2 here, 3 there")],
)
def test_another_architecture_is_refused_with_the_difference(tmp_path, changes, sentence):
    folder = save_checkpoint(tmp_path, trained(make_steps()))
    with pytest.raises(PolicyError, match=sentence):
        load_checkpoint(folder, make_trainer(**changes))


def test_settings_changed_since_are_reported(tmp_path):
    folder = save_checkpoint(tmp_path, trained(make_steps()))
    assert load_checkpoint(folder, make_trainer(discount=0.5)) == [
        "sac.discount is 0.5 now, the checkpoint was trained with 0.96"
    ]


def test_the_newest_and_the_first_are_kept(tmp_path):
    trainer = trained(make_steps(training=0))
    for step in make_steps(training=6)[10:]:
        trainer.add(step)
        if trainer.training_steps < 8:
            work_off(trainer)
            save_checkpoint(tmp_path, trainer, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000007", "000008", "last"]


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path / "nothing") == (None, [])
