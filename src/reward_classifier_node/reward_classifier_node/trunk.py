# SPDX-License-Identifier: Apache-2.0
"""The image model under the classifier: a built-in small ResNet or any convolutional one that AutoModel loads."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from reward_classifier_node.errors import ClassifierError
from reward_classifier_node.settings import SMALL_RESNET, ClassifierSettings

FEATURE_SIZE = 4  # LeRobot's spatial embeddings are 4x4, whatever the image


def new_trunk(settings: ClassifierSettings) -> nn.Module:
    """The backbone the settings name; random weights from torch's global generator for the built-in one.

    Raises ClassifierError when it cannot be loaded.
    """
    if settings.backbone != SMALL_RESNET:
        return load_trunk(settings.backbone, settings.trust_remote_code)
    from transformers import ResNetConfig, ResNetModel

    widths = list(settings.trunk_widths)
    config = ResNetConfig(embedding_size=widths[0], hidden_sizes=widths, depths=[1] * len(widths), layer_type="basic")
    return ResNetModel(config)


def load_trunk(name: str | Path, trust_remote_code: bool = False) -> nn.Module:
    """An image model from a folder or from the Hub. Raises ClassifierError when that fails."""
    from transformers import AutoModel

    _show_no_progress()
    local = Path(name).is_dir()
    try:
        trunk = AutoModel.from_pretrained(str(name), trust_remote_code=trust_remote_code, local_files_only=local)
    except Exception as error:  # the Hub's client and foreign model code raise all sorts
        hint = "; set trust_remote_code to run it" if not trust_remote_code and "custom code" in str(error) else ""
        raise ClassifierError(f"cannot load the image model '{name}': {_first_line(error)}{hint}") from error
    return trunk


def feature_channels(trunk: nn.Module, image_size: int) -> int:
    """Channels of the trunk's last feature map.

    Raises ClassifierError unless that is 4x4 for images of this size and the model's configuration says what LeRobot reads.
    """
    with torch.no_grad():
        output = trunk.eval()(torch.zeros(1, 3, image_size, image_size))
    features = getattr(output, "last_hidden_state", None)
    shape = tuple(features.shape[1:]) if features is not None else ()
    if shape[1:] != (FEATURE_SIZE, FEATURE_SIZE):
        raise ClassifierError(
            f"the image model makes features {shape} of images {image_size}x{image_size}, expected (channels, 4, 4): "
            "with stride 32 set task.image_size to 128"
        )
    sizes = getattr(trunk.config, "hidden_sizes", None) or [None]
    if sizes[-1] != shape[0]:
        raise ClassifierError(f"the image model's configuration has hidden_sizes {sizes}, its features {shape[0]} channels")
    return shape[0]


def save_trunk(trunk: nn.Module, folder: Path) -> None:
    """In transformers' own format, code of a Hub model included, so that it loads without the Hub."""
    _show_no_progress()
    trunk.save_pretrained(folder)


def _show_no_progress() -> None:
    """Hide transformers' bars for files on this computer: their lines would tear a display apart."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
