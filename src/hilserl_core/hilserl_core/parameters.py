# SPDX-License-Identifier: Apache-2.0
"""Policy parameters as bytes and back: safetensors, checked for names, shapes, types and values before use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from hilserl_core.errors import PolicyError
from hilserl_core.normalization import Normalization
from hilserl_core.policy import Policy

FP16, FP32 = "safetensors/fp16", "safetensors/fp32"
_HALF_MAX = torch.finfo(torch.float16).max


def export_parameters(policy: Policy, half: bool = True, tensors: Mapping[str, torch.Tensor] | None = None) -> bytes:
    """The actor's trained tensors and nothing else; `tensors` replaces the policy's own, for an averaged actor.

    Raises PolicyError when a value is not finite or does not fit half precision.
    """
    own = policy.actor_tensors(frozen=False)
    chosen = {name: (tensors or own)[name] for name in own}
    _check_finite(chosen, "the actor's parameters")
    if half:
        for name, tensor in chosen.items():
            if tensor.numel() and tensor.abs().max() > _HALF_MAX:
                raise PolicyError(f"the actor's parameter {name} does not fit half precision, use full precision")
    return _save({name: tensor.half() if half and tensor.is_floating_point() else tensor for name, tensor in chosen.items()})


def import_parameters(policy: Policy, data: bytes) -> dict[str, torch.Tensor]:
    """Tensors for `policy` from `export_parameters`, as float32.

    Raises PolicyError, and changes nothing, unless names, shapes, types and values fit.
    """
    return check_tensors(_load(data), policy.actor_tensors(frozen=False), "policy parameters")


def export_frozen(policy: Policy, normalization: Normalization) -> bytes:
    """What stays as it is during a run: the normalisation and, when frozen, the image encoder. Always full precision."""
    return _save(policy.actor_tensors(frozen=True) | _normalization_tensors(normalization))


def import_frozen(policy: Policy, data: bytes) -> tuple[dict[str, torch.Tensor], Normalization]:
    """Tensors for `policy` and the normalisation from `export_frozen`.

    Raises PolicyError, and changes nothing, unless names, shapes, types and values fit.
    """
    size = policy.task.state_size
    expected = policy.actor_tensors(frozen=True) | {f"normalization.{name}": torch.zeros(size) for name in ("min", "max")}
    tensors = check_tensors(_load(data), expected, "frozen policy parameters")
    low, high = (tensors.pop(f"normalization.{name}").numpy() for name in ("min", "max"))
    return tensors, Normalization(low, high)


def assign(policy: Policy, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy imported tensors into the policy's actor."""
    own = dict(policy.actor.named_parameters()) | dict(policy.actor.named_buffers())
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name.removeprefix("actor.")].copy_(tensor)


def check_tensors(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], what: str
) -> dict[str, torch.Tensor]:
    """The tensors in the types of `expected`, fp16 allowed for fp32.

    Raises PolicyError unless names, shapes and types fit and all values are finite; `what` names them in the message.
    """
    if set(tensors) != set(expected):
        missing, unknown = sorted(set(expected) - set(tensors))[:3], sorted(set(tensors) - set(expected))[:3]
        raise PolicyError(f"{what} do not fit this network: {missing or 'none'} missing, {unknown or 'none'} unknown")
    for name, tensor in tensors.items():
        like = expected[name]
        if tensor.shape != like.shape:
            raise PolicyError(f"{what}: {name} has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}")
        floating = tensor.dtype in (torch.float16, torch.float32)
        if floating != like.is_floating_point() or (not floating and tensor.dtype != like.dtype):
            raise PolicyError(f"{what}: {name} has type {tensor.dtype}, expected {like.dtype}")
    tensors = {name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}
    _check_finite(tensors, what)
    return tensors


def _normalization_tensors(normalization: Normalization) -> dict[str, torch.Tensor]:
    return {
        "normalization.min": torch.from_numpy(np.array(normalization.state_min)),
        "normalization.max": torch.from_numpy(np.array(normalization.state_max)),
    }


def _save(tensors: Mapping[str, torch.Tensor]) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _load(data: bytes) -> dict[str, torch.Tensor]:
    try:
        return load(bytes(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise PolicyError(f"the policy message is not a safetensors file: {error}") from error


def _check_finite(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PolicyError(f"{what} are not finite: {name}")
