# SPDX-License-Identifier: Apache-2.0
"""The `pretrained_model` folder of a checkpoint, written for LeRobot and read from LeRobot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hilserl_core.encoder import DEFAULT_ENCODER
from hilserl_core.errors import PolicyError
from hilserl_core.normalization import Normalization
from hilserl_core.policy import Policy, PolicySpec, architecture_differences, lerobot_config
from hilserl_core.task import TaskError, TaskSpec

_PREPROCESSOR = "policy_preprocessor.json"
_TASK, _SPEC = "task.json", "policy_spec.json"


def write_pretrained(
    folder: Path, policy: Policy, normalization: Normalization, averaged: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write what `GaussianActorPolicy.from_pretrained` and LeRobot's processor pipelines load, and our specifications.

    averaged: actor tensors by name that replace the policy's own.
    """
    from lerobot.policies.gaussian_actor.processor_gaussian_actor import make_gaussian_actor_pre_post_processors

    folder.mkdir(parents=True)
    config = lerobot_config(policy.spec, policy.task, normalization)
    config.save_pretrained(folder)
    tensors = policy.state_dict() | dict(averaged or {})
    if policy.spec.shared_encoder:  # one encoder, under both names: the averaged one
        for name in [name for name in tensors if name.startswith("actor.encoder.")]:
            tensors[f"encoder_critic.{name.removeprefix('actor.encoder.')}"] = tensors[name]
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    for pipeline in make_gaussian_actor_pre_post_processors(config, normalization.statistics(policy.task)):
        pipeline.save_pretrained(folder)
    (folder / _TASK).write_text(json.dumps(policy.task.as_dict(), indent=2) + "\n")
    (folder / _SPEC).write_text(json.dumps(policy.spec.as_dict(), indent=2) + "\n")


def read_pretrained(folder: Path, task: TaskSpec) -> tuple[PolicySpec, dict[str, torch.Tensor], Normalization]:
    """Specification, actor tensors by name and normalisation of a `pretrained_model` folder, or of the folder around it.

    Raises PolicyError naming the difference when it was made for another task, and when a file is missing or damaged.
    """
    if (folder / "pretrained_model").is_dir():
        folder = folder / "pretrained_model"
    _check_task(folder, task)
    config = read_json(folder / "config.json")
    if config.get("type") != "gaussian_actor":
        raise PolicyError(f"{folder} holds a policy of type {config.get('type')!r}, expected 'gaussian_actor'")
    _check_features(folder, config, task)
    spec = _spec(config)
    tensors = _read_tensors(folder / "model.safetensors")
    normalization = _read_normalization(folder)
    return spec, _actor_tensors(tensors, spec, folder), normalization


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises PolicyError when there is none."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise PolicyError(f"cannot read {path}: it is not a JSON object")
    return value


def _check_task(folder: Path, task: TaskSpec) -> None:
    if not (folder / _TASK).exists():  # LeRobot's own checkpoints have none
        return
    try:
        differences = task.differences(TaskSpec.from_dict(read_json(folder / _TASK)))
    except (TaskError, TypeError) as error:
        raise PolicyError(f"cannot read {folder / _TASK}: {error}") from error
    if differences:
        raise PolicyError(f"the checkpoint {folder} was made for another task: {'; '.join(differences)}")


def _check_features(folder: Path, config: dict[str, Any], task: TaskSpec) -> None:
    found = {key: list(value["shape"]) for key, value in {**config["input_features"], **config["output_features"]}.items()}
    expected = {key: [3, task.image_size, task.image_size] for key in task.image_keys}
    expected |= {"observation.state": [task.state_size], "action": [task.action_size]}
    if found != expected:
        lines = architecture_differences(json.dumps(expected), json.dumps(found))
        raise PolicyError(f"the checkpoint {folder} was made for other observations: {'; '.join(lines)}")


def _spec(config: dict[str, Any]) -> PolicySpec:
    if config.get("num_discrete_actions") is not None:
        raise PolicyError("the checkpoint has a discrete action head, which this task's continuous action does not use")
    return PolicySpec(
        encoder=config["vision_encoder_name"] or DEFAULT_ENCODER,
        freeze_encoder=config["freeze_vision_encoder"],
        shared_encoder=config["shared_encoder"],
        image_encoder_hidden_dim=config["image_encoder_hidden_dim"],
        spatial_embeddings=config["image_embedding_pooling_dim"],
        latent_dim=config["latent_dim"],
        actor_hidden_dims=tuple(config["actor_network_kwargs"]["hidden_dims"]),
        std_min=config["policy_kwargs"]["std_min"],
        std_max=config["policy_kwargs"]["std_max"],
        init_final=config["policy_kwargs"]["init_final"],
    )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"cannot read {path}: {error}") from error


def _read_normalization(folder: Path) -> Normalization:
    steps = read_json(folder / _PREPROCESSOR).get("steps", [])
    states = [
        step["state_file"] for step in steps if step.get("registry_name") == "normalizer_processor" and "state_file" in step
    ]
    if len(states) != 1:
        raise PolicyError(f"{folder / _PREPROCESSOR} has {len(states)} normalisation steps with data, expected one")
    tensors = _read_tensors(folder / states[0])
    try:
        return Normalization(tensors["observation.state.min"].numpy(), tensors["observation.state.max"].numpy())
    except KeyError as error:
        raise PolicyError(f"{folder / states[0]} lacks the state's range {error}") from error


def _actor_tensors(tensors: dict[str, torch.Tensor], spec: PolicySpec, folder: Path) -> dict[str, torch.Tensor]:
    """The actor's tensors under `actor.`; LeRobot saves the encoder only once, under any of its three names."""
    encoders = ["encoder_critic.", "encoder_actor."] if spec.shared_encoder else ["encoder_actor."]
    found = {
        f"actor.encoder.{name.removeprefix(prefix)}": tensor
        for prefix in encoders
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    found |= {name: tensor for name, tensor in tensors.items() if name.startswith("actor.")}
    if not found:
        raise PolicyError(f"{folder} holds no actor")
    bad = [name for name, tensor in found.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise PolicyError(f"{folder} holds parameters that are not finite: {bad[0]}")
    return found
