# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds, in LeRobot's files: policy, algorithm, optimisers, random state, counters; never pickle."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hilserl_core.errors import PolicyError
from hilserl_core.normalization import Normalization
from hilserl_core.policy import Policy, architecture, architecture_differences, lerobot_config
from hilserl_core.pretrained import write_pretrained
from hilserl_core.sac import Sac
from hilserl_core.task import TaskSpec
from hilserl_core.training import Trainer

_TRAINER = "training_state/trainer.json"
_RAW_POLICY = "training_state/policy.safetensors"


def write_state(folder: Path, trainer: Trainer) -> None:
    """Write all files of a checkpoint into a new folder."""
    sac, policy = trainer.sac, trainer.policy
    write_pretrained(folder / "pretrained_model", policy, trainer.normalization, sac.average)
    settings = {
        "policy": policy.spec.as_dict(),
        "sac": dataclasses.asdict(trainer.sac_config),
        "training": dataclasses.asdict(trainer.config),
    }
    _write_json(folder / "pretrained_model" / "train_config.json", settings | {"task": policy.task.as_dict()})
    _write_algorithm(folder / "algorithm", sac, trainer.normalization)
    state = folder / "training_state"
    state.mkdir()
    for name, layout in _layouts(sac).items():
        (state / name).mkdir()
        _write_optimizer(state / name, sac.optimizers[name], layout)
    _save(_random_state(trainer), state / "rng_state.safetensors")
    _write_json(state / "training_step.json", {"step": sac.steps, "interaction_step": trainer.training_steps})
    _save(policy.state_dict(), folder / _RAW_POLICY)
    counters = {
        "architecture": architecture(policy.spec, policy.task),
        "task": policy.task.as_dict(),
        "settings": settings,
        "optimization_steps": sac.steps,
        "steps_taken": trainer.steps_taken,
        "training_steps": trainer.training_steps,
        "trained_through": list(trainer.trained_through),
        "state_min": trainer.normalization.state_min.tolist(),
        "state_max": trainer.normalization.state_max.tolist(),
    }
    _write_json(folder / _TRAINER, counters)


def read_state(folder: Path, trainer: Trainer) -> list[str]:
    """Put a checkpoint into a fresh trainer. Returns a line per setting that differs; see `load_checkpoint`."""
    counters = json.loads((folder / _TRAINER).read_text())
    sac, policy = trainer.sac, trainer.policy
    differences = policy.task.differences(TaskSpec.from_dict(counters["task"]))
    differences += architecture_differences(architecture(policy.spec, policy.task), counters["architecture"])
    critics = counters["settings"]["sac"]["num_critics"]
    if critics != sac.config.num_critics:
        differences.append(f"sac.num_critics: {sac.config.num_critics} here, {critics} there")
    if differences:
        raise PolicyError(f"the checkpoint {folder} is of another task or network: {'; '.join(differences)}")

    policy.load_state_dict(load_file(folder / _RAW_POLICY))
    averaged = load_file(folder / "pretrained_model" / "model.safetensors")
    algorithm = load_file(folder / "algorithm" / "model.safetensors")
    with torch.no_grad():
        for name, tensor in sac.average.items():
            tensor.copy_(averaged[name])
        for prefix, critics in (("critic_ensemble.", sac.critics), ("critic_target.", sac.target_critics)):
            tensors = {name.removeprefix(prefix): t for name, t in algorithm.items() if name.startswith(prefix)}
            for name, tensor in critics.stack(tensors).items():
                critics.stacked[name].copy_(tensor)
        sac.log_alpha.copy_(algorithm["log_alpha"])
    for name, layout in _layouts(sac).items():
        _read_optimizer(folder / "training_state" / name, sac.optimizers[name], layout)
    _restore_random_state(trainer, load_file(folder / "training_state" / "rng_state.safetensors"))
    sac.steps = counters["optimization_steps"]
    low, high = (np.array(counters[name], np.float32) for name in ("state_min", "state_max"))
    run, sequence = counters["trained_through"]
    trainer.resume(Normalization(low, high), counters["steps_taken"], (run, sequence))
    return _changed(counters["settings"], trainer)


def _changed(then: dict[str, Any], trainer: Trainer) -> list[str]:
    now = {"policy": trainer.spec.as_dict(), "sac": dataclasses.asdict(trainer.sac_config)}
    now["training"] = dataclasses.asdict(trainer.config)
    return [
        f"{part}.{name} is {value} now, the checkpoint was trained with {then[part].get(name)}"
        for part, values in now.items()
        for name, value in values.items()
        if then[part].get(name) != value
    ]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def _write_algorithm(folder: Path, sac: Sac, normalization: Normalization) -> None:
    """What `SACAlgorithm.from_pretrained` loads."""
    from lerobot.policies.gaussian_actor.configuration_gaussian_actor import CriticNetworkConfig
    from lerobot.rl.algorithms.sac import SACAlgorithmConfig

    config, policy = sac.config, sac.policy
    folder.mkdir()
    SACAlgorithmConfig(
        actor_lr=config.actor_lr,
        critic_lr=config.critic_lr,
        temperature_lr=config.temperature_lr,
        discount=config.discount,
        use_backup_entropy=config.use_backup_entropy,
        critic_target_update_weight=config.critic_target_update_weight,
        num_critics=config.num_critics,
        num_subsample_critics=config.num_subsample_critics or None,
        critic_network_kwargs=CriticNetworkConfig(hidden_dims=list(policy.spec.critic_hidden_dims)),
        temperature_init=config.temperature_init,
        target_entropy=config.target_entropy,
        utd_ratio=config.utd_ratio,
        grad_clip_norm=config.grad_clip_norm,
        policy_config=lerobot_config(policy.spec, policy.task, normalization),
    )._save_pretrained(folder)
    tensors = {f"critic_ensemble.{name}": tensor for name, tensor in sac.critics.separate().items()}
    tensors |= {f"critic_target.{name}": tensor for name, tensor in sac.target_critics.separate().items()}
    _save(tensors | {"log_alpha": sac.log_alpha}, folder / "model.safetensors")


# Optimisers: LeRobot numbers parameters as its modules list them, with every critic by itself ---------------------------


class _Plain:
    """Parameters that stand alone in LeRobot too."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.size = len(parameters)

    def numbered(self, values: dict[nn.Parameter, Tensor]) -> dict[int, Tensor]:
        return {index: values[p] for index, p in enumerate(self.parameters) if p in values}

    def gathered(self, values: dict[int, Tensor]) -> dict[nn.Parameter, Tensor]:
        return {p: values[index] for index, p in enumerate(self.parameters) if index in values}


class _Critics(_Plain):
    """The critics' encoder, then every head's parameters one after the other, which are stacked here."""

    def __init__(self, policy: Policy, sac: Sac) -> None:
        super().__init__(list(policy.encoder_critic.parameters()))
        self._ensemble, self._offset = sac.critics, self.size
        self._names = list(sac.critics.separate())
        self.size += len(self._names)

    def numbered(self, values: dict[nn.Parameter, Tensor]) -> dict[int, Tensor]:
        numbered = super().numbered(values)
        stacked = {name: values[p] for name, p in self._ensemble.stacked.items() if p in values}
        if not stacked:
            return numbered
        separate = self._ensemble.separate({name: _per_head(t, self._ensemble.critics) for name, t in stacked.items()})
        return numbered | {self._offset + index: separate[name] for index, name in enumerate(self._names)}

    def gathered(self, values: dict[int, Tensor]) -> dict[nn.Parameter, Tensor]:
        heads = {name: values[self._offset + index] for index, name in enumerate(self._names) if self._offset + index in values}
        gathered = super().gathered({index: value for index, value in values.items() if index < self._offset})
        if heads:
            stacked = self._ensemble.stack(heads)
            gathered |= {p: stacked[name] for name, p in self._ensemble.stacked.items()}
        return gathered


def _per_head(value: Tensor, heads: int) -> Tensor:
    return value.expand(heads) if value.dim() == 0 else value  # the step count is one number for all of them


def _layouts(sac: Sac) -> dict[str, _Plain]:
    shared = sac.policy.spec.shared_encoder
    named = sac.policy.actor.named_parameters()
    actor = [parameter for name, parameter in named if not (shared and name.startswith("encoder"))]
    return {"actor": _Plain(actor), "critic": _Critics(sac.policy, sac), "temperature": _Plain([sac.log_alpha])}


def _write_optimizer(folder: Path, optimizer: torch.optim.Optimizer, layout: _Plain) -> None:
    tensors = {}
    for kind in ("step", "exp_avg", "exp_avg_sq"):
        values = {parameter: state[kind] for parameter, state in optimizer.state.items()}
        tensors |= {f"state/{index}/{kind}": value for index, value in layout.numbered(values).items()}
    _save(tensors, folder / "optimizer_state.safetensors")
    group = dict(optimizer.state_dict()["param_groups"][0])
    _write_json(folder / "optimizer_param_groups.json", [group | {"fused": None, "params": list(range(layout.size))}])


def _read_optimizer(folder: Path, optimizer: torch.optim.Optimizer, layout: _Plain) -> None:
    tensors = load_file(folder / "optimizer_state.safetensors")
    optimizer.state.clear()
    for kind in ("step", "exp_avg", "exp_avg_sq"):
        values = {int(name.split("/")[1]): tensor for name, tensor in tensors.items() if name.endswith(f"/{kind}")}
        for parameter, value in layout.gathered(values).items():
            value = value.flatten()[0].clone() if kind == "step" else value.to(parameter.device)
            optimizer.state[parameter][kind] = value


# Random state, in LeRobot's file for Python's, numpy's and torch's generators ----------------------------------------


def _random_state(trainer: Trainer) -> dict[str, Tensor]:
    words = trainer.draws.bit_generator.state["state"]
    version, state, _ = random.Random(trainer.config.seed).getstate()
    return {
        "py_rng_version": torch.tensor([version]),
        "py_rng_state": torch.tensor(state, dtype=torch.int64),
        "np_rng_state_values": torch.from_numpy(words["key"].astype(np.int64)),
        "np_rng_state_index": torch.tensor([words["pos"]]),
        "np_rng_has_gauss": torch.tensor([0]),
        "np_rng_cached_gaussian": torch.tensor([0.0]),
        "torch_rng_state": trainer.noise.get_state(),
    }


def _restore_random_state(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    key = tensors["np_rng_state_values"].numpy().astype(np.uint32)
    trainer.draws.bit_generator.state = {
        "bit_generator": "MT19937",
        "state": {"key": key, "pos": int(tensors["np_rng_state_index"])},
    }
    trainer.noise.set_state(tensors["torch_rng_state"])
