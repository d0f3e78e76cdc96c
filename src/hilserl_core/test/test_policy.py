# SPDX-License-Identifier: Apache-2.0
"""The policy: what it accepts, that LeRobot computes the same from it, and how its parameters travel."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from hilserl_core.actor import Actor
from hilserl_core.encoder import FrameEncoder, normalized_images
from hilserl_core.errors import PolicyError
from hilserl_core.normalization import Normalization
from hilserl_core.parameters import export_frozen, export_parameters, import_parameters
from hilserl_core.policy import Policy, PolicySpec, architecture, architecture_differences, architecture_hash
from hilserl_core.pretrained import write_pretrained
from hilserl_core.step import Observation
from hilserl_core.task import TaskSpec

TASK = TaskSpec(image_size=64, camera_sizes=(64, 64), crops=(0, 0, 64, 64))
TWO_CAMERAS = TaskSpec(
    image_size=64,
    cameras=("wrist", "front"),
    camera_sizes=(64, 64, 64, 64),
    crops=(0, 0, 64, 64) * 2,
    rotations_deg=(0, 0),
)


def observation(task: TaskSpec, seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (task.image_size, task.image_size, 3), dtype=np.uint8) for name in task.cameras}
    return Observation(0, rng.normal(size=task.state_size).astype(np.float32), images)


def normalization(task: TaskSpec) -> Normalization:
    states = np.random.default_rng(1).normal(size=(50, task.state_size)).astype(np.float32)
    return Normalization.from_states(states, task)


def ready_actor(spec: PolicySpec, task: TaskSpec, half: bool = False) -> tuple[Policy, Actor]:
    torch.manual_seed(3)
    policy = Policy(spec, task)
    torch.manual_seed(4)
    actor = Actor(spec, task)
    actor.load_frozen(export_frozen(policy, normalization(task)))
    actor.load_parameters(export_parameters(policy, half=half))
    return policy, actor


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import ResNetConfig, ResNetModel

    folder = tmp_path_factory.mktemp("resnet")
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    torch.manual_seed(0)
    model = ResNetModel(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    model.save_pretrained(folder)
    return str(folder)


def lerobot_action(folder, observation: Observation, task: TaskSpec) -> np.ndarray:
    """What LeRobot computes from the files alone: its preprocessor, its policy, tanh of the mean."""
    from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy
    from lerobot.processor import PolicyProcessorPipeline

    policy = GaussianActorPolicy.from_pretrained(folder)
    preprocessor = PolicyProcessorPipeline.from_pretrained(folder, config_filename="policy_preprocessor.json")
    batch = {"observation.state": torch.from_numpy(observation.state)}
    for camera in task.cameras:
        batch[f"observation.images.{camera}"] = torch.from_numpy(observation.images[camera]).permute(2, 0, 1).float() / 255
    batch = preprocessor(batch)
    with torch.no_grad():
        mean = policy.forward({key: batch[key] for key in policy.config.input_features})["action_mean"]
    return mean.tanh()[0].numpy()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_lerobot_gives_our_action_from_our_files(tmp_path, shared, frozen):
    spec = PolicySpec(shared_encoder=shared, freeze_encoder=frozen, init_final=0.3)
    policy, actor = ready_actor(spec, TWO_CAMERAS)
    write_pretrained(tmp_path / "pretrained_model", policy, actor.normalization)
    for seed in range(3):
        seen = observation(TWO_CAMERAS, seed)
        theirs = lerobot_action(tmp_path / "pretrained_model", seen, TWO_CAMERAS)
        np.testing.assert_allclose(actor.act(seen), theirs, atol=1e-5)
        assert np.abs(theirs).max() > 0.01
    again = Actor.from_pretrained(tmp_path, TWO_CAMERAS)
    np.testing.assert_array_equal(again.act(seen), actor.act(seen))


def test_a_hub_image_model_serves_as_encoder_and_loads_in_lerobot(tmp_path, resnet_folder):
    spec = PolicySpec(encoder=resnet_folder, init_final=0.3)
    policy, actor = ready_actor(spec, TASK)
    assert not any(parameter.requires_grad for parameter in policy.encoder_critic.image_encoder.parameters())
    write_pretrained(tmp_path / "pretrained_model", policy, actor.normalization)
    seen = observation(TASK)
    np.testing.assert_allclose(actor.act(seen), lerobot_action(tmp_path / "pretrained_model", seen, TASK), atol=1e-5)


def test_an_encoder_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(PolicyError, match=r"cannot load policy.encoder '.*nothing_here'"):
        Policy(PolicySpec(encoder=str(tmp_path / "nothing_here")), TASK)


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "odd", "auto_map": {"AutoConfig": "odd.C", "AutoModel": "odd.M"}})
    )
    (tmp_path / "odd.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(PolicyError, match="cannot load"):
        Policy(PolicySpec(encoder=str(tmp_path)), TASK)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shared", [False, True])
def test_a_lerobot_checkpoint_starts_our_actor(tmp_path, shared):
    from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy
    from lerobot.policies.gaussian_actor.processor_gaussian_actor import make_gaussian_actor_pre_post_processors

    from hilserl_core.policy import lerobot_config

    norm = normalization(TASK)
    config = lerobot_config(PolicySpec(shared_encoder=shared, init_final=0.3), TASK, norm)
    torch.manual_seed(8)
    GaussianActorPolicy(config).save_pretrained(tmp_path)
    for pipeline in make_gaussian_actor_pre_post_processors(config, norm.statistics(TASK)):
        pipeline.save_pretrained(tmp_path)
    actor = Actor.from_pretrained(tmp_path, TASK)
    np.testing.assert_allclose(actor.act(observation(TASK)), lerobot_action(tmp_path, observation(TASK), TASK), atol=1e-5)


def test_a_policy_for_another_task_is_refused_with_the_difference(tmp_path):
    policy, actor = ready_actor(PolicySpec(), TASK)
    write_pretrained(tmp_path / "pretrained_model", policy, actor.normalization)
    other = TaskSpec(image_size=64, camera_sizes=(64, 64), crops=(0, 0, 64, 64), fps=20.0)
    with pytest.raises(PolicyError, match=r"task.fps: 20.0 here, 10.0 there"):
        Actor.from_pretrained(tmp_path, other)
    (tmp_path / "pretrained_model" / "task.json").unlink()
    with pytest.raises(PolicyError, match=r"observation.images.front"):
        Actor.from_pretrained(tmp_path, TWO_CAMERAS)


def test_the_actor_needs_parameters_and_finite_observations():
    actor = Actor(PolicySpec(), TASK)
    with pytest.raises(PolicyError, match="no policy yet"):
        actor.act(observation(TASK))
    _, actor = ready_actor(PolicySpec(), TASK)
    bad = observation(TASK)
    bad.state[2] = np.nan
    with pytest.raises(PolicyError, match="not finite"):
        actor.act(bad)


def test_evaluation_uses_the_mean_and_sampling_the_given_generator():
    _, actor = ready_actor(PolicySpec(), TASK)
    seen = observation(TASK)
    np.testing.assert_array_equal(actor.act(seen), actor.act(seen))
    first = actor.act(seen, torch.Generator().manual_seed(1))
    torch.rand(5)  # the global generator plays no part
    np.testing.assert_array_equal(first, actor.act(seen, torch.Generator().manual_seed(1)))
    assert np.abs(first - actor.act(seen)).max() > 1e-3
    assert first.dtype == np.float32 and np.abs(first).max() <= 1


def test_parameters_hold_what_the_actor_needs_and_nothing_frozen():
    policy, _ = ready_actor(PolicySpec(), TASK)
    names = set(load(export_parameters(policy)))
    assert "actor.mean_layer.weight" in names
    assert all(name.startswith("actor.") and "image_encoder" not in name for name in names)
    trainable = Policy(PolicySpec(freeze_encoder=False), TASK)
    assert any("image_encoder" in name for name in load(export_parameters(trainable)))
    assert len(export_parameters(policy, half=True)) < 0.6 * len(export_parameters(policy, half=False))


def test_half_precision_changes_actions_little():
    _, full = ready_actor(PolicySpec(init_final=0.3), TASK)
    _, half = ready_actor(PolicySpec(init_final=0.3), TASK, half=True)
    seen = observation(TASK)
    np.testing.assert_allclose(half.act(seen), full.act(seen), atol=2e-3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("actor.mean_layer.bias"), "missing"),
        (lambda t: t.update(other=torch.zeros(1)), "unknown"),
        (lambda t: t.update({"actor.mean_layer.bias": torch.zeros(7)}), r"shape \(7,\), expected \(4,\)"),
        (lambda t: t.update({"actor.mean_layer.bias": torch.zeros(4, dtype=torch.int32)}), "int32"),
        (lambda t: t["actor.mean_layer.bias"].fill_(float("nan")), "not finite"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_and_change_nothing(damage, message):
    policy, actor = ready_actor(PolicySpec(), TASK)
    before = actor.act(observation(TASK))
    tensors = {name: tensor + 1 for name, tensor in load(export_parameters(policy)).items()}
    damage(tensors)
    with pytest.raises(PolicyError, match=message):
        actor.load_parameters(save(tensors))
    np.testing.assert_array_equal(actor.act(observation(TASK)), before)


@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", b"\xff" * 100])
def test_bytes_that_are_not_safetensors_are_refused(data):
    with pytest.raises(PolicyError, match="not a safetensors file"):
        import_parameters(Policy(PolicySpec(), TASK), data)


def test_parameters_that_are_not_finite_do_not_leave():
    policy = Policy(PolicySpec(), TASK)
    with torch.no_grad():
        policy.actor.mean_layer.bias[0] = float("inf")
    with pytest.raises(PolicyError, match="not finite"):
        export_parameters(policy)


def test_architecture_names_the_difference():
    here, there = PolicySpec(), PolicySpec(latent_dim=32)
    assert architecture_hash(here, TASK) == architecture_hash(PolicySpec(dropout=0.1), TASK)
    assert architecture_hash(here, TASK) != architecture_hash(there, TASK)
    assert architecture_differences(architecture(here, TASK), architecture(there, TASK)) == [
        "policy.latent_dim: 64 here, 32 there"
    ]
    assert architecture_differences(architecture(here, TASK), architecture(here, TWO_CAMERAS))
    with pytest.raises(PolicyError):
        architecture_differences(architecture(here, TASK), "{")


def test_a_value_out_of_range_is_named():
    with pytest.raises(PolicyError, match=r"policy.latent_dim is 0, allowed: 1 to 4096"):
        PolicySpec(latent_dim=0)
    with pytest.raises(PolicyError, match="unknown fields"):
        PolicySpec.from_dict({"latent": 3})
    assert PolicySpec.from_dict(json.loads(json.dumps(PolicySpec().as_dict()))) == PolicySpec()


def test_a_state_that_stands_still_does_not_explode():
    states = np.full((20, TASK.state_size), 0.3, np.float32)
    states[0] += 1e-6
    norm = Normalization.from_states(states, TASK)
    moved = norm.apply(torch.from_numpy(states[0] + 0.1))
    assert moved.abs().max() <= 4.01
    with pytest.raises(PolicyError, match="empty at index 0"):
        Normalization(np.zeros(3), np.zeros(3))
    for task in (TASK, TWO_CAMERAS):
        assert Normalization.default(task).state_min.shape == (task.state_size,)


def test_frames_encode_as_lerobot_normalises_them():
    torch.manual_seed(0)
    encoder = Policy(PolicySpec(), TASK).encoder_critic.image_encoder
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = encoder(normalized_images(frames))
    torch.testing.assert_close(FrameEncoder(encoder)(frames), expected, atol=2e-5, rtol=1e-5)
